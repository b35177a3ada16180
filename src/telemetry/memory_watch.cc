#include "telemetry/memory_watch.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tandem::telemetry {
namespace {

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t all = 0, resident = 0;
  file >> all >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

/// "VmHWM:   123 kB" of /proc/self/status, in bytes.
void read_status(ProcessFacts& facts) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string name;
    std::size_t kilobytes = 0;
    words >> name >> kilobytes;
    if (name == "VmHWM:") facts.peak_resident_bytes = kilobytes << 10;
    if (name == "VmRSS:") facts.resident_bytes = kilobytes << 10;
    if (name == "VmSize:") facts.virtual_bytes = kilobytes << 10;
  }
}

/// When this process began, since 1970: the machine's start and field 22 of /proc/self/stat, in ticks since then.
double start_seconds() {
  std::string text;
  std::getline(std::ifstream("/proc/self/stat"), text);
  const std::size_t after_name = text.rfind(')');
  if (after_name == std::string::npos) return 0;
  std::istringstream words(text.substr(after_name + 1));
  std::string word;
  for (int field = 3; field <= 22; ++field) words >> word;
  double boot = 0;
  std::ifstream file("/proc/stat");
  for (std::string name; file >> name;) {
    if (name == "btime") {
      file >> boot;
      break;
    }
  }
  return boot + std::strtod(word.c_str(), nullptr) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

ProcessFacts process_facts() {
  ProcessFacts facts;
  read_status(facts);
  facts.start_seconds = start_seconds();
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    for (const timeval& part : {usage.ru_utime, usage.ru_stime}) {
      facts.cpu_seconds += static_cast<double>(part.tv_sec) + static_cast<double>(part.tv_usec) / 1e6;
    }
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.max_files = limit.rlim_cur;
  std::error_code error;
  for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end; at.increment(error)) {
    ++facts.open_files;
  }
  if (facts.open_files > 0) --facts.open_files;  // the folder's own
  return facts;
}

void MemoryWatch::sample(std::uint64_t requests) {
  {
    const std::lock_guard lock(mutex_);
    if (requests < kWarmUp || requests < last_ + kApart) return;
  }
  add(requests, resident_bytes());
}

void MemoryWatch::add(std::uint64_t requests, std::size_t bytes) {
  const std::lock_guard lock(mutex_);
  last_ = requests;
  samples_.push_back({static_cast<double>(requests), static_cast<double>(bytes)});
  if (samples_.size() > kSamples) samples_.pop_front();
}

double MemoryWatch::growth_per_1000() const {
  const std::lock_guard lock(mutex_);
  if (samples_.size() < 3) return 0;
  const auto n = static_cast<double>(samples_.size());
  double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
  for (const Sample& s : samples_) mean_x += s.requests / n, mean_y += s.bytes / n;
  for (const Sample& s : samples_) {
    xx += (s.requests - mean_x) * (s.requests - mean_x);
    xy += (s.requests - mean_x) * (s.bytes - mean_y);
  }
  return xx > 0 ? 1000 * xy / xx : 0;
}

std::size_t MemoryWatch::samples() const {
  const std::lock_guard lock(mutex_);
  return samples_.size();
}

}  // namespace tandem::telemetry
