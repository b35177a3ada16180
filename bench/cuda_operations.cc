// Microseconds of every fused operation on a GPU at the shapes of the published models: one JSON line each, so that the
// time of a forward pass can be placed. Operations are captured into a graph, many in a row with weights that change
// from one to the next, and the graph is loaded and then timed: no launch stands between two of them, and no weight is
// still in the cache.
#include <cuda_runtime_api.h>

#include <functional>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "backend/cuda/loader.h"
#include "backend/tuning.h"
#include "base/strings.h"
#include "cuda_shapes.h"

namespace tandem::bench {
namespace {

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

/// What this GPU reaches under load in this run: of the largest products, and of its memory.
struct Ceiling {
  double tflops = 0, gbps = 0;
};

Ceiling measure_ceiling(Backend& backend, Precision precision, double seconds) {
  constexpr std::int64_t kSide = 8192;
  Timer time(backend, std::max(seconds, 0.5));
  Data data(backend, backend.types(precision).activation);
  const View in = data.matrix(kSide, kSide), out = data.matrix(kSide, kSide);
  const auto weight = data.weight(kSide, kSide, precision);
  const double product = time([&](int) { backend.linear({in, weight.get(), {}, ActivationFn::none, {}, {out, {}}}); });
  const auto bytes = static_cast<double>(in.bytes());
  const auto stream = static_cast<cudaStream_t>(backend.stream());
  const double copy =
      time([&](int) { require(cudaMemcpyAsync(out.data, in.data, in.bytes(), cudaMemcpyDeviceToDevice, stream)); });
  return {2.0 * kSide * kSide * kSide / product / 1e6, 2 * bytes / copy / 1e3};
}

/// Prints a JSON line an operation, and keeps them for a table.
class Report {
 public:
  Report(Precision precision, Ceiling ceiling) : precision_(precision), ceiling_(ceiling) {
    print({{"op", "ceiling"}, {"precision", name()}, {"tflops", ceiling.tflops}, {"gbps", ceiling.gbps}});
  }
  /// `share`: of the time that the ceiling's rates allow, the larger of the two for the arithmetic and for the bytes.
  void operator()(const Tower& t, std::int64_t batch, const char* op, double flops, double bytes, double us) {
    const double arithmetic = flops / ceiling_.tflops / 1e6, memory = bytes / ceiling_.gbps / 1e3;
    lines_.push_back({{"tower", t.name},
                      {"batch", batch},
                      {"op", op},
                      {"precision", name()},
                      {"us", us},
                      {"tflops", flops / us / 1e6},
                      {"gbps", bytes / us / 1e3},
                      {"limit", arithmetic >= memory ? "arithmetic" : "memory"},
                      {"share", std::max(arithmetic, memory) / us}});
    print(lines_.back());
  }
  /// A roofline in Markdown.
  void table(std::ostream& out) const {
    out << std::fixed << std::setprecision(1) << "\nLarge products reach " << ceiling_.tflops
        << " TFLOP/s here, copies " << ceiling_.gbps << " GB/s.\n\n"
        << "| tower | batch | operation | us | TFLOP/s | GB/s | limited by | share "
           "|\n|---|--:|---|--:|--:|--:|---|--:|\n";
    for (const Json& l : lines_) {
      out << "| " << l["tower"].get<std::string>() << " | " << l["batch"] << " | " << l["op"].get<std::string>()
          << " | " << l["us"].get<double>() << " | " << l["tflops"].get<double>() << " | " << l["gbps"].get<double>()
          << " | " << l["limit"].get<std::string>() << " | " << 100 * l["share"].get<double>() << " % |\n";
    }
  }

 private:
  using Json = nlohmann::ordered_json;
  std::string name() const { return std::string(to_string(precision_)); }
  static void print(const Json& line) { std::cout << line.dump() << std::endl; }

  Precision precision_;
  Ceiling ceiling_;
  std::vector<Json> lines_;
};

struct Layer {
  std::unique_ptr<PreparedWeight> qkv, out, fc1, fc2;
};

/// A line of a tuning file (src/backend/cuda/product_choice.cc) for a product of E4M3.
std::string choice_line(std::int64_t rows, std::int64_t outputs, std::int64_t inputs, ActivationFn fn, bool residual,
                        DType out, const std::string& kernel) {
  std::int64_t power = 256;
  while (power * 2 < rows) power *= 2;
  const std::int64_t bucket = rows <= 256 ? rows : (rows + power / 16 - 1) / (power / 16) * (power / 16);
  const int kind = static_cast<int>(DType::f8e4m3) * 64 + static_cast<int>(out) * 8 + (residual ? 4 : 0) + 2 +
                   static_cast<int>(fn) * 512;
  return cat("product 1 ", bucket, ' ', outputs, ' ', inputs, ' ', kind, ' ', kernel, '\n');
}

void measure(Backend& backend, const Tower& t, std::int64_t batch, Precision precision, double seconds,
             const std::vector<Layer>& layers, Report& report) {
  Timer time(backend, seconds);
  const ComputeTypes types = backend.types(precision);
  const auto size = static_cast<double>(size_of(types.activation)), kept = static_cast<double>(size_of(types.residual));
  const std::int64_t rows = batch * t.tokens;
  Data data(backend, types.activation), residuals(backend, types.residual);
  const View x = residuals.matrix(rows, t.width), h = data.matrix(rows, t.width), wide = data.matrix(rows, t.mlp);
  const View qkv{wide.data, wide.dtype, {rows, 3 * t.width}};
  const Tensor gamma = data.vector(t.width), bias = data.vector(t.width), bias_qkv = data.vector(3 * t.width),
               bias_mlp = data.vector(t.mlp);
  const auto m = static_cast<double>(rows), d = static_cast<double>(t.width);

  const bool eight = layers.front().out->has_scales();
  const auto op = [&](const char* name, double flops, double bytes, const std::function<void(int)>& run) {
    report(t, batch, name, flops, bytes, time(run));
  };
  const auto product = [&](const char* name, const std::unique_ptr<PreparedWeight> Layer::*weight, View in,
                           const Tensor& b, View out, ActivationFn fn, bool residual) {
    const double n = static_cast<double>(out.columns()), k = static_cast<double>(in.columns());
    op(name, 2 * m * n * k, size * (m * k + n * k) + (residual ? 2 * kept : size) * m * n, [&](int i) {
      // In eight bits what stands in `in` was written for the first layer's weight.
      backend.linear({in,
                      (layers[eight ? 0 : static_cast<std::size_t>(i)].*weight).get(),
                      b.view(),
                      fn,
                      residual ? ConstView(out) : ConstView(),
                      {out, {}}});
    });
  };
  op("layer_norm", 8 * m * d, (kept + size) * m * d, [&](int) {
    backend.layer_norm({x, gamma.view(), gamma.view(), 1e-5F, {h, {}}});
  });
  const auto normed = [&](const char* name, const std::unique_ptr<PreparedWeight> Layer::*weight, const Tensor& b,
                          View out, ActivationFn fn, const std::unique_ptr<PreparedWeight> Layer::*reader) {
    const double n = static_cast<double>(out.columns());
    const auto run = [&, out, fn, weight, reader](int i) {
      const Layer& layer = layers[static_cast<std::size_t>(i)];
      NormLinearArgs a;
      a.x = x, a.gamma = a.beta = gamma.view(), a.weight = (layer.*weight).get();
      a.bias = b.view(), a.fn = fn, a.precision = precision, a.normalized.view = h, a.out.view = out;
      if (eight && reader != nullptr) a.reader = (layer.*reader).get();
      backend.norm_linear(a);
    };
    op(name, 2 * m * n * d, kept * m * d + size * (n * d + m * n), run);
    run(0);
  };
  normed("layer_norm and qkv", &Layer::qkv, bias_qkv, qkv, ActivationFn::none, nullptr);
  AttentionArgs a;
  a.q = qkv.column_range(0, t.width), a.k = qkv.column_range(t.width, t.width);
  a.v = qkv.column_range(2 * t.width, t.width), a.out = h;
  a.queries = a.keys = {batch, t.tokens, rows, nullptr};
  a.heads = t.heads, a.head_dim = t.head_dim, a.precision = precision, a.causal = t.image == 0;
  if (eight) a.reader = layers.front().out.get();
  const double seen = a.causal ? 2 : 4;  // a causal query sees half of the keys
  op("attention", seen * m * static_cast<double>(t.tokens) * d, size * 4 * m * d, [&](int) { backend.attention(a); });
  product("out", &Layer::out, h, bias, x, ActivationFn::none, true);
  normed("layer_norm and fc1", &Layer::fc1, bias_mlp, wide, t.fn, &Layer::fc2);
  product("fc2", &Layer::fc2, wide, bias, x, ActivationFn::none, true);
  // In eight bits every kernel in turn, to see which is fastest: the rule takes one of them above.
  for (const std::string kernel : {"wide", "narrow", "library"}) {
    if (!eight || batch < 16) break;
    const auto add = ActivationFn::none;
    for (const auto& [outputs, inputs] : {std::pair(t.width, t.width), {t.width, t.mlp}}) {
      backend.take_tuned(choice_line(rows, outputs, inputs, add, true, DType::f16, kernel));
    }
    backend.take_tuned(choice_line(rows, 3 * t.width, t.width, add, false, DType::f16, kernel));
    backend.take_tuned(choice_line(rows, t.mlp, t.width, t.fn, false, DType::f8e4m3, kernel));
    const auto named = [&](const char* name) { return cat(name, ", ", kernel); };
    product(named("fc2").c_str(), &Layer::fc2, wide, bias, x, ActivationFn::none, true);
    if (kernel != "library")
      normed(named("layer_norm and fc1").c_str(), &Layer::fc1, bias_mlp, wide, t.fn, &Layer::fc2);
    normed(named("layer_norm and qkv").c_str(), &Layer::qkv, bias_qkv, qkv, ActivationFn::none, nullptr);
    backend.attention(a);
    product(named("out").c_str(), &Layer::out, h, bias, x, ActivationFn::none, true);
    NormLinearArgs again;  // what fc2 reads
    again.x = x, again.gamma = again.beta = gamma.view(), again.weight = layers.front().fc1.get();
    again.bias = bias_mlp.view(), again.fn = t.fn, again.precision = precision, again.normalized.view = h;
    again.out.view = wide, again.reader = layers.front().fc2.get();
    backend.norm_linear(again);
  }
  AttentionArgs last = a;
  last.q = h.row_range(0, batch), last.out = h.row_range(batch, batch), last.causal = false;
  last.queries = {batch, 1, batch, nullptr};
  if (rows >= 2 * batch) {
    op("attention, one query", 4 * m * d, size * 2 * m * d, [&](int) { backend.attention(last); });
  }
  const View selected = residuals.matrix(batch, t.width);
  Data floats(backend, DType::f32);
  const View pooled = floats.matrix(batch, t.width), projected = floats.matrix(batch, t.embed);
  const auto projection = floats.projection(t.embed, t.width);
  const auto b = static_cast<double>(batch), e = static_cast<double>(t.embed);
  op("layer_norm and projection", 2 * b * d * e, 4 * (d * e + b * e + b * d), [&](int) {
    backend.norm_project({selected, gamma.view(), gamma.view(), 1e-5F, pooled, projection.get(), true, projected});
  });
  if (t.image == 0) return;
  Patches patches(backend, t, batch, precision);
  op("patch_embed", patches.flops(), patches.bytes(), [&](int) { patches.embed(); });
}

int run(int argc, char** argv) {
  const Precision precision = parse_precision(argc > 1 ? argv[1] : "fp16");
  const double seconds = argc > 2 ? std::stod(argv[2]) : 0.2;
  const std::string only = argc > 3 ? argv[3] : "all";
  const std::string tuning = argc > 4 ? argv[4] : "";
  const auto backend = make_cuda_backend(0);
  if (!tuning.empty()) {
    backend->start_tuning();
    tune_towers(*backend, precision, only);
    add_tuning(tuning, backend->tuned());
    return 0;
  }
  Report report(precision, measure_ceiling(*backend, precision, seconds));
  for (const Tower& t : kTowers) {
    if (only != "all" && only != t.name) continue;
    Data data(*backend, backend->types(precision).activation);
    std::vector<Layer> layers(kWeights);
    for (Layer& layer : layers) {
      layer.qkv = data.norm_weight(3 * t.width, t.width, precision);
      layer.out = data.weight(t.width, t.width, precision);
      layer.fc1 = data.norm_weight(t.mlp, t.width, precision);
      layer.fc2 = data.weight(t.width, t.mlp, precision);
    }
    for (const std::int64_t batch : {1, 16, 256}) measure(*backend, t, batch, precision, seconds, layers, report);
  }
  report.table(std::cerr);
  return 0;
}

}  // namespace
}  // namespace tandem::bench

int main(int argc, char** argv) {
  try {
    return tandem::bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << "usage: tandem_cuda_operations [PRECISION [SECONDS [all|TOWER [TUNING_FILE]]]]: " << error.what()
              << '\n';
    return 1;
  }
}
