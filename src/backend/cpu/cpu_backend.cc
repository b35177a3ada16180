#include "backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/attention.h"
#include "backend/cpu/features.h"
#include "backend/cpu/gemm.h"
#include "backend/cpu/huge_pages.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/onednn_matmul.h"
#include "backend/cpu/packed.h"
#include "backend/cpu/quantised.h"
#include "backend/cpu/team.h"
#include "backend/cpu/workspace.h"
#include "base/strings.h"

namespace tandem::backend {
namespace {

using namespace cpu;  // NOLINT(google-build-using-namespace): this file is the folder's face

/// Elements of row-wise work below which waking other threads costs more than it saves.
constexpr std::int64_t kSmall = 1 << 14;
/// Patches of this many images at a time stand in scratch memory.
constexpr std::int64_t kPatchImages = 16;
/// Fewer rows than this do not fill AMX's tiles: the own kernels read the weights just as fast.
constexpr std::int64_t kTileRows = 8;

const Kernels& choose_kernels(const std::string& isa, const Features& has) {
  const auto need = [&](bool available, const Kernels& (*kernels)()) -> const Kernels& {
    if (available) return kernels();
    throw Error(Code::unsupported, cat("this processor has no ", isa, ": leave the ISA out to use the best it has"));
  };
  if (isa == "sse2" || isa == "scalar") return sse2_kernels();
  if (isa == "avx2") return need(has.avx2, avx2_kernels);
  if (isa == "avx512") return need(has.avx512, avx512_kernels);
  if (isa == "avx512_vnni") return need(has.avx512_vnni, avx512_vnni_kernels);
  if (isa == "avx512_bf16" || isa == "amx_bf16") return need(has.avx512_bf16, avx512_bf16_kernels);
  if (!isa.empty()) {
    throw Error(Code::invalid_argument,
                cat("unknown ISA \"", isa, "\": sse2, avx2, avx512, avx512_vnni or avx512_bf16"));
  }
  if (has.avx512_bf16) return avx512_bf16_kernels();
  if (has.avx512_vnni) return avx512_vnni_kernels();
  if (has.avx512) return avx512_kernels();
  return has.avx2 ? avx2_kernels() : sse2_kernels();
}

const PackedWeight& packed(const PreparedWeight* w) {
  return static_cast<const PackedWeight&>(*w);
}

GemmCall call_of(const LinearArgs& a) {
  GemmCall c;
  c.weight = &packed(a.weight);
  c.a = a.x.view.data, c.lda = a.x.view.stride;
  c.rows = a.x.view.rows();
  c.bias = a.bias ? a.bias.as<float>() : nullptr;
  c.fn = a.fn;
  c.residual = a.residual.data, c.ldr = a.residual.stride;
  c.out = a.out.view.data, c.ldo = a.out.view.stride;
  c.out_bf16 = a.out.view.dtype == DType::bf16;
  return c;
}

void require_type(const char* operation, const char* name, DType found, bool good) {
  if (!good) throw Error(Code::internal, cat(operation, ": ", name, " is ", to_string(found)));
}

std::vector<int> cores_from(int first) {
  std::vector<int> cores = usable_cores();
  if (!cores.empty()) std::rotate(cores.begin(), cores.begin() + first % static_cast<int>(cores.size()), cores.end());
  return cores;
}

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(const CpuOptions& options)
      : features_(detect_features()),
        kernels_(choose_kernels(options.isa, features_)),
        shared_(options.shared),
        workspace_(options.threads > 0 ? options.threads : default_threads()) {
    const int threads = workspace_.threads();
    const bool tiles = OneDnnMatmul::available() && features_.amx_bf16 && kernels_.has_bf16 &&
                       (options.isa.empty() || options.isa == "amx_bf16");
    onednn_f32_ = options.gemm == GemmEngine::onednn;
    onednn_bf16_ = onednn_f32_ || (tiles && options.gemm == GemmEngine::automatic);
    amx_ = tiles && onednn_bf16_;
    if (options.isa == "amx_bf16" && !amx_) {
      throw Error(Code::unsupported, "this processor has no amx_bf16: leave the ISA out to use the best it has");
    }
    if (onednn_bf16_) onednn_ = std::make_unique<OneDnnMatmul>(threads);
    team_ = std::make_unique<Team>(threads, onednn_ != nullptr ? Team::Kind::openmp : Team::Kind::own,
                                   options.pin ? cores_from(options.first_core) : std::vector<int>(),
                                   onednn_ != nullptr ? nullptr : options.shared);
  }

  DeviceId device() const override { return {DeviceId::Kind::cpu, 0}; }
  std::string device_name() const override { return processor_name(); }
  std::string isa() const override { return amx_ ? "amx_bf16" : kernels_.name; }

  Precision resolve(Precision p) const override {
    // fp32 also when unasked: a processor's 16-bit types cost digits that a caller who said nothing expects.
    if (p == Precision::automatic || p == Precision::fp32) return Precision::fp32;
    if (p == Precision::int8 || (p == Precision::bf16 && kernels_.has_bf16)) return p;
    if (p == Precision::bf16) {
      throw Error(Code::unsupported, cat("bf16 needs a processor with AVX512_BF16, this one computes with ",
                                         kernels_.name, ": use --precision fp32"));
    }
    throw Error(Code::unsupported, cat(to_string(p), " is not computed on a CPU: use --precision fp32",
                                       kernels_.has_bf16 ? ", bf16" : "", " or int8"));
  }
  ComputeTypes types(Precision p) const override {
    const bool bf16 = p == Precision::bf16 || (p == Precision::int8 && kernels_.has_bf16);
    return {bf16 ? DType::bf16 : DType::f32, DType::f32};
  }
  Precision kept(Precision p) const override {
    if (p != Precision::int8) return p;
    return kernels_.has_bf16 ? Precision::bf16 : Precision::fp32;
  }

  Buffer allocate(std::size_t bytes) override { return allocate_pages(bytes); }
  void upload(const void* host, View to) override { std::memcpy(to.data, host, to.bytes()); }
  void download(ConstView from, void* host) override { std::memcpy(host, from.data, from.bytes()); }
  void synchronize() override {}
  void pass_begins() noexcept override {
    if (shared_ != nullptr) ++shared_->passes;
  }
  void pass_ends() noexcept override {
    if (shared_ != nullptr) --shared_->passes;
  }

  std::unique_ptr<PreparedWeight> prepare_linear(ConstView weight, Precision p, const WeightUse& use) override {
    if (p == Precision::int8) return pack_int8(weight, kernels_.panel, kernels_.int8_offset, use);
    return pack_linear(weight, types(p).activation, kernels_.panel);
  }
  std::unique_ptr<PreparedWeight> prepare_norm_linear(ConstView weight, ConstView, ConstView, ConstView, Precision p,
                                                      const WeightUse& use) override {
    if (p != Precision::int8) return prepare_linear(weight, p, use);
    auto packed = pack_int8(weight, kernels_.panel, kernels_.int8_offset, use);
    packed->takes_norm = true;
    return packed;
  }
  std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                      const float std[3], float rescale, Precision p) override {
    return pack_patch_embed(weight, bias, mean, std, rescale, types(p).activation, kernels_.panel);
  }
  std::unique_ptr<PreparedWeight> prepare_projection(ConstView weight) override {
    return pack_linear(weight, DType::f32, kernels_.panel);
  }
  Tensor prepare_vector(ConstView vector) override { return converted(vector, DType::f32); }
  Tensor prepare_table(ConstView table, Precision p) override { return converted(table, types(p).activation); }

  std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t, Precision p) const override {
    const std::int64_t grid = image / patch;
    return static_cast<std::size_t>(std::min(batch, kPatchImages) * grid * grid * patch_columns(patch)) *
           size_of(types(p).activation);
  }

  std::size_t linear_scratch(std::int64_t rows, std::int64_t inputs, Precision p) const override {
    return p == Precision::int8 ? QuantisedRows::bytes_for(kernels_, rows, inputs) : 0;
  }

  void patch_embed(const PatchEmbedArgs& a) override {
    check(a);
    require_type("patch_embed", "out", a.out.dtype, a.out.dtype == DType::f32);
    const PackedWeight& w = packed(a.weight);
    const std::int64_t side = a.pixels.shape[1], grid = side / a.patch, patches = grid * grid;
    const std::int64_t batch = a.pixels.shape[0], first = a.class_embedding ? 1 : 0, tokens = patches + first;
    const auto* pixels = a.pixels.as<std::uint8_t>();
    const std::int64_t columns = patch_columns(a.patch), element = w.bf16() ? 2 : 4;
    for (std::int64_t image = 0; image < batch; image += kPatchImages) {
      const std::int64_t count = std::min(kPatchImages, batch - image);
      // Rows of one strip of patches a task.
      team_->run(count * grid, count * side * side <= kSmall, [&](std::int64_t t, int) {
        const std::int64_t i = t / grid, row = t % grid;
        const PatchRows p{pixels + (image + i) * side * side * 3,
                          side,
                          a.patch,
                          row * grid,
                          (row + 1) * grid,
                          columns,
                          {w.centre[0], w.centre[1], w.centre[2]},
                          a.scratch.data + (i * patches + row * grid) * columns * element};
        (w.bf16() ? kernels_.patches_bf16 : kernels_.patches_f32)(p);
      });
      GemmCall c;
      c.weight = &w, c.a = a.scratch.data, c.lda = columns, c.bias = w.bias.data();
      c.residual = a.position.as<float>() + first * a.position.stride, c.ldr = a.position.stride;
      c.ldo = a.out.stride;
      float* out = a.out.as<float>() + (image * tokens + first) * a.out.stride;
      embed_images(c, count, patches, tokens, columns * element, out);
    }
    if (first == 0) return;
    for (std::int64_t b = 0; b < batch; ++b) {
      float* out = a.out.as<float>() + b * tokens * a.out.stride;
      for (std::int64_t n = 0; n < w.outputs(); ++n) {
        out[n] = a.class_embedding.as<float>()[n] + a.position.as<float>()[n];
      }
    }
  }

  void layer_norm(const LayerNormArgs& a) override {
    check(a);
    require_type("layer_norm", "x", a.x.dtype, a.x.dtype == DType::f32);
    const std::int64_t rows = a.x.rows(), width = a.x.columns();
    const bool bf16 = a.out.view.dtype == DType::bf16;
    const std::int64_t tasks = std::min<std::int64_t>(rows, 4 * team_->threads());
    team_->run(tasks, rows * width <= kSmall, [&](std::int64_t t, int) {
      const std::int64_t first = rows * t / tasks, last = rows * (t + 1) / tasks;
      kernels_.layer_norm({a.x.as<float>() + first * a.x.stride,
                           a.out.view.data + first * a.out.view.stride * (bf16 ? 2 : 4), bf16, last - first, width,
                           a.x.stride, a.out.view.stride, a.gamma.as<float>(), a.beta.as<float>(), a.eps});
    });
  }

  void linear(const LinearArgs& a) override {
    check(a);
    const PackedWeight& w = packed(a.weight);
    const DType type = a.x.view.dtype;
    const bool quantises = w.int8() && (type == DType::f32 || (type == DType::bf16 && kernels_.has_bf16));
    require_type("linear", "x", type, type == w.type() || quantises);
    count(a.x.view.rows(), w);
    if (quantises) return multiply_int8(a, {});
    multiply(call_of(a));
  }

  /// In int8 rows go from the norm straight into eight bits.
  void norm_linear(const NormLinearArgs& a) override {
    if (!packed(a.weight).int8()) return Backend::norm_linear(a);
    check(a);
    require_type("norm_linear", "x", a.x.dtype, a.x.dtype == DType::f32);
    count(a.x.rows(), packed(a.weight));
    multiply_int8({a.x, a.weight, a.bias, a.fn, {}, a.out, nullptr}, {a.gamma.as<float>(), a.beta.as<float>(), a.eps});
  }
  std::shared_ptr<const LinearWork> linear_work() const override { return work_; }

  void attention(const AttentionArgs& a) override {
    check(a);
    const bool known = a.q.dtype == DType::f32 || (a.q.dtype == DType::bf16 && kernels_.has_bf16);
    require_type("attention", "q", a.q.dtype,
                 known && a.k.dtype == a.q.dtype && a.v.dtype == a.q.dtype && a.out.dtype == a.q.dtype);
    cpu::attention(kernels_, workspace_, *team_, a);
  }

  void embed_tokens(const EmbedTokensArgs& a) override {
    check(a);
    const std::int64_t rows = a.out.rows(), tasks = std::min<std::int64_t>(rows, 4 * team_->threads());
    team_->run(tasks, rows * a.out.columns() <= kSmall, [&](std::int64_t t, int) {
      const std::int64_t first = rows * t / tasks, last = rows * (t + 1) / tasks;
      kernels_.embed_tokens({a.ids + first, a.positions + first, a.table.data, a.table.dtype == DType::bf16,
                             a.position.as<float>(), a.out.as<float>() + first * a.out.stride, last - first,
                             a.out.columns(), a.table.stride, a.position.stride, a.out.stride});
    });
  }

  void select_rows(const SelectRowsArgs& a) override {
    check(a);
    const auto size = static_cast<std::int64_t>(size_of(a.x.dtype));
    for (std::int64_t i = 0; i < a.out.rows(); ++i) {
      const std::int64_t from = a.rows != nullptr ? a.rows[i] : i * a.every;
      std::memcpy(a.out.data + i * a.out.stride * size, a.x.data + from * a.x.stride * size,
                  static_cast<std::size_t>(a.out.columns() * size));
    }
  }

  void project(const ProjectArgs& a) override {
    check(a);
    ConstView x = a.x;
    if (a.weight != nullptr) {
      GemmCall c;
      c.weight = &packed(a.weight), c.a = x.data, c.lda = x.stride, c.rows = x.rows();
      c.out = a.out.data, c.ldo = a.out.stride;
      gemm(kernels_, workspace_, *team_, c);
      x = a.out;
    }
    for (std::int64_t r = 0; r < a.out.rows(); ++r) {
      const float* from = x.as<float>() + r * x.stride;
      float* to = a.out.as<float>() + r * a.out.stride;
      if (a.normalize) {
        kernels_.normalise(from, to, a.out.columns());
      } else if (from != to) {
        std::memcpy(to, from, static_cast<std::size_t>(a.out.columns()) * sizeof(float));
      }
    }
  }

  void similarity(const SimilarityArgs& a) override {
    check(a);
    // Rows of b that stay in the cache while all of a passes.
    constexpr std::int64_t kRows = 64;
    const std::int64_t m = a.a.rows(), n = a.b.rows(), width = a.a.columns(), tasks = (n + kRows - 1) / kRows;
    team_->run(tasks, m * n * width <= kSmall, [&](std::int64_t t, int) {
      const std::int64_t first = t * kRows, count = std::min(kRows, n - first);
      for (std::int64_t i = 0; i < m; i += 4) {
        kernels_.dots(a.a.as<float>() + i * a.a.stride, a.a.stride, static_cast<int>(std::min<std::int64_t>(4, m - i)),
                      a.b.as<float>() + first * a.b.stride, a.b.stride, count, width, a.scale,
                      a.out.as<float>() + i * a.out.stride + first, a.out.stride);
      }
    });
  }

 private:
  static std::int64_t patch_columns(int patch) { return (static_cast<std::int64_t>(patch) * patch * 3 + 15) / 16 * 16; }

  static Tensor converted(ConstView from, DType type) {
    Tensor out(allocate_pages(static_cast<std::size_t>(from.shape.elements()) * size_of(type)), type, from.shape);
    if (from.dtype == type && from.contiguous()) {
      std::memcpy(out.view().data, from.data, from.bytes());
    } else {
      convert(from, out.view());
    }
    return out;
  }

  void count(std::int64_t rows, const PackedWeight& w) {
    const auto products = static_cast<std::uint64_t>(rows * w.outputs() * w.inputs());
    work_->all += products;
    if (w.int8()) work_->eight_bit += products;
  }

  void multiply_int8(const LinearArgs& a, const RowNorm& norm) {
    const PackedWeight& w = packed(a.weight);
    if (a.x.view.rows() == 0) return;
    quantised_.take(kernels_, workspace_, *team_, a.x.view, norm, w.input_scale);
    GemmCall c = call_of(a);
    c.a = quantised_.data(), c.lda = quantised_.stride(), c.row_scale = quantised_.steps();
    gemm(kernels_, workspace_, *team_, c);
  }

  bool uses_onednn(const GemmCall& c) const {
    if (onednn_ == nullptr || !(c.weight->bf16() ? onednn_bf16_ : onednn_f32_)) return false;
    return c.rows >= (amx_ ? kTileRows : 1);
  }

  void multiply(const GemmCall& c) {
    if (uses_onednn(c) && onednn_->run(c)) return;
    gemm(kernels_, workspace_, *team_, c);
  }

  /// Patches times weights, each image's rows behind its class token. oneDNN cannot leave gaps between images: one
  /// call an image.
  void embed_images(GemmCall c, std::int64_t count, std::int64_t patches, std::int64_t tokens, std::int64_t row_bytes,
                    float* out) {
    c.rows = patches, c.out = out;
    if (uses_onednn(c) && onednn_->prepare(c)) {
      for (std::int64_t i = 0; i < count; ++i) {
        onednn_->run(c);
        c.a = static_cast<const std::byte*>(c.a) + patches * row_bytes;
        c.out = static_cast<float*>(c.out) + tokens * c.ldo;
      }
      return;
    }
    c.rows = count * patches;
    c.group = patches, c.out_group = tokens, c.residual_group = 0;
    gemm(kernels_, workspace_, *team_, c);
  }

  Features features_;
  const Kernels& kernels_;
  std::shared_ptr<SharedCores> shared_;
  Workspace workspace_;
  QuantisedRows quantised_;
  const std::shared_ptr<LinearWork> work_ = std::make_shared<LinearWork>();
  std::unique_ptr<Team> team_;
  bool onednn_f32_ = false, onednn_bf16_ = false, amx_ = false;
  std::unique_ptr<OneDnnMatmul> onednn_;
};

}  // namespace

bool cpu_passes_divide_threads() {
  return !(OneDnnMatmul::available() && detect_features().amx_bf16);
}

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace tandem::backend
