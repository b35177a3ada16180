// Inputs and vectors of a benchmark in a device's memory, for --io device.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "tandem/engine.h"

namespace tandem::cli {

/// Images that were uploaded before anything is timed, one behind the other.
class BenchPixels {
 public:
  /// Replaces HostPixels of one size by DevicePixels. Throws unsupported where the device is not the library's to use.
  BenchPixels(DeviceId device, std::vector<ImageInput>& images);

 private:
  Buffer pixels_;
};

/// Room for the vectors of `inputs` inputs that are embedded in turn, `batch` at a time.
class BenchVectors {
 public:
  BenchVectors(DeviceId device, std::size_t inputs, std::size_t batch, int width);
  /// Where the vectors of the batch go that begins with input `first`.
  DeviceVectors at(std::size_t first) const;
  /// Every input's latest vector. Throws internal where one is missing or not finite.
  std::vector<Embedding> download() const;

 private:
  DeviceId device_;
  std::size_t inputs_, batch_;
  int width_;
  Buffer values_;
};

}  // namespace tandem::cli
