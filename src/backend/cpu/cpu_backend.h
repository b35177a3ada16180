// The fast implementation for x86-64 processors: own vector kernels for every operation, chosen for the machine when
// the backend is made, and oneDNN for matrix products where the chip has AMX.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "backend/shared_cores.h"

namespace tandem::backend {

/// Who multiplies matrices. Both read the same packed weights.
enum class GemmEngine : std::uint8_t {
  automatic,  ///< oneDNN for bf16 where the chip has AMX, own kernels elsewhere
  own,
  onednn,  ///< wherever it takes the shape and this file's packing (AVX-512); own kernels for the rest
};

struct CpuOptions {
  int threads = 0;   ///< threads of one operation; 0: one per physical core that this process may use
  bool pin = false;  ///< bind thread i to the i-th usable core
  /// "sse2" (or "scalar"), "avx2", "avx512", "avx512_vnni", "avx512_bf16"; empty: the best that this machine has.
  std::string isa;
  GemmEngine gemm = GemmEngine::automatic;
  int first_core = 0;  ///< with `pin`: thread i is bound to usable core first_core + i, and round again
  /// Of backends that have the same cores: each pass takes its part of `threads`. Null: this one has its cores for
  /// itself. Not heeded where oneDNN multiplies.
  std::shared_ptr<SharedCores> shared = {};
};

/// Whether passes of several backends can divide this machine's threads (CpuOptions::shared).
bool cpu_passes_divide_threads();

/// Throws unsupported, naming the ISA, when this machine lacks `options.isa`, and invalid_argument for an unknown name.
std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace tandem::backend
