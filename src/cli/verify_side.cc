#include "cli/verify_side.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <future>
#include <utility>

#include "base/clock.h"
#include "base/strings.h"
#include "cli/progress.h"
#include "tandem/zero_shot.h"

namespace tandem::cli {
namespace {

constexpr std::size_t kChunk = 64;  // items of a request
constexpr std::size_t kFlying = 2;  // one is opened while the other computes

/// Puts items into requests, and their vectors into rows.
class Embedder {
 public:
  Embedder(Engine& engine, std::size_t dim, const StopScope& stop) : engine_(engine), dim_(dim), stop_(stop) {}

  /// open(request, i) adds item i to the request, or throws its error. False where it was interrupted.
  template <class Open>
  bool run(std::size_t count, bool images, std::vector<float>& rows, std::vector<std::optional<ItemError>>& errors,
           Progress& progress, Open open) {
    rows.assign(count * dim_, 0);
    errors.assign(count, std::nullopt);
    std::deque<Chunk> flying;
    std::size_t done = 0, failed = 0;
    const auto land = [&] {
      Chunk chunk = std::move(flying.front());
      flying.pop_front();
      const Response response = engine_.wait(std::move(chunk.answer));
      const auto& vectors = images ? response.images : response.texts;
      for (std::size_t i = 0; i < chunk.items.size(); ++i) {
        const std::size_t item = chunk.items[i];
        if (vectors[i].error) {
          errors[item] = vectors[i].error, ++failed;
        } else {
          std::copy(vectors[i].values.begin(), vectors[i].values.end(),
                    rows.begin() + static_cast<std::ptrdiff_t>(item * dim_));
        }
      }
      progress.update(done += chunk.items.size(), failed);
    };
    for (std::size_t at = 0; at < count;) {
      if (stop_.flag()->load()) return false;
      Request request;
      Chunk chunk;
      for (; at < count && chunk.items.size() < kChunk; ++at) {
        try {
          open(request, at);
          chunk.items.push_back(at);
        } catch (const Error& e) {
          errors[at] = ItemError{e.code(), e.what()}, ++failed, ++done;
        }
      }
      if (chunk.items.empty()) continue;
      chunk.answer = engine_.submit(std::move(request));
      flying.push_back(std::move(chunk));
      if (flying.size() == kFlying) land();
    }
    while (!flying.empty()) land();
    return true;
  }

 private:
  struct Chunk {
    std::vector<std::size_t> items;
    std::future<Response> answer;
  };
  Engine& engine_;
  std::size_t dim_;
  const StopScope& stop_;
};

}  // namespace

std::optional<SideVectors> embed_side(const CommonOptions& options, const VerifyInputs& inputs, const char* what,
                                      const StopScope& stop, Console& console, bool again) {
  CommonOptions common = options;
  common.engine.load_vision = inputs.pictures->size() > 0;
  common.engine.load_text = !inputs.texts.empty() || !inputs.prompts.empty();
  common.engine.max_queue = std::max(common.engine.max_queue, 2 * kFlying * kChunk);
  const LoadedEngine engine = load_engine(common, console, again);
  SideVectors side;
  side.info = engine->info();
  side.dim = static_cast<std::size_t>(side.info.embed_dim);
  Embedder embedder(*engine, side.dim, stop);
  Progress progress(console, cat("items of the ", what),
                    inputs.pictures->size() + inputs.texts.size() + inputs.prompts.size());
  const auto begin = std::chrono::steady_clock::now();
  const auto texts = [&](const std::vector<TextInput>& from, std::vector<float>& rows,
                         std::vector<std::optional<ItemError>>& errors) {
    return embedder.run(from.size(), false, rows, errors, progress,
                        [&](Request& request, std::size_t i) { request.texts.push_back(from[i]); });
  };
  if (!embedder.run(inputs.pictures->size(), true, side.images, side.image_errors, progress,
                    [&](Request& request, std::size_t i) { request.images.push_back(inputs.pictures->open(i)); })) {
    return std::nullopt;
  }
  std::vector<float> prompts;
  std::vector<std::optional<ItemError>> prompt_errors;
  if (!texts(inputs.texts, side.texts, side.text_errors)) return std::nullopt;
  if (!texts(inputs.prompts, prompts, prompt_errors)) return std::nullopt;
  side.seconds = seconds_since(begin), side.eight_bit_share = engine->eight_bit_share();
  if (!inputs.prompts.empty()) {
    LabelAverager labels(inputs.labels(), inputs.templates);
    for (std::size_t i = 0; i < inputs.prompts.size(); ++i) {
      if (prompt_errors[i]) {
        throw Error(prompt_errors[i]->code,
                    cat("the label '", labels.labels()[i / inputs.templates], "': ", prompt_errors[i]->message));
      }
      labels.add(std::span(prompts).subspan(i * side.dim, side.dim));
    }
    side.labels = std::move(labels).take().vectors;
    if (inputs.texts_are_prompts) side.texts = std::move(prompts), side.text_errors = std::move(prompt_errors);
  }
  return side;
}

}  // namespace tandem::cli
