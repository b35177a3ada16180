// How far two sets of vectors of the same inputs agree: one computed in the way that is looked at, the other in the way
// that it is compared with. Unit rows of `dim` floats, one behind the other; row i of both is input i's.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace tandem::verify {

/// Of every pair of rows, whatever their lengths. Throws invalid_argument where sizes differ or are no multiple of dim,
/// bad_data where a value is not finite or a row all zeros.
std::vector<double> cosines(std::span<const float> got, std::span<const float> want, std::size_t dim);

/// Of pairs of rows. All 0 where there are no rows.
struct Closeness {
  std::size_t items = 0;
  double mean_cosine = 0, p01_cosine = 0, min_cosine = 0;  ///< p01: one row in a hundred is at or below it
  double max_difference = 0;                               ///< the largest of |got - want|, over all elements
  std::size_t worst = 0;                                   ///< the row of min_cosine
};
/// Throws what cosines() throws.
Closeness closeness(std::span<const float> got, std::span<const float> want, std::size_t dim);

/// Kendall's tau-b of two lists of scores of the same things: the share of pairs in the same order less the share in
/// the opposite one, with the correction for ties (Kendall 1945). In n log n (Knight 1966). 1 for fewer than two
/// things, and where one list is all ties: 1 where both are, otherwise 0.
double kendall_tau(std::span<const float> a, std::span<const float> b);

/// How many of the `k` best of one list are among the `k` best of the other, as a share; equal scores in the list's
/// order.
double top_overlap(std::span<const float> a, std::span<const float> b, std::size_t k);

/// Whether queries find the same things in the same order.
struct RankAgreement {
  std::size_t queries = 0, items = 0;  ///< 0 queries: there was nothing to rank
  double kendall = 1;                  ///< mean of kendall_tau() over the queries
  double top10 = 1;                    ///< mean of top_overlap() for 10
};
struct VectorPair {
  std::span<const float> got, want;
};
/// Every query ranks all items by inner product, with the vectors of either way. At most `most_queries`, evenly from
/// all. same: queries and items are the same rows, and none ranks itself.
RankAgreement rank_agreement(VectorPair queries, VectorPair items, std::size_t dim, bool same,
                             std::size_t most_queries = 256);

/// Of the pictures whose class is known, the share whose best label is right, and that has a right one among five.
struct ZeroShot {
  std::size_t labelled = 0;
  double top1 = 0, top5 = 0;
  std::vector<bool> right;  ///< of every row; false where the class is not known
};
/// accepted[i]: the labels that are right for row i; empty: not known.
ZeroShot zero_shot(std::span<const float> images, std::span<const float> labels, std::size_t dim,
                   std::span<const std::vector<std::size_t>> accepted);

}  // namespace tandem::verify
