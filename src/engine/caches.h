// What was computed or is being computed already: equal inputs cost once.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/content_hash.h"
#include "engine/job.h"
#include "engine/lru.h"

namespace tandem::engine {

/// An input that somebody waits for: the item of its own, or of an equal one.
struct Claim {
  std::shared_ptr<Job> job;
  std::size_t index = 0;
  bool truncated = false;
};

/// Everybody who has gone, and why (see Job::abandoned()).
using Gone = std::vector<std::pair<Claim, Code>>;

/// An item under way whose vector others may want as well.
struct Flight {
  struct Key {
    Digest input;
    std::uint8_t options = 0;  ///< feature, normalize, priority
    friend bool operator==(const Key&, const Key&) = default;
  };
  Key key;
  bool joinable = false;         ///< found by equal inputs
  bool tried = false;            ///< failed once already for no fault of the input
  std::vector<Claim> followers;  ///< guarded by the caches' mutex until it has landed: settle() was called
};

/// Thread-safe. It answers nobody itself: whoever calls does, without holding a lock. Nobody who joined a flight may be
/// lost for want of memory: an admitted item goes through settle() or drop_gone(), which need none.
class Caches {
 public:
  explicit Caches(const CacheOptions& options);

  /// The bytes that such caches take at most. dim: values of a vector; side: of a fitted picture.
  static std::size_t bytes(const CacheOptions& options, std::size_t dim, std::size_t side);
  /// The same caches, halved until they take no more than `most`.
  static CacheOptions within(CacheOptions options, std::size_t dim, std::size_t side, std::size_t most);

  /// An item that nobody has seen yet (a text after it was prepared): its vector, where that is known; nothing where it
  /// has to be computed, or where it will be answered with an equal item: then its job is null. What it throws leaves
  /// the item as it was.
  std::optional<Embedding> admit(Item& item);

  /// Gives an admitted picture its fitted pixels; false: they are not there.
  bool find_pixels(Item& item);
  /// Remembers them, where there is memory, and shares them with the item.
  void keep_pixels(Item& item);

  /// An item has its answer, which is remembered unless it is an error or memory is short: those who want it too. They
  /// stay in its flight, and are told of no other answer, so tell them this one.
  std::span<Claim> settle(Item& item, const Embedding& answer) noexcept;

  /// After a failure that was not the input's fault: makes the item a follower's, to be tried once more, and returns
  /// whose it was. Nothing: nobody follows, or it was tried already.
  std::optional<Claim> pass_on(Item& item) noexcept;

  /// Takes out those whose request was withdrawn or has passed its deadline; the item goes to the next who wants it.
  /// False: nobody does, and its job is null. Where there is no memory for the list, they stay until the next look.
  bool drop_gone(Item& item, Clock::time_point now, Gone& gone) noexcept;

  CacheStats stats() const;
  void clear();

 private:
  /// Fitted pixels, and the size that the picture had before.
  struct Pixels {
    std::shared_ptr<const std::uint8_t> bytes;
    image::Size given;
  };
  struct Known {
    std::vector<float> values;
    int width = 0, height = 0;  ///< as in Embedding
  };
  using Values = std::shared_ptr<const Known>;
  struct KeyHash {
    std::size_t operator()(const Flight::Key& key) const noexcept {
      return std::hash<Digest>()(key.input) ^ (std::size_t{key.options} * 0x9E3779B97F4A7C15U);
    }
  };
  using Vectors = Lru<Flight::Key, Values, KeyHash>;

  std::optional<Flight::Key> key_of(const Item& item) const;
  /// Without the priority, which a vector does not depend on.
  static Flight::Key vector_key(const Flight::Key& key);
  Vectors& vectors(bool image) { return image ? image_vectors_ : text_vectors_; }

  const CacheOptions options_;
  const ContentHasher hasher_;
  mutable std::mutex mutex_;
  Vectors text_vectors_, image_vectors_;
  Lru<Digest, Pixels> pixels_;
  std::unordered_map<Flight::Key, std::shared_ptr<Flight>, KeyHash> flights_;
  struct Count {
    std::uint64_t hits = 0, misses = 0, coalesced = 0;
  };
  std::array<Count, 2> found_;  ///< texts, images
  Count found_pixels_;
};

/// Whether an error says something about the input, so that an equal one would have it too.
bool is_the_inputs(Code code) noexcept;

}  // namespace tandem::engine
