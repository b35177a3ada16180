// Sums over the ranks that share a model. The forward pass is written against this; alone, every call is the identity.
#pragma once

#include "tensor/tensor.h"

namespace tandem::parallel {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const noexcept = 0;
  virtual int size() const noexcept = 0;
  /// x = sum of every rank's x. `stream` is the backend's stream of work (null on the host), so that the sum can be
  /// captured in a graph together with the kernels around it.
  virtual void all_reduce_sum(View x, void* stream) = 0;
};

/// One rank.
class Alone final : public Communicator {
 public:
  int rank() const noexcept override { return 0; }
  int size() const noexcept override { return 1; }
  void all_reduce_sum(View, void*) override {}
};

}  // namespace tandem::parallel
