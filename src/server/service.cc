#include "server/service.h"

#include <algorithm>
#include <filesystem>
#include <future>
#include <optional>

#include "base/strings.h"
#include "hub/demo_names.h"
#include "tandem/zero_shot.h"

namespace tandem::server {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kLabelBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxWaiting = 4096;  // large requests waiting for a worker: their bytes are limited elsewhere
constexpr int kFailuresOfTheSick = 3;
constexpr std::size_t kQuickItems = 8;  // whose answer is written in less time than a thread wakes up
// No answer and no movement in the queue for so long: the slowest batch known (ViT-bigG on two cores) takes less.
constexpr auto kStall = std::chrono::seconds(300);
constexpr auto kProbe = std::chrono::seconds(2);

/// What speaks against the model's health. A device that failed does not: the engine counts it as lost before anybody
/// is answered, replaces it, and says in its own health how many work.
bool is_engine_failure(Code code) {
  return code == Code::internal;
}

/// The options of one model of a server.
ServerOptions options_of(ServerOptions options, const std::string& model, std::shared_ptr<Observer> observer) {
  options.engine.model = model;
  options.engine.observer = std::move(observer);
  options.context.memory_budget /= 1 + options.more_models.size();
  return options;
}

bool failed_altogether(const std::variant<Response, ItemError>& result, std::string& why) {
  if (const auto* error = std::get_if<ItemError>(&result)) {
    why = error->message;
    return is_engine_failure(error->code);
  }
  const Response& response = std::get<Response>(result);
  bool any = false;
  for (const auto* list : {&response.images, &response.texts}) {
    for (const Embedding& one : *list) {
      if (!one.error || !is_engine_failure(one.error->code)) return false;
      why = one.error->message;
      any = true;
    }
  }
  return any;
}

/// The name that a model was loaded by; of a path its last part.
std::string listed_name(const std::string& name) {
  std::error_code error;
  if (!std::filesystem::is_directory(name, error)) return name;
  const auto path = std::filesystem::absolute(name, error).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

const char* to_string(State state) noexcept {
  switch (state) {
    case State::loading: return "loading";
    case State::ready: return "ready";
    case State::draining: return "draining";
    case State::failed: return "failed";
  }
  return "failed";
}

Common::Common(const ServerOptions& options)
    : operation(options.operation),
      memory(options.max_buffered_bytes),
      bodies(std::make_shared<Bodies>(options.max_buffered_bytes / 8)),
      pool(std::max(1, options.worker_threads), {.max_waiting = kMaxWaiting, .name = "worker"}) {}

Service::Service(const ServerOptions& options, EncoderFactory factory)
    : Service(options, std::move(factory), std::make_unique<Common>(options), nullptr, options.engine.model) {
  if (options.allow_urls) {
    FetchOptions fetch;
    fetch.log = [this](const std::string& line) { announce(line); };
    fetcher_ = std::make_shared<Fetcher>(std::move(fetch));
  }
  for (const std::string& model : options.more_models) {
    others_.emplace_back(new Service(options, factory_, *this, model));  // its constructor is private
    models_.push_back(others_.back().get());
  }
  take_aliases();
}

Service::Service(const ServerOptions& options, EncoderFactory factory, Service& first, std::string model)
    : Service(options, std::move(factory), nullptr, &first, std::move(model)) {}

Service::Service(const ServerOptions& options, EncoderFactory factory, std::unique_ptr<Common> own, Service* first,
                 std::string model)
    : own_(std::move(own)),
      common_(first ? first->common_ : *own_),
      first_(first ? *first : *this),
      counts_(std::make_shared<ModelCounts>(common_.operation.shared_telemetry())),
      options_(options_of(options, model, counts_)),
      factory_(std::move(factory)),
      model_name_(listed_name(model)),
      models_{this} {
  labels_ = std::make_shared<LabelCache>(
      [this](Request request, OnDone on_done) {
        request.cancel = stopping_;
        hand_over(std::move(request), std::move(on_done));
      },
      kLabelBytes);
}

void Service::take_aliases() {
  for (std::size_t i = 0; i < models_.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (!models_[k]->is_called(models_[i]->model_name()) &&
          !models_[k]->is_called(models_[i]->options_.engine.model)) {
        continue;
      }
      throw Error(Code::invalid_argument, cat("two models are called \"", models_[i]->model_name(),
                                              "\": rename the folder of one of them, or serve each once"));
    }
  }
  for (const auto& [name, model] : options_.model_aliases) {
    const auto called = [](std::string_view wanted) {
      return [wanted](const Service* one) { return one->is_called(wanted); };
    };
    if (name.empty()) throw Error(Code::invalid_argument, cat("an alias of model \"", model, "\" is empty"));
    if (std::any_of(models_.begin(), models_.end(), called(name))) {
      throw Error(Code::invalid_argument, cat("the alias \"", name, "\" is the name of a model already"));
    }
    const auto at = std::find_if(models_.begin(), models_.end(), called(model));
    if (at == models_.end()) {
      throw Error(Code::invalid_argument,
                  cat("the alias \"", name, "\" stands for \"", model, "\", which is not served: name it as a model"));
    }
    (*at)->aliases_.push_back(name);
  }
}

bool Service::is_called(std::string_view name) const noexcept {
  return name == model_name_ || name == options_.engine.model ||
         std::find(aliases_.begin(), aliases_.end(), name) != aliases_.end();
}

Service::~Service() {
  stop();
}

void Service::start() {
  for (Service* model : models_) model->last_progress_ = Clock::now();
  loader_ = start_thread("the loader", [this] { load_all(); });
  for (Service* model : models_) model->watcher_ = start_thread("the watcher", [model] { model->watch(); });
}

void Service::announce(const std::string& line) {
  common_.operation.note(line);
  if (options_.announce && !options_.quiet) options_.announce(line);
}

void Service::hand_over(Request request, OnDone on_done, bool quick, Post post) {
  std::shared_ptr<Encoder> encoder;
  std::list<UnderWay>::iterator at;
  {
    const std::lock_guard lock(mutex_);
    if (!encoder_) throw Error(Code::unavailable, "the model is not loaded");
    encoder = encoder_;
    if (under_way_.empty()) last_progress_ = Clock::now();
    at = under_way_.insert(under_way_.end(), UnderWay{request.cancel});
  }
  try {
    // Called on an engine thread, which must not wait: the answer is written on the pool, or where it is sent if it is
    // small. Where nothing was left to compute it is called inside submit(), and any way would cost more than the
    // answer.
    if (!post) post = [this](std::function<void()> work) { common_.pool.post(std::move(work)); };
    const auto inside = quick ? std::make_shared<std::thread::id>(std::this_thread::get_id()) : nullptr;
    encoder->submit(std::move(request), [this, at, inside, post = std::move(post),
                                         on_done = std::move(on_done)](std::variant<Response, ItemError> result) {
      if (inside && *inside == std::this_thread::get_id()) {
        note(result, at);
        const auto keep = on_done;
        return keep(std::move(result));
      }
      std::shared_ptr<std::variant<Response, ItemError>> shared;
      try {
        shared = std::make_shared<std::variant<Response, ItemError>>(std::move(result));
        post([this, at, on_done, shared] {
          // Noted before it is handed on: whoever waits for the answer may end the server next.
          const auto keep = on_done;
          note(*shared, at);
          keep(std::move(*shared));
        });
      } catch (const std::bad_alloc&) {  // no room for it there: here, then, since it must be answered
        if (shared) result = std::move(*shared);
        note(result, at);
        on_done(std::move(result));
      }
    });
  } catch (...) {
    const std::lock_guard lock(mutex_);
    under_way_.erase(at);
    ended_.notify_all();
    throw;
  }
}

void Service::note(const std::variant<Response, ItemError>& result, std::list<UnderWay>::iterator at) {
  std::string why;
  const bool failed = failed_altogether(result, why);
  const std::lock_guard lock(mutex_);
  under_way_.erase(at);
  last_progress_ = Clock::now();
  if (failed) {
    ++failures_in_a_row_;
    last_failure_ = why;
  } else if (!std::holds_alternative<ItemError>(result)) {
    failures_in_a_row_ = 0;  // a refusal (overloaded, cancelled, …) says nothing about the engine's health
  }
  ended_.notify_all();
}

CacheStats Service::cache_stats() const {
  const std::lock_guard lock(mutex_);
  return encoder_ ? encoder_->cache_stats() : CacheStats{};
}

void Service::clear_caches() {
  labels_->clear();
  const std::lock_guard lock(mutex_);
  if (encoder_) encoder_->clear_caches();
}

Clock::time_point Service::deadline_of(const Call& call) {
  if (!call.wishes.timeout) return call.deadline;
  const auto wished = std::chrono::microseconds(static_cast<std::int64_t>(*call.wishes.timeout * 1e6));
  return std::min(call.deadline, call.facts.begin + wished);
}

void Service::submit(const CallPtr& call, Request request, const Reply& reply, std::function<void(Response)> on_done,
                     bool quick) {
  const bool small = request.images.size() + request.texts.size() <= kQuickItems;
  request.deadline = deadline_of(*call);
  if (call->wishes.high) request.priority = *call->wishes.high ? Priority::high : Priority::normal;
  request.cancel = call->cancel;
  call->facts.images += static_cast<std::uint32_t>(request.images.size());
  call->facts.texts += static_cast<std::uint32_t>(request.texts.size());
  common_.last_asked = Clock::now();
  // The call goes along: its memory is counted for as long as any of its work is there.
  hand_over(
      std::move(request),
      [this, call, reply, on_done = std::move(on_done)](std::variant<Response, ItemError> result) {
        try {
          if (auto* error = std::get_if<ItemError>(&result)) {
            if (error->code == Code::cancelled && *stopping_) throw Error(Code::unavailable, "the server is stopping");
            throw Error(error->code, error->message);
          }
          Response& response = std::get<Response>(result);
          call->facts.queue_seconds = response.queue_seconds;
          call->facts.prepare_seconds = response.prepare_seconds;
          call->facts.compute_seconds = response.compute_seconds;
          on_done(std::move(response));
        } catch (...) {
          reply(answer_to_current_exception());
        }
      },
      quick && small, small ? call->post : Post());
}

void Service::watch() {
  std::unique_lock lock(mutex_);
  while (!*stopping_) {
    changed_.wait_for(lock, kProbe, [this] { return stopping_->load(); });
    lock.unlock();
    if (&first_ == this) {
      common_.operation.telemetry().sample();
      common_.bodies->age();
      common_.operation.gpus().facts();  // the peak is of what was looked at
    }
    lock.lock();
    if (!encoder_ || *stopping_) continue;
    const std::size_t queued = encoder_->queued();
    if (queued != last_queued_) last_progress_ = Clock::now();
    last_queued_ = queued;
    if (failures_in_a_row_ < kFailuresOfTheSick || !under_way_.empty()) continue;
    // A sick engine is sent no traffic, so somebody has to ask whether it has recovered.
    lock.unlock();
    try {
      Request probe;
      probe.texts.emplace_back(std::string("are you well"));
      probe.cancel = stopping_;
      hand_over(std::move(probe), [](const std::variant<Response, ItemError>&) {});
    } catch (const Error&) {  // refused: it stays sick until a later probe
    }
    lock.lock();
  }
}

void Service::drain() {
  for (const auto& other : others_) other->drain();
  const std::lock_guard lock(mutex_);
  if (state_ != State::failed) state_ = State::draining;
}

void Service::withdraw() {
  for (const auto& other : others_) other->withdraw();
  *stopping_ = true;
  const std::lock_guard lock(mutex_);
  for (const UnderWay& one : under_way_) {
    if (one.cancel) *one.cancel = true;
  }
  changed_.notify_all();
}

void Service::stop() {
  drain();
  withdraw();
  if (loader_.joinable()) loader_.join();
  for (Service* model : models_) {
    if (model->watcher_.joinable()) model->watcher_.join();
  }
  withdraw();  // what was handed over while these ended
  std::shared_ptr<Fetcher> fetcher;
  {
    const std::lock_guard lock(mutex_);
    fetcher = std::move(fetcher_);
  }
  fetcher.reset();  // what was fetched is handed over, and refused
  for (Service* model : models_) model->end_engine();
  if (own_) common_.pool.stop();
}

void Service::end_engine() {
  std::shared_ptr<Encoder> encoder;
  {
    std::unique_lock lock(mutex_);
    // The engine answers withdrawn work at once and finishes the batch it computes; ending it answers the rest.
    ended_.wait_for(lock, std::chrono::seconds(5), [this] { return under_way_.empty(); });
    encoder = std::move(encoder_);
  }
}

State Service::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

bool Service::loaded() const {
  const std::lock_guard lock(mutex_);
  return loaded_;
}

std::string Service::load_error() const {
  const std::lock_guard lock(mutex_);
  return load_error_;
}

Code Service::load_error_code() const {
  const std::lock_guard lock(mutex_);
  return load_error_code_;
}

EngineHealth Service::health() const {
  const std::lock_guard lock(mutex_);
  return encoder_ ? encoder_->health() : EngineHealth{};
}

bool Service::alive() const {
  if (state() == State::failed) return false;
  const EngineHealth health = this->health();
  return health.working == 0 && health.replicas > 0 ? health.replacing > 0 : sickness().empty();
}

std::string Service::sickness() const {
  const std::lock_guard lock(mutex_);
  if (const EngineHealth health = encoder_ ? encoder_->health() : EngineHealth{};
      health.replicas > 0 && health.working == 0) {
    return cat("no replica of the model works, ", health.replacing, " of ", health.replicas,
               " are being replaced: ", health.reason);
  }
  if (failures_in_a_row_ >= kFailuresOfTheSick) {
    return cat("the model failed ", failures_in_a_row_, " times in a row: ", last_failure_);
  }
  if (!under_way_.empty() && Clock::now() - last_progress_ > kStall) {
    return cat("the model has not answered for ", kStall.count(), " seconds");
  }
  return {};
}

void Service::require_ready() const {
  const std::string which = options_.more_models.empty() ? "the model" : cat("model \"", model_name_, "\"");
  switch (state()) {
    case State::loading: throw Error(Code::unavailable, cat(which, " is loading; try again shortly"));
    case State::draining: throw Error(Code::unavailable, "the server is stopping");
    case State::failed: throw Error(Code::unavailable, cat(which, " could not be loaded: ", load_error()));
    case State::ready: break;
  }
  const std::string sick = sickness();
  if (!sick.empty()) throw Error(Code::unavailable, sick);
}

BodyLimits Service::body_limits() const {
  return {options_.max_items, options_.max_text_bytes, options_.max_label_texts, options_.allow_urls};
}

std::shared_ptr<Gallery> Service::gallery() const {
  const std::lock_guard lock(mutex_);
  return gallery_;
}

std::vector<Token> Service::tokenize(std::string_view text) const {
  std::shared_ptr<Encoder> encoder;
  {
    const std::lock_guard lock(mutex_);
    encoder = encoder_;
  }
  if (!encoder) throw Error(Code::unavailable, "the model is not loaded");
  return encoder->tokenize(text);
}

std::shared_ptr<Fetcher> Service::fetcher() const {
  if (&first_ != this) return first_.fetcher();
  const std::lock_guard lock(mutex_);
  return fetcher_;
}

std::size_t Service::queued() const {
  const std::lock_guard lock(mutex_);
  return encoder_ ? encoder_->queued() : 0;
}

std::size_t Service::in_flight() const {
  const std::lock_guard lock(mutex_);
  return under_way_.size();
}

}  // namespace tandem::server
