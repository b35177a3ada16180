// The two merging algorithms against a version that does what the references' Python and Rust say, word for word.
#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace tandem::text {
namespace {

using Symbols = std::vector<std::int32_t>;
using Rules = std::map<std::pair<std::int32_t, std::int32_t>, MergeTable::Merge>;

/// Slow and obvious: look at all pairs, merge, start over.
Symbols reference(Symbols s, const Rules& rules, MergeOrder order) {
  for (;;) {
    std::uint32_t best = MergeTable::kNone;
    std::pair<std::int32_t, std::int32_t> pair;
    for (std::size_t i = 0; i + 1 < s.size(); ++i)
      if (const auto it = rules.find({s[i], s[i + 1]}); it != rules.end() && it->second.rank < best) {
        best = it->second.rank;
        pair = it->first;
      }
    if (best == MergeTable::kNone) return s;
    Symbols out;
    bool done = false;
    for (std::size_t i = 0; i < s.size(); ++i) {
      if (!done && i + 1 < s.size() && s[i] == pair.first && s[i + 1] == pair.second) {
        out.push_back(rules.at(pair).id);
        ++i;
        done = order == MergeOrder::one_by_one;
      } else {
        out.push_back(s[i]);
      }
    }
    s = std::move(out);
  }
}

TEST(Bpe, EqualsTheObviousVersion) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    // Random rules in random order: a product may well rank before its parts.
    Rules rules;
    std::int32_t next = 4;
    MergeTable table(64);
    std::vector<std::uint32_t> ranks(60);
    for (std::uint32_t i = 0; i < ranks.size(); ++i) ranks[i] = i;
    std::shuffle(ranks.begin(), ranks.end(), random);
    for (const std::uint32_t rank : ranks) {
      const auto a = static_cast<std::int32_t>(random() % static_cast<unsigned>(next));
      const auto b = static_cast<std::int32_t>(random() % static_cast<unsigned>(next));
      if (rules.contains({a, b})) continue;
      rules[{a, b}] = {rank, next};
      table.add(a, b, rank, next++);
    }
    for (const std::size_t length : {0u, 1u, 2u, 3u, 7u, 20u, 48u, 49u, 120u, 400u}) {
      Symbols symbols(length);
      for (std::int32_t& s : symbols) s = static_cast<std::int32_t>(random() % 4);
      for (const MergeOrder order : {MergeOrder::one_by_one, MergeOrder::all_equal}) {
        Symbols got = symbols;
        got.resize(merge_symbols(got, table, order));
        ASSERT_EQ(got, reference(symbols, rules, order)) << "round " << round << ", length " << length;
      }
    }
  }
}

TEST(Bpe, ALaterMergeOfAPairReplacesTheEarlier) {
  MergeTable table(2);
  table.add(1, 2, 0, 7);
  table.add(1, 2, 5, 9);
  EXPECT_EQ(table.find(1, 2).rank, 5u);
  EXPECT_EQ(table.find(1, 2).id, 9);
  EXPECT_EQ(table.find(2, 1).rank, MergeTable::kNone);
}

}  // namespace
}  // namespace tandem::text
