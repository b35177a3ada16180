// Shapes of common models' passes, and values for them, for the programs that look at single operations on a GPU.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace tandem::bench {

using namespace tandem::backend;  // NOLINT(google-build-using-namespace): programs about it

/// `image` 0: a text tower.
struct Tower {
  const char* name;
  std::int64_t tokens, width;
  int heads, head_dim;
  std::int64_t mlp;
  ActivationFn fn;
  int image, patch;
  std::int64_t embed;
};
constexpr Tower kTowers[] = {
    {"B-32", 50, 768, 12, 64, 3072, ActivationFn::quick_gelu, 224, 32, 512},
    {"L-14", 257, 1024, 16, 64, 4096, ActivationFn::quick_gelu, 224, 14, 768},
    {"L-14-336", 577, 1024, 16, 64, 4096, ActivationFn::quick_gelu, 336, 14, 768},
    {"H-14", 257, 1280, 16, 80, 5120, ActivationFn::gelu_erf, 224, 14, 1024},
    {"B-32-text", 77, 512, 8, 64, 2048, ActivationFn::quick_gelu, 0, 0, 512},
    {"L-14-text", 77, 768, 12, 64, 3072, ActivationFn::quick_gelu, 0, 0, 768},
    {"H-14-text", 77, 1024, 16, 64, 4096, ActivationFn::gelu_erf, 0, 0, 1024},
};

/// Normal values: what constant ones would save in power would flatter.
class Data {
 public:
  Data(Backend& backend, DType type);
  View matrix(std::int64_t rows, std::int64_t columns);
  /// [outputs, inputs], values of the size that a trained layer has, different ones each time.
  std::unique_ptr<PreparedWeight> weight(std::int64_t outputs, std::int64_t inputs, Precision precision);
  /// The same for norm_linear().
  std::unique_ptr<PreparedWeight> norm_weight(std::int64_t outputs, std::int64_t inputs, Precision precision);
  std::unique_ptr<PreparedWeight> projection(std::int64_t outputs, std::int64_t inputs);
  Tensor vector(std::int64_t size) { return backend_.prepare_vector(random_weight(1, size).view()); }

 private:
  static constexpr std::int64_t kSome = std::int64_t{1} << 22;
  Tensor random_weight(std::int64_t outputs, std::int64_t inputs);

  Backend& backend_;
  DType type_;
  Tensor some_;
  std::vector<Buffer> buffers_;
  int made_ = 0;
};

/// Random pictures of a tower and what turns them into tokens, in the device's memory.
class Patches {
 public:
  Patches(Backend& backend, const Tower& t, std::int64_t batch, Precision precision);
  void embed() { backend_.patch_embed(args_); }
  double flops() const { return flops_; }
  double bytes() const { return bytes_; }  ///< read and written at least

 private:
  Backend& backend_;
  Data data_;
  std::unique_ptr<PreparedWeight> weight_;
  Buffer pixels_, scratch_;
  Tensor position_, class_embedding_;
  PatchEmbedArgs args_;
  double flops_ = 0, bytes_ = 0;
};

/// Every product of the towers named `only` ("all": of all), at the sizes that passes of 1 to 256 items have, on a
/// backend that is tuning. Says on standard error which tower it is at.
void tune_towers(Backend& backend, Precision precision, const std::string& only);

}  // namespace tandem::bench
