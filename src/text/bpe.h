// Byte-pair merging of one word: symbols to ids by ranked merges. No text, no files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tandem::text {

/// What happens to a pair that became the best while an equal pair waits further right; with merges in the order of
/// training both give the same, so this matters for hand-made merges only.
enum class MergeOrder {
  one_by_one,  ///< tokenizers: always the best pair, the leftmost of equals
  all_equal,   ///< open_clip: all occurrences of the best pair, left to right, then look again
};

/// Pairs of ids and what they merge to, in a flat hash table; read-only once built.
class MergeTable {
 public:
  static constexpr std::uint32_t kNone = 0xffffffff;
  struct Merge {
    std::uint32_t rank = kNone;  ///< kNone: this pair does not merge
    std::int32_t id = 0;
  };

  explicit MergeTable(std::size_t pairs);
  /// A later merge of the same pair replaces the earlier one, as in both references.
  void add(std::int32_t left, std::int32_t right, std::uint32_t rank, std::int32_t id);
  Merge find(std::int32_t left, std::int32_t right) const noexcept {
    const std::uint64_t key = key_of(left, right);
    for (std::size_t i = slot_of(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].merge;
      if (slots_[i].key == kFree) return {};
    }
  }

 private:
  struct Slot {
    std::uint64_t key = kFree;
    Merge merge;
  };
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};  // ids are not negative, so no pair has this key
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t key) const noexcept {
    return static_cast<std::size_t>(key * 0x9e3779b97f4a7c15u >> shift_);
  }

  std::vector<Slot> slots_;
  std::size_t mask_ = 0;
  int shift_ = 0;
};

/// Merges `symbols` (ids of single symbols) in place until no pair merges; returns how many remain at the front.
/// Short words take a quadratic scan that stays in registers and one cache line, long ones a heap: O(n log n).
std::size_t merge_symbols(std::span<std::int32_t> symbols, const MergeTable& table, MergeOrder order);

}  // namespace tandem::text
