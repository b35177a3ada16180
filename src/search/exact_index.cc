#include "search/exact_index.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "search/dot.h"
#include "tandem/error.h"

namespace tandem::search {
namespace {

// Rows compared with all queries before the next ones are read: they stay in the first or second level cache.
constexpr std::size_t kBlockFloats = 16384;

bool better(const Hit& a, const Hit& b) noexcept {
  return a.score != b.score ? a.score > b.score : a.row < b.row;
}

// The k best seen so far, the worst of them on top.
class TopK {
 public:
  explicit TopK(std::size_t k) : k_(k) {}

  // Rows come in ascending order, so a score that only equals the worst kept one belongs behind it.
  void offer(std::size_t row, float score) {
    if (heap_.size() < k_) {
      heap_.push_back({row, score});
      std::push_heap(heap_.begin(), heap_.end(), better);
    } else if (score > heap_.front().score) {
      std::pop_heap(heap_.begin(), heap_.end(), better);
      heap_.back() = {row, score};
      std::push_heap(heap_.begin(), heap_.end(), better);
    }
  }

  std::vector<Hit> take() && {
    std::sort(heap_.begin(), heap_.end(), better);
    return std::move(heap_);
  }

 private:
  std::size_t k_;
  std::vector<Hit> heap_;
};

bool all_finite(std::span<const float> values) noexcept {
  return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

ExactIndex::ExactIndex(std::size_t dim) : dim_(dim) {
  if (dim == 0)
    throw Error(Code::invalid_argument, "an index of vectors with 0 values was asked for; give their length");
}

void ExactIndex::add(std::span<const float> rows) {
  if (rows.size() % dim_ != 0) {
    throw Error(Code::invalid_argument, cat(rows.size(), " values are no whole number of rows of ", dim_));
  }
  if (!all_finite(rows)) {
    throw Error(Code::bad_data, cat("a row with values that are not finite was added after row ", size()));
  }
  rows_.insert(rows_.end(), rows.begin(), rows.end());
}

std::vector<Hit> ExactIndex::search(std::span<const float> query, std::size_t k) const {
  if (query.size() != dim_) {
    throw Error(Code::invalid_argument, cat("the query has ", query.size(), " values, the index's rows have ", dim_));
  }
  return std::move(search_many(query, k).front());
}

std::vector<std::vector<Hit>> ExactIndex::search_many(std::span<const float> queries, std::size_t k) const {
  if (queries.size() % dim_ != 0) {
    throw Error(Code::invalid_argument, cat(queries.size(), " values are no whole number of queries of ", dim_));
  }
  if (!all_finite(queries)) throw Error(Code::bad_data, "a query has values that are not finite");
  const std::size_t count = queries.size() / dim_;
  std::vector<std::vector<Hit>> found(count);
  k = std::min(k, size());
  if (k == 0) return found;

  const DotRows dot_rows = choose_dot_rows();
  const std::size_t block = std::max<std::size_t>(1, kBlockFloats / dim_);
  std::vector<TopK> best(count, TopK(k));
  std::vector<float> scores(block);
  for (std::size_t first = 0; first < size(); first += block) {
    const std::size_t rows = std::min(block, size() - first);
    for (std::size_t q = 0; q < count; ++q) {
      dot_rows(queries.data() + q * dim_, rows_.data() + first * dim_, rows, dim_, scores.data());
      for (std::size_t r = 0; r < rows; ++r) best[q].offer(first + r, scores[r]);
    }
  }
  for (std::size_t q = 0; q < count; ++q) found[q] = std::move(best[q]).take();
  return found;
}

}  // namespace tandem::search
