#include "backend/cpu/features.h"

#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>

namespace tandem::backend::cpu {
namespace {

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf = 0) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

bool bit(unsigned value, int i) {
  return ((value >> i) & 1U) != 0;
}

/// The register files that the operating system saves (XCR0).
std::uint64_t saved_state() {
  if (!bit(cpuid(1).ecx, 27)) return 0;
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<std::uint64_t>(high) << 32) | low;
}

/// Linux hands out AMX's tile registers on request, per process (Documentation/arch/x86/xstate.rst).
bool request_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

/// Cores that the control group pays for, rounded up; 0: no limit.
int quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  double limit = 0, period = 0;
  if (file >> limit >> period && period > 0) return static_cast<int>(std::ceil(limit / period));
  return 0;
}

}  // namespace

Features detect_features() {
  Features f;
  const std::uint64_t state = saved_state();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  const Registers one = cpuid(1), seven = cpuid(7), seven_one = cpuid(7, 1);
  f.avx2 = ymm && bit(one.ecx, 12) && bit(one.ecx, 28) && bit(seven.ebx, 5);
  f.avx512 = f.avx2 && zmm && bit(seven.ebx, 16) && bit(seven.ebx, 17) && bit(seven.ebx, 30) && bit(seven.ebx, 31);
  f.avx512_vnni = f.avx512 && bit(seven.ecx, 11);
  f.avx512_bf16 = f.avx512_vnni && bit(seven_one.eax, 5);
  f.amx_bf16 = f.avx512_bf16 && tiles && bit(seven.edx, 22) && bit(seven.edx, 24) && request_tiles();
  return f;
}

std::string processor_name() {
  if (cpuid(0x80000000U).eax < 0x80000004U) return "x86-64 processor";
  char text[49] = {};
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002U + i);
    std::memcpy(text + 16 * i, &r, sizeof r);
  }
  std::string name(text);
  const auto first = name.find_first_not_of(' '), last = name.find_last_not_of(' ');
  return first == std::string::npos ? "x86-64 processor" : name.substr(first, last - first + 1);
}

std::vector<int> usable_cores() {
  std::vector<int> cores;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    // Of the threads that share a core, only the first: matrix products fill a core's arithmetic units alone. The list
    // reads "3,67" or "6-7"; only its first number matters.
    std::ifstream siblings("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
    int first = cpu;
    if (siblings >> first && first != cpu && first >= 0 && first < CPU_SETSIZE && CPU_ISSET(first, &set)) continue;
    cores.push_back(cpu);
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

int default_threads() {
  const int cores = static_cast<int>(usable_cores().size()), limit = quota();
  return limit > 0 ? std::min(cores, limit) : cores;
}

}  // namespace tandem::backend::cpu
