// The half of the Service that loads the model, and then computes what makes the page richer.
#include <algorithm>
#include <filesystem>
#include <future>
#include <optional>

#include "base/clock.h"
#include "base/strings.h"
#include "hub/demo_names.h"
#include "server/service.h"
#include "tandem/zero_shot.h"

namespace tandem::server {
namespace {

using Clock = std::chrono::steady_clock;

// What is computed of the gallery at a time: little enough that a user's request need not wait for long.
constexpr double kPortionSeconds = 0.05, kMostPictures = 16;
constexpr auto kQuiet = std::chrono::milliseconds(200), kLook = std::chrono::milliseconds(20);
constexpr auto kPatience = std::chrono::seconds(5);  // then one picture, so that a busy server has its gallery some day

}  // namespace

void Service::load_all() {
  // One after the other: each measures how long its passes take.
  for (Service* model : models_) {
    if (!*stopping_) model->load();
  }
  for (Service* model : models_) {
    if (!*stopping_ && model->loaded()) model->enrich();
  }
}

void Service::load() {
  try {
    std::shared_ptr<Encoder> encoder = factory_(options_);
    Defaults defaults;
    if (encoder->info().knows_photographs) defaults.templates.emplace_back(kPhotoTemplate);
    if (!encoder->info().knows_photographs && !options_.demo_folder.empty()) {
      hub::DemoNames demo = hub::read_demo_names(options_.demo_folder);
      defaults.labels = std::move(demo.names);
      defaults.signs = std::move(demo.signs);
    }
    find_gallery();
    common_.operation.gpus().use(encoder->info().device);
    {
      const std::lock_guard lock(mutex_);
      info_ = encoder->info();
      encoder_ = std::move(encoder);
      defaults_ = std::move(defaults);
      loaded_ = true;
      if (state_ == State::loading) state_ = State::ready;
    }
    announce(cat("model ", model_name(), " is ready: ", info_.device, ", ", info_.precision,
                 info_.isa.empty() ? "" : ", ", info_.isa, info_.knows_photographs ? "" : " (demo model: emoji)"));
  } catch (const std::exception& error) {
    {
      const std::lock_guard lock(mutex_);
      state_ = State::failed;
      load_error_ = error.what();
      if (const auto* known = dynamic_cast<const Error*>(&error)) load_error_code_ = known->code();
      changed_.notify_all();
    }
    // A server without any model ends, and says why.
    if (first_.models_.size() > 1)
      announce(cat("warning: model ", model_name(), " could not be loaded: ", error.what()));
  }
}

void Service::enrich() {
  // What follows only makes the page richer: a failure is said, and the server goes on without.
  try {
    make_default_labels();
    fill_gallery();
  } catch (const std::exception& error) {
    announce(cat("warning: ", error.what()));
  }
}

void Service::make_default_labels() {
  if (defaults_.labels.empty()) return;
  for (;;) {
    std::promise<LabelResult> done;
    labels_->get(defaults_.labels, defaults_.templates, stopping_,
                 [&done](const LabelResult& result) { done.set_value(result); });
    const LabelResult result = done.get_future().get();
    const auto* error = std::get_if<ItemError>(&result);
    if (!error || *stopping_) return;
    if (error->code != Code::overloaded) throw Error(error->code, cat("default labels: ", error->message));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

void Service::find_gallery() {
  std::filesystem::path folder = options_.gallery;
  if (folder.empty()) {
    if (options_.demo_folder.empty()) return;
    folder = std::filesystem::path(options_.demo_folder) / "gallery";
    if (!std::filesystem::is_directory(folder)) return;
  }
  try {
    auto gallery = std::make_shared<Gallery>(folder, options_.max_gallery);
    if (gallery->left_out() > 0) {
      announce(
          cat("warning: the gallery is cut at ", gallery->size(), " pictures, ", gallery->left_out(), " are left out"));
    }
    const std::lock_guard lock(mutex_);
    gallery_ = std::move(gallery);
  } catch (const Error& error) {
    announce(cat("warning: ", error.what()));
  }
}

bool Service::wait_for_quiet() const {
  const auto is_quiet = [this](Clock::time_point now) {
    return now - common_.last_asked.load() >= kQuiet &&
           std::all_of(first_.models_.begin(), first_.models_.end(), [](auto* model) { return model->queued() == 0; });
  };
  const auto end = Clock::now() + kPatience;
  for (auto now = Clock::now(); !is_quiet(now); now = Clock::now()) {
    if (now >= end || *stopping_) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

void Service::fill_gallery() {
  const std::shared_ptr<Gallery> gallery = this->gallery();
  if (!gallery) return;
  double each = kPortionSeconds;  // seconds a picture
  std::size_t portion = 0;
  for (std::size_t at = 0; at < gallery->size() && !*stopping_; at += portion) {
    const double fitting = std::clamp(kPortionSeconds / each, 1.0, kMostPictures);
    portion = wait_for_quiet() ? static_cast<std::size_t>(fitting) : 1;
    const auto started = Clock::now();
    Request request;
    std::vector<std::size_t> ids;
    for (std::size_t id = at; id < std::min(at + portion, gallery->size()); ++id) {
      try {
        const std::string bytes = gallery->read(id).first;
        const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
        request.images.emplace_back(
            EncodedImage{std::make_shared<const std::vector<std::byte>>(begin, begin + bytes.size())});
        ids.push_back(id);
      } catch (const Error&) {
        gallery->add_failed(id);
      }
    }
    if (ids.empty()) continue;
    const std::optional<Response> response = ask(std::move(request));
    if (!response) return;
    each = seconds_since(started) / static_cast<double>(ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const Embedding& image = response->images.at(i);
      if (image.error) {
        gallery->add_failed(ids[i]);
      } else {
        gallery->add(ids[i], image.values);
      }
    }
  }
  if (!*stopping_) {
    announce(cat("gallery: ", gallery->size() - gallery->failed(), " pictures, ", gallery->failed(), " failed"));
  }
}

std::optional<Response> Service::ask(Request request) {
  request.cancel = stopping_;
  while (!*stopping_) {
    std::promise<std::variant<Response, ItemError>> done;
    try {
      hand_over(request, [&done](std::variant<Response, ItemError> result) { done.set_value(std::move(result)); });
    } catch (const Error& error) {
      if (error.code() != Code::overloaded) throw;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    auto result = done.get_future().get();
    if (auto* response = std::get_if<Response>(&result)) return std::move(*response);
    const ItemError& error = std::get<ItemError>(result);
    if (error.code != Code::overloaded && !*stopping_) throw Error(error.code, error.message);
  }
  return std::nullopt;
}

}  // namespace tandem::server
