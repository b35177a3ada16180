// Microseconds of every fused operation on a GPU at the shapes of the published models: one JSON line each, so that the
// time of a forward pass can be placed. Operations are captured into a graph, many in a row with weights that change
// from one to the next, and the graph is loaded and then timed: no launch stands between two of them, and no weight is
// still in the cache.
#include <cuda_runtime_api.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>

#include "backend/cuda/loader.h"
#include "base/strings.h"

namespace tandem::bench {
namespace {

using namespace tandem::backend;  // NOLINT(google-build-using-namespace): a program about it

struct Tower {
  const char* name;
  std::int64_t tokens, width;
  int heads, head_dim;
  std::int64_t mlp;
  ActivationFn fn;
  int image, patch;
};
constexpr Tower kTowers[] = {
    {"B-32", 50, 768, 12, 64, 3072, ActivationFn::quick_gelu, 224, 32},
    {"L-14-336", 577, 1024, 16, 64, 4096, ActivationFn::quick_gelu, 336, 14},
    {"H-14", 257, 1280, 16, 80, 5120, ActivationFn::gelu_erf, 224, 14},
};
constexpr int kWeights = 8;  // distinct ones

void require(cudaError_t e) {
  if (e != cudaSuccess) throw Error(Code::device_failure, cudaGetErrorString(e));
}

class Timer {
 public:
  Timer(Backend& backend, double seconds)
      : backend_(backend), stream_(static_cast<cudaStream_t>(backend.stream())), seconds_(seconds) {
    require(cudaEventCreate(&begin_));
    require(cudaEventCreate(&end_));
  }
  /// Microseconds of one op(i).
  double operator()(const std::function<void(int)>& op) {
    for (int i = 0; i < kWeights; ++i) op(i);
    backend_.synchronize();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    require(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
    for (int i = 0; i < kWeights; ++i) op(i);
    require(cudaStreamEndCapture(stream_, &graph));
    require(cudaGraphInstantiate(&exec, graph, 0));
    const double once = timed(exec, 1);
    // As long under load as timed: a GPU that meets its power limit slows down within a second.
    const int runs = std::max(3, static_cast<int>(seconds_ * 1e6 / std::max(once, 1.0)));
    timed(exec, runs);
    const double total = timed(exec, runs);
    require(cudaGraphExecDestroy(exec));
    require(cudaGraphDestroy(graph));
    return total / runs / kWeights;
  }

 private:
  double timed(cudaGraphExec_t exec, int runs) {
    require(cudaEventRecord(begin_, stream_));
    for (int i = 0; i < runs; ++i) require(cudaGraphLaunch(exec, stream_));
    require(cudaEventRecord(end_, stream_));
    require(cudaEventSynchronize(end_));
    float ms = 0;
    require(cudaEventElapsedTime(&ms, begin_, end_));
    return ms * 1000.0;
  }

  Backend& backend_;
  cudaStream_t stream_;
  double seconds_;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// Normal values: what constant ones would save in power would flatter.
class Data {
 public:
  Data(Backend& backend, DType type) : backend_(backend), type_(type), some_(host_tensor(type, {1, kSome})) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 1);
    Tensor values = host_tensor(DType::f32, {1, kSome});
    for (std::int64_t i = 0; i < kSome; ++i) values.view().as<float>()[i] = normal(random);
    convert(values.view(), some_.view());
  }
  View matrix(std::int64_t rows, std::int64_t columns) {
    const auto size = static_cast<std::int64_t>(size_of(type_)), all = rows * columns;
    buffers_.push_back(backend_.allocate(static_cast<std::size_t>(all * size)));
    std::byte* data = buffers_.back().data();
    for (std::int64_t at = 0; at < all; at += kSome) {
      backend_.upload(some_.view().data, {data + at * size, type_, {std::min(kSome, all - at)}});
    }
    return {data, type_, {rows, columns}};
  }
  /// [outputs, inputs], values of the size that a trained layer has.
  std::unique_ptr<PreparedWeight> weight(std::int64_t outputs, std::int64_t inputs, Precision precision) {
    Tensor host = host_tensor(DType::f32, {outputs, inputs});
    std::mt19937 random(static_cast<unsigned>(++made_));
    std::uniform_real_distribution<float> uniform(-1, 1);
    const float spread = 1 / std::sqrt(static_cast<float>(inputs));
    for (std::int64_t i = 0; i < outputs * inputs; ++i) host.view().as<float>()[i] = spread * uniform(random);
    return backend_.prepare_linear(host.view(), precision);
  }

 private:
  static constexpr std::int64_t kSome = std::int64_t{1} << 22;
  Backend& backend_;
  DType type_;
  Tensor some_;
  std::vector<Buffer> buffers_;
  int made_ = 0;
};

struct Layer {
  std::unique_ptr<PreparedWeight> qkv, out, fc1, fc2;
};

void measure(Backend& backend, const Tower& t, std::int64_t batch, Precision precision, double seconds,
             const std::vector<Layer>& layers) {
  Timer time(backend, seconds);
  const ComputeTypes types = backend.types(precision);
  const auto size = static_cast<double>(size_of(types.activation)), kept = static_cast<double>(size_of(types.residual));
  const std::int64_t rows = batch * t.tokens;
  Data data(backend, types.activation), residuals(backend, types.residual);
  const View x = residuals.matrix(rows, t.width), h = data.matrix(rows, t.width), wide = data.matrix(rows, t.mlp);
  const View qkv{wide.data, wide.dtype, {rows, 3 * t.width}};
  const std::vector<float> ones(static_cast<std::size_t>(t.mlp), 0.1F);
  const auto vector = [&](std::int64_t n) {
    return backend.prepare_vector({reinterpret_cast<const std::byte*>(ones.data()), DType::f32, {n}});
  };
  const Tensor gamma = vector(t.width), bias = vector(t.width), bias_qkv = vector(3 * t.width),
               bias_mlp = vector(t.mlp);
  const auto m = static_cast<double>(rows), d = static_cast<double>(t.width);

  const auto report = [&](const char* op, double flops, double bytes, const std::function<void(int)>& run) {
    const double us = time(run);
    const nlohmann::ordered_json line{{"tower", t.name},
                                      {"batch", batch},
                                      {"op", op},
                                      {"precision", std::string(to_string(precision))},
                                      {"us", us},
                                      {"tflops", flops / us / 1e6},
                                      {"gbps", bytes / us / 1e3}};
    std::cout << line.dump() << std::endl;
  };
  const auto product = [&](const char* op, const std::unique_ptr<PreparedWeight> Layer::*weight, View in,
                           const Tensor& b, View out, ActivationFn fn, bool residual) {
    const double n = static_cast<double>(out.columns()), k = static_cast<double>(in.columns());
    report(op, 2 * m * n * k, size * (m * k + n * k) + (residual ? 2 * kept : size) * m * n, [&](int i) {
      backend.linear({in,
                      (layers[static_cast<std::size_t>(i)].*weight).get(),
                      b.view(),
                      fn,
                      residual ? ConstView(out) : ConstView(),
                      {out, {}}});
    });
  };
  report("layer_norm", 8 * m * d, (kept + size) * m * d, [&](int) {
    backend.layer_norm({x, gamma.view(), gamma.view(), 1e-5F, {h, {}}});
  });
  product("qkv", &Layer::qkv, h, bias_qkv, qkv, ActivationFn::none, false);
  AttentionArgs a;
  a.q = qkv.column_range(0, t.width), a.k = qkv.column_range(t.width, t.width);
  a.v = qkv.column_range(2 * t.width, t.width), a.out = h;
  a.queries = a.keys = {batch, t.tokens, rows, nullptr};
  a.heads = t.heads, a.head_dim = t.head_dim, a.precision = precision;
  report("attention", 4 * m * static_cast<double>(t.tokens) * d, size * 4 * m * d, [&](int) { backend.attention(a); });
  product("out", &Layer::out, h, bias, x, ActivationFn::none, true);
  product("fc1", &Layer::fc1, h, bias_mlp, wide, t.fn, false);
  product("fc1 without activation", &Layer::fc1, h, bias_mlp, wide, ActivationFn::none, false);
  product("fc2", &Layer::fc2, wide, bias, x, ActivationFn::none, true);
  AttentionArgs last = a;
  last.q = h.row_range(0, batch), last.out = h.row_range(batch, batch);
  last.queries = {batch, 1, batch, nullptr};
  if (rows >= 2 * batch) {
    report("attention, one query", 4 * m * d, size * 2 * m * d, [&](int) { backend.attention(last); });
  }
}

void measure_patches(Backend& backend, const Tower& t, std::int64_t batch, Precision precision, double seconds) {
  Timer time(backend, seconds);
  const std::int64_t area = static_cast<std::int64_t>(t.patch) * t.patch, inputs = 3 * area;
  Data data(backend, backend.types(precision).residual);
  const View out = data.matrix(batch * t.tokens, t.width);
  const float mean[3] = {0.48F, 0.46F, 0.41F}, std[3] = {0.27F, 0.26F, 0.28F};
  Tensor kernel = host_tensor(DType::f32, {t.width, 3, t.patch, t.patch});
  std::mt19937 random(1);
  for (std::int64_t i = 0; i < t.width * inputs; ++i) {
    kernel.view().as<float>()[i] = 0.01F * (static_cast<float>(random() % 2001) / 1000 - 1);
  }
  const auto weight = backend.prepare_patch_embed(kernel.view(), {}, mean, std, 1.0F / 255, precision);
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(batch * t.image * t.image * 3));
  for (auto& p : pixels) p = static_cast<std::uint8_t>(random());
  const Buffer on_device = backend.allocate(pixels.size());
  PatchEmbedArgs a;
  a.pixels = {on_device.data(), DType::u8, {batch, t.image, t.image, 3}};
  backend.upload(pixels.data(), {on_device.data(), DType::u8, {batch, t.image, t.image, 3}});
  const std::vector<float> zeros(static_cast<std::size_t>(t.tokens * t.width), 0.0F);
  const Tensor position =
      backend.prepare_vector({reinterpret_cast<const std::byte*>(zeros.data()), DType::f32, {t.tokens, t.width}});
  const Tensor first =
      backend.prepare_vector({reinterpret_cast<const std::byte*>(zeros.data()), DType::f32, {t.width}});
  const std::size_t scratch = backend.patch_embed_scratch(batch, t.image, t.patch, t.width, precision);
  const Buffer room = backend.allocate(scratch);
  a.weight = weight.get(), a.class_embedding = first.view(), a.position = position.view(), a.out = out;
  a.patch = t.patch, a.scratch = {room.data(), DType::u8, {static_cast<std::int64_t>(scratch)}};
  const double us = time([&](int) { backend.patch_embed(a); });
  const double flops = 2.0 * static_cast<double>(batch * (t.tokens - 1) * inputs * t.width);
  const nlohmann::ordered_json line{{"tower", t.name},
                                    {"batch", batch},
                                    {"op", "patch_embed"},
                                    {"precision", std::string(to_string(precision))},
                                    {"us", us},
                                    {"tflops", flops / us / 1e6}};
  std::cout << line.dump() << std::endl;
}

int run(int argc, char** argv) {
  const Precision precision = parse_precision(argc > 1 ? argv[1] : "fp16");
  const double seconds = argc > 2 ? std::stod(argv[2]) : 0.2;
  const std::string only = argc > 3 ? argv[3] : "all";
  const std::string tuning = argc > 4 ? argv[4] : "";
  const auto backend = make_cuda_backend(0);
  if (!tuning.empty()) backend->start_tuning();
  for (const Tower& t : kTowers) {
    if (only != "all" && only != t.name) continue;
    Data data(*backend, backend->types(precision).activation);
    std::vector<Layer> layers(kWeights);
    for (Layer& layer : layers) {
      layer.qkv = data.weight(3 * t.width, t.width, precision);
      layer.out = data.weight(t.width, t.width, precision);
      layer.fc1 = data.weight(t.mlp, t.width, precision);
      layer.fc2 = data.weight(t.width, t.mlp, precision);
    }
    const std::vector<std::int64_t> some{1, 16, 256}, all{1, 2, 4, 8, 16, 32, 64, 128, 256};
    for (const std::int64_t batch : tuning.empty() ? some : all) {
      measure_patches(*backend, t, batch, precision, seconds);
      measure(*backend, t, batch, precision, seconds, layers);
    }
  }
  if (!tuning.empty()) {
    std::ofstream file(tuning);
    file << backend->tuned();
    if (!file.flush()) throw Error(Code::io_error, tuning + " cannot be written");
  }
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  try {
    return tandem::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "usage: tandem_cuda_operations [PRECISION [SECONDS [all|B-32|L-14-336|H-14 [TUNING_FILE]]]]: "
              << error.what() << '\n';
    return 1;
  }
}
