// What this processor and its operating system can do.
#pragma once

#include <string>
#include <vector>

namespace tandem::backend::cpu {

struct Features {
  bool avx2 = false;    ///< with FMA
  bool avx512 = false;  ///< F, BW, DQ, VL
  bool avx512_vnni = false;
  bool avx512_bf16 = false;  ///< with VNNI
  bool amx_bf16 = false;     ///< and the kernel has granted the tiles
};

/// Asks CPUID, XGETBV and, for AMX, the kernel.
Features detect_features();

/// "AMD EPYC 9654 96-Core Processor"
std::string processor_name();

/// One logical processor for every physical core that this process may run on, in order. Never empty.
std::vector<int> usable_cores();

/// How many threads are worth having: the cores above, but not more than the control group's share of time.
int default_threads();

}  // namespace tandem::backend::cpu
