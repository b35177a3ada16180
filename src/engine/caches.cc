#include "engine/caches.h"

#include <algorithm>

namespace tandem::engine {
namespace {

constexpr std::uint8_t kPriorityBit = 4;

/// What an entry takes beside its values: two keys, list and table nodes, the vector's own fields.
constexpr std::size_t kEntryBytes = 256;

/// Makes the item the first follower's.
void take_over(Item& item, std::vector<Claim>& followers) noexcept {
  Claim& next = followers.front();
  item.job = std::move(next.job), item.index = next.index, item.prepared.truncated = next.truncated;
  followers.erase(followers.begin());
}

/// Room for so many more without a further allocation; false: there is no memory.
bool make_room(Gone& gone, std::size_t more) noexcept {
  if (gone.capacity() - gone.size() >= more) return true;
  try {
    gone.reserve(std::max(2 * gone.size(), gone.size() + more));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

}  // namespace

bool is_the_inputs(Code code) noexcept {
  switch (code) {
    case Code::invalid_argument:
    case Code::bad_data:
    case Code::unsupported:
    case Code::too_large:
    case Code::not_found: return true;
    default: return false;
  }
}

Caches::Caches(const CacheOptions& options)
    : options_(options), text_vectors_(options.texts), image_vectors_(options.image_bytes), pixels_(options.pictures) {}

std::size_t Caches::bytes(const CacheOptions& options, std::size_t dim, std::size_t side) {
  return options.texts * (dim * sizeof(float) + kEntryBytes) + options.pictures * (side * side * 3 + kEntryBytes) +
         options.image_bytes;
}

CacheOptions Caches::within(CacheOptions options, std::size_t dim, std::size_t side, std::size_t most) {
  while (bytes(options, dim, side) > most) options.texts /= 2, options.pictures /= 2, options.image_bytes /= 2;
  return options;
}

Flight::Key Caches::vector_key(const Flight::Key& key) {
  return {key.input, static_cast<std::uint8_t>(key.options & ~kPriorityBit)};
}

std::optional<Flight::Key> Caches::key_of(const Item& item) const {
  const Request& request = item.job->request();
  if ((item.image ? request.image_vectors : request.text_vectors).values != nullptr) return std::nullopt;
  Flight::Key key;
  key.options = static_cast<std::uint8_t>((request.options.feature == Feature::projected ? 1 : 0) |
                                          (request.options.normalize ? 2 : 0) |
                                          (request.priority == Priority::high ? kPriorityBit : 0));
  // The tag tells kinds apart: what is a text's ids must not be found by a picture of the same bytes.
  if (!item.image) {
    if (options_.texts == 0 && !options_.coalesce) return std::nullopt;
    key.input = hasher_.hash(std::as_bytes(std::span(item.prepared.ids)), 1);
    return key;
  }
  if (options_.image_bytes == 0 && options_.pictures == 0 && !options_.coalesce) return std::nullopt;
  const ImageInput& image = request.images[item.index];
  if (const auto* encoded = std::get_if<EncodedImage>(&image)) {
    if (!encoded->bytes) return std::nullopt;
    key.input = hasher_.hash(*encoded->bytes, 2);
    return key;
  }
  if (const auto* pixels = std::get_if<HostPixels>(&image)) {
    if (pixels->width <= 0 || pixels->height <= 0) return std::nullopt;
    const auto tag = (static_cast<std::uint64_t>(pixels->width) << 32) | static_cast<std::uint32_t>(pixels->height);
    const std::size_t bytes = static_cast<std::size_t>(pixels->width) * static_cast<std::size_t>(pixels->height) * 3;
    std::span<const std::uint8_t> given;
    if (pixels->shared) {
      given = {pixels->shared.get(), bytes};
    } else if (pixels->pixels) {
      given = *pixels->pixels;  // of another length it is refused, whatever it is called here
    } else {
      return std::nullopt;
    }
    key.input = hasher_.hash(std::as_bytes(given), tag << 2 | 3);
    return key;
  }
  return std::nullopt;
}

std::optional<Embedding> Caches::admit(Item& item) {
  const auto key = key_of(item);
  if (!key) return std::nullopt;
  auto flight = std::make_shared<Flight>();
  flight->key = *key;
  Values values;
  {
    const std::lock_guard lock(mutex_);
    Vectors& known = vectors(item.image);
    Count& count = found_[item.image ? 1 : 0];
    if (known.bound() > 0) {
      if (auto found = known.get(vector_key(*key))) {
        values = std::move(*found);
        ++count.hits;
      }
    }
    if (!values && options_.coalesce) {
      flight->joinable = true;
      const auto [at, first] = flights_.try_emplace(*key, flight);
      if (!first) {
        at->second->followers.push_back({item.job, item.index, item.prepared.truncated});
        ++count.coalesced;
        item.job = nullptr;
        return std::nullopt;
      }
    }
    if (!values && known.bound() > 0) ++count.misses;
  }
  if (!values) {
    item.flight = std::move(flight);
    return std::nullopt;
  }
  Embedding out;
  out.values = values->values, out.width = values->width, out.height = values->height;
  out.truncated = item.prepared.truncated, out.tokens = static_cast<int>(item.prepared.ids.size());
  return out;
}

bool Caches::find_pixels(Item& item) {
  if (!item.flight || options_.pictures == 0) return false;
  const std::lock_guard lock(mutex_);
  auto found = pixels_.get(item.flight->key.input);
  ++(found ? found_pixels_.hits : found_pixels_.misses);
  if (!found) return false;
  item.prepared.shared_pixels = std::move(found->bytes), item.prepared.given = found->given;
  return true;
}

void Caches::keep_pixels(Item& item) {
  if (!item.flight || options_.pictures == 0) return;
  Prepared& prepared = item.prepared;
  if (prepared.device_pixels != nullptr || prepared.shared_pixels) return;  // the caller's memory, which is not kept
  try {
    const auto own = std::make_shared<const std::vector<std::uint8_t>>(std::move(prepared.owned_pixels));
    prepared.shared_pixels = std::shared_ptr<const std::uint8_t>(own, own->data());
    const std::lock_guard lock(mutex_);
    pixels_.put(item.flight->key.input, Pixels{prepared.shared_pixels, prepared.given}, 1, own->size() + kEntryBytes);
  } catch (const std::bad_alloc&) {  // the item has its pixels all the same
  }
}

std::span<Claim> Caches::settle(Item& item, const Embedding& answer) noexcept {
  if (!item.flight) return {};
  Flight& flight = *item.flight;
  Values values;
  try {
    if (!answer.error && !answer.values.empty() && vectors(item.image).bound() > 0) {
      values = std::make_shared<const Known>(Known{answer.values, answer.width, answer.height});
    }
  } catch (const std::bad_alloc&) {  // not remembered, but those who wait are answered
  }
  const std::lock_guard lock(mutex_);
  // In one step: whoever asks finds the flight or its result.
  if (flight.joinable) flights_.erase(flight.key);
  flight.joinable = false;
  try {
    if (values) {
      const std::size_t bytes = values->values.size() * sizeof(float) + kEntryBytes;
      vectors(item.image).put(vector_key(flight.key), std::move(values), item.image ? bytes : 1, bytes);
    }
  } catch (const std::bad_alloc&) {
  }
  return flight.followers;  // nobody finds the flight any more, so the list is the caller's
}

std::optional<Claim> Caches::pass_on(Item& item) noexcept {
  if (!item.flight) return std::nullopt;
  const std::lock_guard lock(mutex_);
  Flight& flight = *item.flight;
  if (flight.tried || flight.followers.empty()) return std::nullopt;
  flight.tried = true;
  Claim was{std::move(item.job), item.index, item.prepared.truncated};
  take_over(item, flight.followers);
  return was;
}

bool Caches::drop_gone(Item& item, Clock::time_point now, Gone& gone) noexcept {
  const auto reason = item.job->abandoned(now);
  if (!item.flight) {
    if (!reason) return true;
    if (!make_room(gone, 1)) return true;
    gone.emplace_back(Claim{std::move(item.job), item.index, false}, *reason);
    return false;
  }
  const std::lock_guard lock(mutex_);
  auto& followers = item.flight->followers;
  const auto left = [&](const Claim& claim) { return claim.job->abandoned(now).has_value(); };
  if (!reason && std::none_of(followers.begin(), followers.end(), left)) return true;
  if (!make_room(gone, followers.size() + 1)) return true;
  // Asked once each: a flag may be set meanwhile.
  std::erase_if(followers, [&](Claim& claim) {
    const auto theirs = claim.job->abandoned(now);
    if (theirs) gone.emplace_back(std::move(claim), *theirs);
    return theirs.has_value();
  });
  if (!reason) return true;
  gone.emplace_back(Claim{std::move(item.job), item.index, false}, *reason);
  if (followers.empty()) {
    if (item.flight->joinable) flights_.erase(item.flight->key);
    item.flight = nullptr;
    return false;
  }
  take_over(item, followers);
  return true;
}

CacheStats Caches::stats() const {
  const std::lock_guard lock(mutex_);
  CacheStats out;
  const auto fill = [](const auto& cache, const Count& count) {
    return CacheCounts{count.hits, count.misses, cache.evicted(), cache.size(), cache.bytes(), count.coalesced};
  };
  out.texts = fill(text_vectors_, found_[0]);
  out.image_vectors = fill(image_vectors_, found_[1]);
  out.pictures = fill(pixels_, found_pixels_);
  out.coalesced = found_[0].coalesced + found_[1].coalesced;
  return out;
}

void Caches::clear() {
  const std::lock_guard lock(mutex_);
  text_vectors_.clear(), image_vectors_.clear(), pixels_.clear();
}

}  // namespace tandem::engine
