// Compiled with AVX-512 and its products of bf16 and int8; see kernels.h for what may be included here.
#include <immintrin.h>

#include "backend/cpu/kernels.h"

#define TANDEM_ISA_NAME "avx512_bf16"
#define TANDEM_BF16 1
#define TANDEM_VNNI 1
#define TANDEM_MAX_ROWS 7
#define TANDEM_PANEL_VECTORS 4

namespace tandem::backend::cpu {
namespace {

#include "backend/cpu/vector_avx512.inc"

// The shared bodies, over V.
#include "backend/cpu/table.inc"
}  // namespace

const Kernels& avx512_bf16_kernels() {
  return kTable;
}

}  // namespace tandem::backend::cpu
