#include "model/shard.h"

#include <cstring>
#include <utility>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

Shape with_outer(const Shape& s, std::int64_t outer) {
  return s.rank() == 1 ? Shape{outer} : Shape{outer, s[1]};
}

void check_tower_ranks(const char* tower, const TowerConfig& c, int ranks) {
  if (c.heads % ranks == 0 && c.mlp % ranks == 0) return;
  throw Error(Code::invalid_argument, cat("the ", tower, " tower's ", c.heads, " heads and ", c.mlp,
                                          " MLP columns do not divide over ", ranks, " ranks evenly: use fewer"));
}

}  // namespace

Shape shard_shape(const WeightSpec& spec, int ranks) {
  switch (spec.shard) {
    case Shard::replicated: return spec.shape;
    case Shard::columns: return {spec.shape[0], spec.shape[1] / ranks};
    case Shard::rows:
    case Shard::heads: return with_outer(spec.shape, spec.shape[0] / ranks);
  }
  return spec.shape;
}

WeightReader::Loaded shard(WeightReader::Loaded whole, Shard how, int rank, int ranks) {
  if (ranks == 1 || how == Shard::replicated) return whole;
  const ConstView v = whole.view;
  WeightReader::Loaded part;
  part.owned = host_tensor(v.dtype, shard_shape({"", v.shape, how}, ranks));
  part.view = part.owned.view();
  std::byte* to = part.owned.view().data;
  const std::size_t bytes = part.view.bytes();
  if (how == Shard::columns) {
    const std::int64_t columns = v.columns() / ranks;
    convert(v.column_range(rank * columns, columns), part.owned.view());
    return part;
  }
  // q, k and v stand one after another, each rank's heads inside them likewise.
  const std::size_t groups = how == Shard::heads ? 3 : 1, each = bytes / groups;
  for (std::size_t g = 0; g < groups; ++g) {
    const auto from = (g * static_cast<std::size_t>(ranks) + static_cast<std::size_t>(rank)) * each;
    std::memcpy(to + g * each, v.data + from, each);
  }
  return part;
}

void check_ranks(const Config& config, int rank, int ranks) {
  if (ranks < 1 || rank < 0 || rank >= ranks) {
    throw Error(Code::invalid_argument, cat("rank ", rank, " of ", ranks, " does not exist"));
  }
  check_tower_ranks("vision", config.vision, ranks);
  check_tower_ranks("text", config.text, ranks);
}

}  // namespace tandem::model
