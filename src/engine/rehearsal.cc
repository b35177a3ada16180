#include "engine/rehearsal.h"

#include <algorithm>

#include "base/clock.h"

namespace tandem::engine {
namespace {

/// How long a processor warms up, and a device beyond its smallest sizes.
constexpr double kHostSeconds = 0.5, kDeviceSeconds = 5;
constexpr std::size_t kSmall = 8;
/// Recorded passes of texts differ by their longest one, rounded up to this.
constexpr std::size_t kTextStep = 16;

std::vector<std::size_t> sizes_of(bool device, std::size_t most) {
  std::vector<std::size_t> sizes;
  for (std::size_t n = 1; n < most; n = device && n < kSmall ? n + 1 : 2 * n) {
    sizes.push_back(n);
    if (device && n >= kSmall && n + n / 2 < most) sizes.push_back(n + n / 2);
  }
  sizes.push_back(most);
  return sizes;
}

}  // namespace

Rehearsal::Rehearsal(Lane& lane, bool images) : lane_(lane), images_(images) {
  if (!images) return;
  const auto side = static_cast<std::size_t>(lane.model().config.vision.image_size);
  auto noise = std::make_shared<std::vector<std::uint8_t>>(side * side * 3);
  std::uint32_t state = 1;
  for (auto& byte : *noise) byte = static_cast<std::uint8_t>((state = state * 1664525U + 1013904223U) >> 24);
  pixels_ = std::move(noise);
}

std::vector<Item> Rehearsal::make(std::size_t items, std::size_t tokens) {
  const model::Config& config = lane_.model().config;
  Request request;
  if (images_) {
    request.images.assign(items, HostPixels{pixels_, config.vision.image_size, config.vision.image_size});
  } else {
    tokens = std::clamp<std::size_t>(tokens, 2, static_cast<std::size_t>(config.text.context_length));
    const std::int32_t plain = std::min(config.text.start_id, config.text.end_id);  // ids below are plain tokens
    for (std::size_t i = 0; i < items; ++i) {
      // They differ from the second token on, as unlike texts do.
      std::vector<std::int32_t> ids(tokens, static_cast<std::int32_t>(i) % std::max(plain, 1));
      ids.front() = config.text.start_id, ids.back() = config.text.end_id;
      request.texts.emplace_back(std::move(ids));
    }
  }
  const auto job = std::make_shared<Job>(std::move(request), nullptr);
  std::vector<Item> made(items);
  for (std::size_t i = 0; i < items; ++i) {
    made[i].job = job, made[i].image = images_, made[i].index = i;
    if (images_) {
      made[i].prepared.shared_pixels = {pixels_, pixels_->data()};
    } else {
      made[i].prepared.ids = std::get<std::vector<std::int32_t>>(job->request().texts[i]);
    }
  }
  return made;
}

double Rehearsal::pass(std::size_t items, std::size_t tokens) {
  std::vector<Item> made = make(items, tokens);
  ++passes_;
  const auto begin = Clock::now();
  lane_.begin(made);
  lane_.finish(made);
  return seconds_since(begin);
}

void Rehearsal::pair(std::size_t items) {
  std::vector<Item> first = make(items, kUsualTokens), second = make(items, kUsualTokens);
  lane_.begin(first);
  ++passes_;
  const bool both = lane_.can_begin();
  try {
    if (both) lane_.begin(second), ++passes_;
  } catch (...) {  // the first is still under way
    lane_.finish(first);
    throw;
  }
  lane_.finish(first);
  if (both) lane_.finish(second);
}

Warmth warm_up(Rehearsal& rehearsal, std::size_t most) {
  const auto begin = Clock::now();
  const model::Model& model = rehearsal.lane().model();
  if (most == 0 || !(rehearsal.images() ? model.vision.has_value() : model.text.has_value())) return {};
  const bool device = rehearsal.lane().backend().stream() != nullptr;
  const auto replayed = static_cast<std::size_t>(rehearsal.images() ? model::kReplayedImages : model::kReplayedTexts);
  const int before = rehearsal.passes();
  const double limit = device ? kDeviceSeconds : kHostSeconds;
  std::size_t largest = most, done = 0;
  double each = 0;  // seconds of an item, as the last pass says
  try {
    if (device && !rehearsal.images()) {
      const auto longest = static_cast<std::size_t>(model.config.text.context_length);
      for (std::size_t tokens = kTextStep; tokens < longest; tokens += kTextStep) {
        rehearsal.pass(1, tokens), rehearsal.pass(1, tokens);
      }
      rehearsal.pass(1, longest), rehearsal.pass(1, longest);
    }
    for (const std::size_t n : sizes_of(device, most)) {
      const bool small = n == 1 || (device && n <= kSmall);
      if (!small && seconds_since(begin) + each * static_cast<double>(n) > limit) break;
      double took = rehearsal.pass(n);
      if (device && n <= replayed) took = rehearsal.pass(n);
      each = took / static_cast<double>(n);
      done = n;
    }
    // A full batch is begun while another is computed, and reads other memory: recorded for itself.
    if (device && most <= replayed && rehearsal.images()) {
      rehearsal.pair(most), rehearsal.pair(most);
    }
  } catch (const Error& error) {
    // Serving halves such a pass; what was computed until here is warm.
    if (error.code() != Code::out_of_memory || done == 0) throw;
    largest = done;
  }
  return {rehearsal.passes() - before, seconds_since(begin), largest};
}

}  // namespace tandem::engine
