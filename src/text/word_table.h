// Words of the vocabulary that are one token, by their bytes: the common case of encoding is one look-up.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace tandem::text {

class WordTable {
 public:
  static constexpr std::size_t kLongest = 16;  ///< bytes; longer words are merged each time
  static constexpr std::int32_t kNone = -1;

  explicit WordTable(std::size_t words) : slots_(std::bit_ceil(words * 2 + 2)), mask_(slots_.size() - 1) {}

  /// `word` has 1 to kLongest bytes and is not in the table yet.
  void add(std::string_view word, std::int32_t id) {
    const Key key = key_of(word);
    std::size_t i = key.hash() & mask_;
    while (slots_[i].id != kNone) i = (i + 1) & mask_;
    slots_[i] = {key, id};
  }

  /// Id of a word of 1 to kLongest bytes, or kNone.
  std::int32_t find(std::string_view word) const noexcept {
    const Key key = key_of(word);
    for (std::size_t i = key.hash() & mask_;; i = (i + 1) & mask_)
      if (slots_[i].id == kNone || slots_[i].key == key) return slots_[i].id;
  }

 private:
  /// All bytes of a word and its length; two loads may overlap, which keeps words of one length apart all the same.
  struct Key {
    std::uint64_t low = 0, high = 0;
    std::uint32_t length = 0;
    bool operator==(const Key&) const = default;
    std::size_t hash() const noexcept {
      const std::uint64_t mixed = (low * 0x9e3779b97f4a7c15u) ^ std::rotl(high * 0xc2b2ae3d27d4eb4fu, 29) ^ length;
      return static_cast<std::size_t>((mixed ^ mixed >> 32) * 0x9e3779b97f4a7c15u >> 24);
    }
  };
  struct Slot {
    Key key;
    std::int32_t id = kNone;
  };

  template <class T>
  static T load(const char* p) noexcept {
    T value;
    std::memcpy(&value, p, sizeof value);
    return value;
  }
  static Key key_of(std::string_view word) noexcept {
    const char* p = word.data();
    const std::size_t n = word.size();
    Key key;
    key.length = static_cast<std::uint32_t>(n);
    if (n >= 8) {
      key.low = load<std::uint64_t>(p);
      key.high = load<std::uint64_t>(p + n - 8);
    } else if (n >= 4) {
      key.low = load<std::uint32_t>(p);
      key.high = load<std::uint32_t>(p + n - 4);
    } else {
      key.low = static_cast<unsigned char>(p[0]);
      key.high =
          static_cast<std::uint64_t>(static_cast<unsigned char>(p[n / 2])) << 8 | static_cast<unsigned char>(p[n - 1]);
    }
    return key;
  }

  std::vector<Slot> slots_;
  std::size_t mask_;
};

}  // namespace tandem::text
