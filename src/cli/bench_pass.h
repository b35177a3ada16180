// Passes of a model on one backend, without the engine's queue and threads: for looking into a pass.
#pragma once

#include <span>
#include <vector>

#include "backend/backend.h"
#include "cli/bench_inputs.h"
#include "cli/bench_options.h"
#include "model/model.h"
#include "tensor/arena.h"

namespace tandem::cli {

class BenchPass {
 public:
  /// Loads the towers that the inputs need and allocates for `batch` items of each. Both references must stay. Throws
  /// what loading throws, and out_of_memory.
  BenchPass(backend::Backend& backend, const model::ModelFiles& files, const BenchOptions& options,
            const BenchInputs& inputs, std::size_t batch);

  /// One batch, beginning with input `first` (they come round again), from host memory to vectors in host memory: the
  /// operations that a replica of the engine issues for it. Returns when they are done.
  void images(std::size_t first);
  void texts(std::size_t first);

  const model::Model& model() const noexcept { return model_; }

 private:
  void fetch(ConstView vectors);

  backend::Backend& backend_;
  const BenchInputs& inputs_;
  const std::size_t batch_;
  const bool beside_;  ///< the device works beside the host
  model::Model model_;
  parallel::Alone alone_;
  Arena arena_;
  Buffer pixels_, vectors_;
  std::vector<std::span<const std::int32_t>> ids_;
  model::PackedTexts packed_;
};

}  // namespace tandem::cli
