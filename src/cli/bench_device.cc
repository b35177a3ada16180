#include "cli/bench_device.h"

#include <algorithm>
#include <cmath>

#include "base/strings.h"
#include "engine/backends.h"

namespace tandem::cli {

BenchPixels::BenchPixels(DeviceId device, std::vector<ImageInput>& images) {
  if (images.empty()) return;
  const auto backend = engine::make_backend(device, {.threads = 1});
  const std::size_t bytes = std::get<HostPixels>(images.front()).pixels->size();
  pixels_ = backend->allocate(images.size() * bytes);
  for (std::size_t i = 0; i < images.size(); ++i) {
    const HostPixels host = std::get<HostPixels>(images[i]);
    std::byte* place = pixels_.data() + i * bytes;
    backend->upload(host.pixels->data(), {place, DType::u8, {static_cast<std::int64_t>(bytes)}});
    images[i] = DevicePixels{device, place, host.width, host.height};
  }
  backend->synchronize();
}

// A batch may begin with the last inputs and go on with the first: then its vectors stand behind the last.
BenchVectors::BenchVectors(DeviceId device, std::size_t inputs, std::size_t batch, int width)
    : device_(device), inputs_(inputs), batch_(batch), width_(width) {
  const auto backend = engine::make_backend(device, {.threads = 1});
  const std::vector<float> nothing((inputs + batch) * static_cast<std::size_t>(width));
  values_ = backend->allocate(nothing.size() * sizeof(float));
  backend->upload(nothing.data(), {values_.data(), DType::f32, {static_cast<std::int64_t>(nothing.size())}});
  backend->synchronize();
}

DeviceVectors BenchVectors::at(std::size_t first) const {
  auto* values = reinterpret_cast<float*>(values_.data()) + first * static_cast<std::size_t>(width_);
  return {device_, values, batch_, width_};
}

std::vector<Embedding> BenchVectors::download() const {
  const auto width = static_cast<std::size_t>(width_);
  std::vector<float> all((inputs_ + batch_) * width);
  engine::make_backend(device_, {.threads = 1})
      ->download({values_.data(), DType::f32, {static_cast<std::int64_t>(all.size())}}, all.data());
  std::vector<Embedding> out(inputs_);
  for (std::size_t i = 0; i < inputs_; ++i) {
    for (std::size_t row = i; row < inputs_ + batch_ && out[i].values.empty(); row += inputs_) {
      const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row * width);
      const auto end = begin + static_cast<std::ptrdiff_t>(width);
      if (std::any_of(begin, end, [](float v) { return v != 0; })) out[i].values.assign(begin, end);
    }
    const auto& v = out[i].values;
    if (v.empty() || !std::all_of(v.begin(), v.end(), [](float x) { return std::isfinite(x); })) {
      throw Error(Code::internal, cat("the vector of input ", i, v.empty() ? " was not computed" : " is not finite"));
    }
  }
  return out;
}

}  // namespace tandem::cli
