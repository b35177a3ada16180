// Exact nearest neighbours among float32 unit vectors: every row is compared, none is missed.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tandem::search {

/// A row of the index and its score.
struct Hit {
  std::size_t row = 0;  ///< in the order rows were added
  float score = 0;      ///< inner product with the query: the cosine, when both are unit vectors
  friend bool operator==(const Hit&, const Hit&) = default;
};

/// Rows of `dim` floats in one block of memory. Searching is const and may be done from several threads at once;
/// adding may not run beside anything else.
class ExactIndex {
 public:
  /// Throws invalid_argument when dim is 0.
  explicit ExactIndex(std::size_t dim);

  std::size_t dim() const noexcept { return dim_; }
  std::size_t size() const noexcept { return rows_.size() / dim_; }
  std::span<const float> row(std::size_t index) const { return {rows_.data() + index * dim_, dim_}; }
  void reserve(std::size_t rows) { rows_.reserve(rows * dim_); }

  /// Appends rows.size() / dim rows. Throws invalid_argument when the size is no multiple of dim, bad_data when a value
  /// is not finite (such a row would compare equal to nothing and silently never be found).
  void add(std::span<const float> rows);

  /// The k rows with the largest inner product, best first; equal scores in the order the rows were added. Fewer when
  /// the index holds fewer. query: dim floats; throws invalid_argument otherwise, bad_data when it is not finite.
  std::vector<Hit> search(std::span<const float> query, std::size_t k) const;

  /// The same for several queries (queries.size() / dim of them) in one pass over the rows: memory is read once.
  std::vector<std::vector<Hit>> search_many(std::span<const float> queries, std::size_t k) const;

 private:
  std::size_t dim_;
  std::vector<float> rows_;
};

}  // namespace tandem::search
