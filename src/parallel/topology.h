// How ranks divide the work: a value, no library of collectives in sight.
#pragma once

namespace tandem::parallel {

/// Place of a rank along each way of dividing.
struct Coord {
  int data = 0, pipeline = 0, tensor = 0;
  friend constexpr bool operator==(const Coord&, const Coord&) = default;
};

/// Ranks are numbered with the tensor dimension fastest: neighbours exchange most.
struct Topology {
  int data = 1;      ///< replicas that see different items
  int pipeline = 1;  ///< stages that hold different blocks
  int tensor = 1;    ///< ranks that share every block's matrices
  constexpr int size() const noexcept { return data * pipeline * tensor; }
  constexpr Coord coord(int rank) const noexcept {
    return {rank / (tensor * pipeline), rank / tensor % pipeline, rank % tensor};
  }
};
static_assert(Topology{2, 1, 4}.coord(5) == Coord{1, 0, 1});

}  // namespace tandem::parallel
