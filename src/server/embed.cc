#include "server/embed.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "base/strings.h"

namespace tandem::server {
namespace {

/// Where an input went: the engine takes images and texts apart.
struct Place {
  enum Kind { image, text, failed } kind = failed;
  std::size_t index = 0;
};

/// What the engine is asked for, and where each input is in it.
struct Split {
  Request request;
  std::vector<Place> places;
  std::vector<ItemError> errors;
};

Split split(std::vector<Input> inputs, std::size_t context, const NameOf& name) {
  Split out;
  out.places.reserve(inputs.size());
  for (Input& input : inputs) {
    auto& images = out.request.images;
    auto& texts = out.request.texts;
    if (auto* error = std::get_if<ItemError>(&input)) {
      out.places.push_back({Place::failed, out.errors.size()});
      out.errors.push_back(std::move(*error));
      continue;
    }
    const auto* tokens = std::get_if<std::vector<std::int32_t>>(&input);
    if (tokens && context > 0 && tokens->size() > context) {
      const std::size_t index = out.places.size();
      out.places.push_back({Place::failed, out.errors.size()});
      out.errors.push_back({Code::invalid_argument,
                            cat(name(index), ": ", tokens->size(), " token ids; the model's context is ", context)});
      continue;
    }
    const bool text =
        std::holds_alternative<std::string>(input) || std::holds_alternative<std::vector<std::int32_t>>(input);
    out.places.push_back({text ? Place::text : Place::image, text ? texts.size() : images.size()});
    if (auto* words = std::get_if<std::string>(&input)) texts.emplace_back(std::move(*words));
    if (auto* ids = std::get_if<std::vector<std::int32_t>>(&input)) texts.emplace_back(std::move(*ids));
    if (auto* picture = std::get_if<EncodedImage>(&input)) images.emplace_back(std::move(*picture));
    if (auto* pixels = std::get_if<HostPixels>(&input)) images.emplace_back(std::move(*pixels));
    if (std::holds_alternative<ImageUrl>(input)) throw Error(Code::internal, "a picture was not fetched");
  }
  return out;
}

Vectors joined(Response response, const std::vector<Place>& places, std::vector<ItemError> errors, const NameOf& name) {
  Vectors out;
  out.queue_seconds = response.queue_seconds;
  out.prepare_seconds = response.prepare_seconds;
  out.compute_seconds = response.compute_seconds;
  out.items.reserve(places.size());
  for (std::size_t i = 0; i < places.size(); ++i) {
    const Place& place = places[i];
    if (place.kind == Place::failed) {
      out.items.emplace_back().error = std::move(errors.at(place.index));
      continue;
    }
    auto& from = place.kind == Place::image ? response.images : response.texts;
    Embedding& item = out.items.emplace_back(std::move(from.at(place.index)));
    if (item.error) item.error->message = cat(name(i), ": ", item.error->message);
  }
  return out;
}

}  // namespace

long Vectors::tokens() const noexcept {
  long sum = 0;
  for (const Embedding& item : items) sum += item.tokens;
  return sum;
}

bool Vectors::truncated() const noexcept {
  return std::any_of(items.begin(), items.end(), [](const Embedding& item) { return item.truncated; });
}

NameOf names_in(std::string list, std::size_t count) {
  return [list = std::move(list), count](std::size_t i) { return count == 1 ? list : cat(list, "[", i, "]"); };
}

NameOf names_in(std::vector<std::pair<std::string, std::size_t>> lists) {
  return [lists = std::move(lists)](std::size_t i) {
    for (const auto& [name, count] : lists) {
      if (i < count) return count == 1 ? name : cat(name, "[", i, "]");
      i -= count;
    }
    return std::string("input");
  };
}

std::size_t width_of(const EngineInfo& info, const EmbedOptions& options) noexcept {
  const int pooled = std::max(info.vision_width, info.text_width);
  return static_cast<std::size_t>(options.feature == Feature::pooled ? pooled : info.embed_dim);
}

namespace {

/// embed() once every picture is here.
void hand_over(Service& service, const CallPtr& call, const Reply& reply, std::vector<Input> inputs,
               const EmbedOptions& options, NameOf name, std::function<void(Vectors)> on_done, bool quick) {
  Split work = split(std::move(inputs), static_cast<std::size_t>(service.info().context_length), name);
  work.request.options = options;
  if (work.request.images.empty() && work.request.texts.empty()) {
    return on_done(joined({}, work.places, std::move(work.errors), name));
  }
  service.submit(
      call, std::move(work.request), reply,
      [places = std::move(work.places), errors = std::move(work.errors), name = std::move(name),
       on_done = std::move(on_done)](Response response) { on_done(joined(std::move(response), places, errors, name)); },
      quick);
}

/// A request some of whose pictures are being fetched.
struct Fetching {
  std::vector<Input> inputs;
  std::vector<std::size_t> places;  ///< among the inputs, of the URLs
  std::atomic<std::size_t> left{0};
  std::function<void(std::vector<Input>)> then;
};

Input named(Fetched fetched, const std::string& name) {
  if (auto* error = std::get_if<ItemError>(&fetched)) return ItemError{error->code, cat(name, ": ", error->message)};
  return std::move(std::get<EncodedImage>(fetched));
}

/// Puts pictures in the place of URLs, then calls `then` on a thread of the fetcher's.
void fetch_all(Fetcher& fetcher, const CallPtr& call, std::vector<Input> inputs, const NameOf& name,
               std::function<void(std::vector<Input>)> then) {
  const auto work = std::make_shared<Fetching>();
  Wanted wanted{{}, Service::deadline_of(*call), call->cancel, {call, &call->memory}, call->facts.request_id};
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    auto* url = std::get_if<ImageUrl>(&inputs[i]);
    if (url == nullptr) continue;
    work->places.push_back(i);
    wanted.urls.push_back(std::move(url->url));
  }
  work->inputs = std::move(inputs);
  work->then = std::move(then);
  work->left = wanted.urls.size();
  fetcher.fetch(std::move(wanted), [work, name](std::size_t index, Fetched fetched) {
    const std::size_t place = work->places[index];
    work->inputs[place] = named(std::move(fetched), name(place));
    if (--work->left == 0) work->then(std::move(work->inputs));
  });
}

}  // namespace

void embed(Service& service, const CallPtr& call, const Reply& reply, std::vector<Input> inputs,
           const EmbedOptions& options, NameOf name, std::function<void(Vectors)> on_done, bool quick) {
  if (const std::size_t most = service.options().engine.max_queue; inputs.size() > most) {
    throw Error(Code::too_large, cat(inputs.size(), " inputs; the limit is ", most, " in one request"));
  }
  call->memory.add(inputs.size() * width_of(service.info(), options) * sizeof(float), "the vectors");
  if (std::none_of(inputs.begin(), inputs.end(),
                   [](const Input& input) { return std::holds_alternative<ImageUrl>(input); })) {
    return hand_over(service, call, reply, std::move(inputs), options, std::move(name), std::move(on_done), quick);
  }
  const std::shared_ptr<Fetcher> fetcher = service.fetcher();
  if (!fetcher) throw Error(Code::unavailable, "the server is stopping");
  fetch_all(*fetcher, call, std::move(inputs), name,
            [&service, call, reply, options, name, on_done = std::move(on_done)](std::vector<Input> fetched) {
              try {
                hand_over(service, call, reply, std::move(fetched), options, name, on_done, false);
              } catch (...) {
                reply(answer_to_current_exception());
              }
            });
}

void require_all(const Vectors& vectors) {
  for (const Embedding& item : vectors.items) {
    if (!item.error) continue;
    throw FieldError(item.error->code, item.error->message,
                     param_of(item.error->message.substr(0, item.error->message.find(':'))));
  }
}

}  // namespace tandem::server
