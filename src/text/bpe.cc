#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <queue>

namespace tandem::text {
namespace {

constexpr std::size_t kShort = 48;  // symbols; above this the heap wins

std::size_t merge_short(std::span<std::int32_t> symbols, const MergeTable& table, MergeOrder order) {
  std::array<MergeTable::Merge, kShort + 1> pair;  // pair[i]: what symbols i and i + 1 merge to
  std::size_t n = symbols.size();
  for (std::size_t i = 0; i + 1 < n; ++i) pair[i] = table.find(symbols[i], symbols[i + 1]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i)
      if (pair[i].rank < pair[best].rank) best = i;
    const std::uint32_t rank = pair[best].rank;
    if (rank == MergeTable::kNone) break;
    if (order == MergeOrder::one_by_one) {
      symbols[best] = pair[best].id;
      --n;
      for (std::size_t i = best + 1; i < n; ++i) {
        symbols[i] = symbols[i + 1];
        pair[i] = pair[i + 1];  // the last one is of no pair, and never read
      }
      if (best > 0) pair[best - 1] = table.find(symbols[best - 1], symbols[best]);
      if (best + 1 < n) pair[best] = table.find(symbols[best], symbols[best + 1]);
    } else {
      std::size_t out = best;
      for (std::size_t i = best; i < n; ++i) {
        const bool merges = i + 1 < n && pair[i].rank == rank;
        symbols[out++] = merges ? pair[i].id : symbols[i];
        if (merges) ++i;
      }
      n = out;
      for (std::size_t i = best == 0 ? 0 : best - 1; i + 1 < n; ++i) pair[i] = table.find(symbols[i], symbols[i + 1]);
    }
  }
  return n;
}

/// A linked list of symbols and a heap of candidate merges; a candidate is stale when its place has changed.
class LongWord {
 public:
  LongWord(std::span<std::int32_t> symbols, const MergeTable& table) : symbols_(symbols), table_(table) {
    const auto n = static_cast<std::uint32_t>(symbols.size());
    next_.resize(n);
    previous_.resize(n);
    for (std::uint32_t i = 0; i < n; ++i) {
      next_[i] = i + 1 < n ? i + 1 : kEnd;
      previous_[i] = i > 0 ? i - 1 : kEnd;
    }
    for (std::uint32_t i = 0; i + 1 < n; ++i) offer(i);
  }

  std::size_t run(MergeOrder order) {
    std::vector<std::uint32_t> changed;
    while (!heap_.empty()) {
      const std::uint32_t rank = heap_.top().rank;
      changed.clear();
      do {
        const std::uint32_t at = heap_.top().at;
        heap_.pop();
        if (current(at).rank != rank) continue;
        merge(at);
        changed.push_back(at);
      } while (order == MergeOrder::all_equal && !heap_.empty() && heap_.top().rank == rank);
      // Pairs that arose are offered after the whole round: in all_equal they do not belong to it.
      for (const std::uint32_t at : changed) {
        if (next_[at] == kGone) continue;
        if (previous_[at] != kEnd) offer(previous_[at]);
        offer(at);
      }
    }
    std::size_t out = 0;
    for (std::uint32_t i = 0; i != kEnd; i = next_[i]) symbols_[out++] = symbols_[i];
    return out;
  }

 private:
  static constexpr std::uint32_t kEnd = 0xffffffff, kGone = 0xfffffffe;
  struct Candidate {
    std::uint32_t rank, at;
    bool operator<(const Candidate& o) const { return rank != o.rank ? rank > o.rank : at > o.at; }  // best on top
  };

  MergeTable::Merge current(std::uint32_t at) const {
    const std::uint32_t right = next_[at];
    return right == kEnd || right == kGone ? MergeTable::Merge{} : table_.find(symbols_[at], symbols_[right]);
  }
  void offer(std::uint32_t at) {
    if (const auto merge = current(at); merge.rank != MergeTable::kNone) heap_.push({merge.rank, at});
  }
  void merge(std::uint32_t at) {
    const std::uint32_t right = next_[at];
    symbols_[at] = current(at).id;
    next_[at] = next_[right];
    if (next_[at] != kEnd) previous_[next_[at]] = at;
    next_[right] = kGone;
  }

  std::span<std::int32_t> symbols_;
  const MergeTable& table_;
  std::vector<std::uint32_t> next_, previous_;
  std::priority_queue<Candidate> heap_;
};

}  // namespace

MergeTable::MergeTable(std::size_t pairs) {
  const std::size_t size = std::bit_ceil(pairs * 2 + 2);
  slots_.resize(size);
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
}

void MergeTable::add(std::int32_t left, std::int32_t right, std::uint32_t rank, std::int32_t id) {
  const std::uint64_t key = key_of(left, right);
  std::size_t i = slot_of(key);
  while (slots_[i].key != kFree && slots_[i].key != key) i = (i + 1) & mask_;
  slots_[i] = {key, {rank, id}};
}

std::size_t merge_symbols(std::span<std::int32_t> symbols, const MergeTable& table, MergeOrder order) {
  if (symbols.size() < 2) return symbols.size();
  if (symbols.size() <= kShort) return merge_short(symbols, table, order);
  return LongWord(symbols, table).run(order);
}

}  // namespace tandem::text
