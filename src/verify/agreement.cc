#include "verify/agreement.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

#include "base/strings.h"
#include "search/exact_index.h"
#include "tandem/error.h"

namespace tandem::verify {
namespace {

std::size_t rows_of(std::span<const float> values, std::size_t dim) {
  if (dim == 0 || values.size() % dim != 0) {
    throw Error(Code::invalid_argument, cat(values.size(), " values are no rows of ", dim));
  }
  return values.size() / dim;
}

void check_pair(std::span<const float> got, std::span<const float> want, std::size_t dim) {
  if (rows_of(got, dim) != rows_of(want, dim)) {
    throw Error(Code::invalid_argument, cat(got.size() / dim, " vectors cannot be compared with ", want.size() / dim));
  }
}

double dot(const float* a, const float* b, std::size_t dim) {
  double sum = 0;
  for (std::size_t i = 0; i < dim; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

/// Pairs within runs of equal values, where equal(i, j) says whether the sorted things i and j are.
template <class Equal>
std::uint64_t tied_pairs(std::size_t n, Equal equal) {
  std::uint64_t pairs = 0, run = 1;
  for (std::size_t i = 1; i <= n; ++i) {
    if (i < n && equal(i - 1, i)) {
      ++run;
    } else {
      pairs += run * (run - 1) / 2;
      run = 1;
    }
  }
  return pairs;
}

/// Sorts, and counts the pairs that stood in the wrong order.
std::uint64_t inversions(std::vector<float>& values, std::vector<float>& scratch, std::size_t first, std::size_t last) {
  if (last - first < 2) return 0;
  const std::size_t middle = first + (last - first) / 2;
  std::uint64_t count = inversions(values, scratch, first, middle) + inversions(values, scratch, middle, last);
  std::size_t left = first, right = middle;
  for (std::size_t at = first; at < last; ++at) {
    if (right == last || (left < middle && values[left] <= values[right])) {
      scratch[at] = values[left++];
    } else {
      count += middle - left;
      scratch[at] = values[right++];
    }
  }
  std::copy(scratch.begin() + static_cast<std::ptrdiff_t>(first), scratch.begin() + static_cast<std::ptrdiff_t>(last),
            values.begin() + static_cast<std::ptrdiff_t>(first));
  return count;
}

std::vector<std::size_t> best(std::span<const float> scores, std::size_t k) {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(),
      [&](std::size_t x, std::size_t y) { return scores[x] > scores[y] || (scores[x] == scores[y] && x < y); });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace

std::vector<double> cosines(std::span<const float> got, std::span<const float> want, std::size_t dim) {
  check_pair(got, want, dim);
  std::vector<double> out(rows_of(got, dim));
  for (std::size_t r = 0; r < out.size(); ++r) {
    const float *a = got.data() + r * dim, *b = want.data() + r * dim;
    out[r] = dot(a, b, dim) / std::sqrt(dot(a, a, dim) * dot(b, b, dim));
    if (!std::isfinite(out[r])) {
      throw Error(Code::bad_data, cat("vector ", r, " has no direction: it is all zeros or not finite"));
    }
  }
  return out;
}

Closeness closeness(std::span<const float> got, std::span<const float> want, std::size_t dim) {
  std::vector<double> all = cosines(got, want, dim);
  Closeness c;
  c.items = all.size();
  if (c.items == 0) return c;
  for (std::size_t i = 0; i < got.size(); ++i) {
    c.max_difference = std::max(c.max_difference, std::abs(static_cast<double>(got[i]) - want[i]));
  }
  c.worst = static_cast<std::size_t>(std::min_element(all.begin(), all.end()) - all.begin());
  c.mean_cosine = std::accumulate(all.begin(), all.end(), 0.0) / static_cast<double>(c.items);
  std::sort(all.begin(), all.end());
  c.min_cosine = all.front(), c.p01_cosine = all[(c.items + 99) / 100 - 1];
  return c;
}

double kendall_tau(std::span<const float> a, std::span<const float> b) {
  const std::size_t n = a.size();
  if (b.size() != n) throw Error(Code::invalid_argument, cat(n, " scores cannot be compared with ", b.size()));
  if (n < 2) return 1;
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](std::size_t x, std::size_t y) { return a[x] < a[y] || (a[x] == a[y] && b[x] < b[y]); });
  const std::uint64_t pairs = n * (n - 1) / 2;
  const std::uint64_t tied_a = tied_pairs(n, [&](std::size_t i, std::size_t j) { return a[order[i]] == a[order[j]]; });
  const std::uint64_t tied_both = tied_pairs(
      n, [&](std::size_t i, std::size_t j) { return a[order[i]] == a[order[j]] && b[order[i]] == b[order[j]]; });
  std::vector<float> values(n), scratch(n);
  for (std::size_t i = 0; i < n; ++i) values[i] = b[order[i]];
  const std::uint64_t swaps = inversions(values, scratch, 0, n);
  const std::uint64_t tied_b = tied_pairs(n, [&](std::size_t i, std::size_t j) { return values[i] == values[j]; });
  if (tied_a == pairs || tied_b == pairs) return tied_a == tied_b ? 1 : 0;
  const auto number = [](std::uint64_t v) { return static_cast<double>(v); };
  const double more = number(pairs) - number(tied_a) - number(tied_b) + number(tied_both) - 2 * number(swaps);
  return more / std::sqrt(number(pairs - tied_a) * number(pairs - tied_b));
}

double top_overlap(std::span<const float> a, std::span<const float> b, std::size_t k) {
  if (a.size() != b.size())
    throw Error(Code::invalid_argument, cat(a.size(), " scores cannot be compared with ", b.size()));
  k = std::min(k, a.size());
  if (k == 0) return 1;
  const auto of_a = best(a, k), of_b = best(b, k);
  std::vector<std::size_t> both;
  std::set_intersection(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(), std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(k);
}

RankAgreement rank_agreement(VectorPair queries, VectorPair items, std::size_t dim, bool same,
                             std::size_t most_queries) {
  check_pair(queries.got, queries.want, dim), check_pair(items.got, items.want, dim);
  RankAgreement agreement;
  agreement.items = rows_of(items.got, dim);
  const std::size_t all = rows_of(queries.got, dim);
  if (agreement.items < (same ? 3U : 2U) || all == 0) return agreement;
  agreement.queries = std::min(all, most_queries);
  agreement.kendall = agreement.top10 = 0;
  std::vector<float> got, want;
  for (std::size_t q = 0; q < agreement.queries; ++q) {
    const std::size_t query = q * all / agreement.queries;
    got.clear(), want.clear();
    for (std::size_t i = 0; i < agreement.items; ++i) {
      if (same && i == query) continue;
      got.push_back(static_cast<float>(dot(queries.got.data() + query * dim, items.got.data() + i * dim, dim)));
      want.push_back(static_cast<float>(dot(queries.want.data() + query * dim, items.want.data() + i * dim, dim)));
    }
    agreement.kendall += kendall_tau(got, want);
    agreement.top10 += top_overlap(got, want, 10);
  }
  agreement.kendall /= static_cast<double>(agreement.queries);
  agreement.top10 /= static_cast<double>(agreement.queries);
  return agreement;
}

ZeroShot zero_shot(std::span<const float> images, std::span<const float> labels, std::size_t dim,
                   std::span<const std::vector<std::size_t>> accepted) {
  const std::size_t rows = rows_of(images, dim);
  if (accepted.size() != rows) {
    throw Error(Code::invalid_argument, cat("right labels of ", accepted.size(), " pictures are given for ", rows));
  }
  ZeroShot result;
  result.right.resize(rows);
  if (rows_of(labels, dim) == 0) return result;
  search::ExactIndex index(dim);
  index.add(labels);
  const auto found = index.search_many(images, 5);
  std::size_t first = 0, among = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    if (accepted[r].empty()) continue;
    ++result.labelled;
    const auto is_right = [&](const search::Hit& hit) {
      return std::find(accepted[r].begin(), accepted[r].end(), hit.row) != accepted[r].end();
    };
    result.right[r] = is_right(found[r].front());
    first += result.right[r] ? 1 : 0;
    among += std::any_of(found[r].begin(), found[r].end(), is_right) ? 1 : 0;
  }
  if (result.labelled > 0) {
    result.top1 = static_cast<double>(first) / static_cast<double>(result.labelled);
    result.top5 = static_cast<double>(among) / static_cast<double>(result.labelled);
  }
  return result;
}

}  // namespace tandem::verify
