// What `tandem bench` was asked for.
#pragma once

#include <cstdint>
#include <string>

#include "cli/common.h"
#include "cli/sweep.h"

namespace tandem::cli {

enum class What : std::uint8_t { image, text, both };
enum class Io : std::uint8_t { host, device };

/// Of --sweep.
struct SweepOptions {
  bool wanted = false;
  std::vector<Precision> precisions;  ///< empty: all that the device computes
  std::vector<int> batches{1, 2, 4, 8, 16, 32, 64, 128, 256};
  double seconds = 60, most_ms = 0, least_cosine = 0.99;
  Goal goal = Goal::latency;
};

struct BenchOptions {
  CommonOptions common;
  What what = What::image;
  Io io = Io::host;
  int batch = 0, text_length = 16, warmup = 4, runs = 10, in_flight = 1;
  std::string text_lengths, input, output, tune;
  double min_seconds = 0;
  bool stages = false;
  SweepOptions sweep;
};

/// "image", "text", "both".
const char* name_of(What what);

}  // namespace tandem::cli
