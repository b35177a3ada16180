#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <thread>

#include "backend/cuda/eight_linear.h"
#include "backend/cuda/graphs.h"
#include "backend/cuda/kernels.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/matmul.h"
#include "backend/cuda/moment.h"
#include "backend/cuda/staging.h"
#include "backend/cuda/sum_linear.h"
#include "backend/cuda/weights.h"
#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

/// The residual stream of fp16: the same type, which halves what the element-wise kernels move.
constexpr DType kHalfResidual = DType::f16;
/// Tokens whose patches stand in scratch memory at a time: enough rows to fill the device.
constexpr std::int64_t kPatchRows = std::int64_t{1} << 15;
/// Split rows that stand in memory at a time: no more than the second-level cache holds, and enough to fill the device.
constexpr std::size_t kSplitBytes = std::size_t{32} << 20;

const CudaWeight& stored(const PreparedWeight* w) {
  return static_cast<const CudaWeight&>(*w);
}

void require(bool good, const char* operation, const char* what) {
  if (!good) throw Error(Code::internal, cat(operation, ": ", what));
}

/// Queries, keys and values in one, told by its shape: in tf32 their product is computed in split bfloat16, since
/// scores are where rounding matters (README: Precision). Where they are apart, as the last block's are, whose error
/// passes through no further scores, or shared by ranks, tf32 remains.
bool makes_scores(ConstView weight) {
  return weight.rows() == 3 * weight.columns();
}

std::int64_t images_at_a_time(std::int64_t tokens) {
  return std::max<std::int64_t>(1, kPatchRows / tokens);
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(const CudaDevice& device, const CudaOptions& options)
      : device_(options.portable ? portable(device) : device),
        options_(options),
        health_(device.index),
        stream_(open_stream()),
        staging_(health_, stream_.get()),
        copies_(make_stream(health_)),
        beside_(health_, copies_.get()),
        uploaded_(make_event(health_)),
        weights_(health_, staging_, device.index),
        matmul_(health_, device.index, stream_.get(), *choices_),
        linear_(health_, device_, queue_, matmul_, *choices_, queue_.overlap ? kAhead : AheadLimits{}),
        eight_(health_, device_, queue_, matmul_, linear_, *choices_),
        sums_(health_, device.index, queue_, matmul_),
        graphs_(health_, stream_.get(), *choices_, options.warn) {}

  ~CudaBackend() override {
    // Work in flight uses the staging memory and the workspace.
    if (cudaSetDevice(device_.index) != cudaSuccess) return;
    static_cast<void>(cudaStreamSynchronize(copies_.get()));
    static_cast<void>(cudaStreamSynchronize(stream_.get()));
  }

  DeviceId device() const override { return {DeviceId::Kind::cuda, device_.index}; }
  std::string device_name() const override { return device_.name; }
  std::string isa() const override { return cat("sm_", device_.major, device_.minor); }

  Precision resolve(Precision p) const override {
    const int capability = device_.major * 10 + device_.minor;
    switch (p) {
      case Precision::automatic: return Precision::fp16;
      case Precision::fp32:
      case Precision::fp16: return p;
      case Precision::tf32:
      case Precision::bf16:
        if (capability >= 80) return p;
        throw Error(Code::unsupported, cat(to_string(p), " needs compute capability 8.0, ", device_.name, " has ",
                                           device_.major, ".", device_.minor, ": use --precision fp16 or fp32"));
      case Precision::fp8:
        if (capability >= 89) return p;
        throw Error(Code::unsupported, cat("fp8 needs compute capability 8.9, ", device_.name, " has ", device_.major,
                                           ".", device_.minor, ": use --precision int8 or fp16"));
      case Precision::int8: return p;  // 7.5 has its products, too
    }
    throw Error(Code::internal, "a precision that no device knows");
  }
  ComputeTypes types(Precision p) const override {
    if (p == Precision::fp16 || is_eight(p)) return {DType::f16, kHalfResidual};
    if (p == Precision::bf16) return {DType::bf16, DType::f32};
    return {DType::f32, DType::f32};
  }
  Precision kept(Precision p) const override { return is_eight(p) ? Precision::fp16 : p; }

  Buffer allocate(std::size_t bytes) override {
    health_.enter();
    return allocate_device(health_, device_.index, bytes);
  }
  void upload(const void* host, View to) override {
    health_.enter();
    staging_.upload(host, to.data, to.bytes());
  }
  void download(ConstView from, void* host) override {
    health_.enter();
    staging_.download(from.data, host, from.bytes());
  }
  void synchronize() override {
    health_.enter();
    health_.check(cudaStreamSynchronize(stream_.get()), "waiting for the device");
  }
  void* stream() const noexcept override { return stream_.get(); }

  void upload_beside(const void* host, View to) override {
    health_.enter();
    beside_.upload(host, to.data, to.bytes());
  }
  void join_uploads() override {
    health_.enter();
    health_.check(cudaEventRecord(uploaded_.get(), copies_.get()), "recording an event");
    health_.check(cudaStreamWaitEvent(stream_.get(), uploaded_.get(), 0), "waiting for the copies");
  }
  Buffer allocate_landing(std::size_t bytes) override {
    health_.enter();
    if (bytes == 0) return {};
    auto* memory = static_cast<std::byte*>(make_pinned(health_, bytes).release());
    return {memory, bytes, [](std::byte* p) { static_cast<void>(cudaFreeHost(p)); }};
  }
  void download_later(ConstView from, void* landing) override {
    health_.enter();
    health_.check(cudaMemcpyAsync(landing, from.data, from.bytes(), cudaMemcpyDeviceToHost, stream_.get()),
                  "copying from the device");
  }
  std::uint64_t mark() override {
    health_.enter();
    Event& event = marks_[++marked_ % kMarks];
    if (event.get() == nullptr) event = make_event(health_);
    health_.check(cudaEventRecord(event.get(), stream_.get()), "recording an event");
    return marked_;
  }
  void wait_for(std::uint64_t mark) override {
    health_.enter();
    if (mark == 0) return;
    // An event that was used again stands behind the mark asked for: then this waits longer, never less.
    health_.check(cudaEventSynchronize(marks_[mark % kMarks].get()), "waiting for the device");
  }
  void wait_asleep(std::uint64_t mark) override {
    constexpr std::chrono::microseconds kNap{50};  // an event that wakes its waiter would wake nobody sooner
    health_.enter();
    if (mark == 0) return;
    for (;;) {
      const cudaError_t state = cudaEventQuery(marks_[mark % kMarks].get());
      if (state != cudaErrorNotReady) return health_.check(state, "waiting for the device");
      static_cast<void>(cudaGetLastError());  // or the next launch would be told of it
      std::this_thread::sleep_for(kNap);
    }
  }
  void replay(const PassKey& key, const std::function<void()>& pass) override {
    health_.enter();
    options_.graphs ? graphs_.run(key, pass) : pass();
  }
  Memory memory() const override {
    Memory m;
    m.held = health_.count()->held, m.peak = health_.count()->peak;
    if (cudaSetDevice(device_.index) == cudaSuccess) static_cast<void>(cudaMemGetInfo(&m.free, &m.total));
    return m;
  }

  std::unique_ptr<PreparedWeight> prepare_linear(ConstView weight, Precision p, const WeightUse& use) override {
    health_.enter();
    if (is_eight(p) && fits(weight, p, false)) return weights_.eight(weight, eight_type(p), use);
    if (p == Precision::tf32 && makes_scores(weight)) return weights_.split(weight);
    return weights_.linear(weight, types(p).activation, p == Precision::tf32);
  }
  /// Where the residual stream has the weight's type, and there are kernels for it.
  std::unique_ptr<PreparedWeight> prepare_norm_linear(ConstView weight, ConstView bias, ConstView gamma, ConstView beta,
                                                      Precision p, const WeightUse& use) override {
    if (is_eight(p)) {
      health_.enter();
      if (fits(weight, p, true)) return weights_.eight(weight, eight_type(p), use, bias, gamma, beta);
      // Wider rows than a kernel normalises in registers have a LayerNorm of their own in front.
      if (fits(weight, p, false) && by_sums(p)) return prepare_linear(weight, p, use);
      p = Precision::fp16;
    }
    const bool folds = warpgroups_ && p == Precision::fp16 && weight.columns() % 8 == 0 && weight.rows() % 8 == 0 &&
                       weight.columns() <= kMostFolded;
    if (!folds) return prepare_linear(weight, p, use);
    health_.enter();
    return weights_.folded(weight, bias, gamma, beta);
  }
  std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                      const float std[3], float rescale, Precision p) override {
    health_.enter();
    return weights_.patch_embed(weight, bias, mean, std, rescale, types(p).activation, p == Precision::tf32);
  }
  std::unique_ptr<PreparedWeight> prepare_projection(ConstView weight) override {
    health_.enter();
    return weights_.linear(weight, DType::f32, false);
  }
  Tensor prepare_vector(ConstView vector) override {
    health_.enter();
    return weights_.vector(vector);
  }
  Tensor prepare_table(ConstView table, Precision p) override {
    health_.enter();
    return weights_.table(table, types(p).activation);
  }

  std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t, Precision p) const override {
    const std::int64_t grid = image / patch, tokens = grid * grid + 1;
    const std::int64_t columns = (static_cast<std::int64_t>(patch) * patch * 3 + 7) / 8 * 8;
    return static_cast<std::size_t>(std::min(batch, images_at_a_time(tokens)) * tokens * columns) *
           size_of(types(p).activation);
  }

  void start_tuning() override {
    health_.enter();
    linear_.start_tuning();
    choices_->file.clear();
  }
  std::string tuned() const override { return linear_.tuned(); }
  int take_tuned(const std::string& text, const std::string& file) override {
    const int taken = linear_.take_tuned(text);
    if (taken > 0) choices_->file = file;
    return taken;
  }
  std::shared_ptr<const Choices> choices() const override { return choices_; }
  std::shared_ptr<const LinearWork> linear_work() const override { return work_; }

  std::unique_ptr<Moment> moment() override {
    health_.enter();
    return make_moment(health_, stream_.get());
  }
  void linger(double milliseconds) override {
    health_.enter();
    launched(cuda::linger(milliseconds, stream_.get()), "linger");
  }

  void patch_embed(const PatchEmbedArgs& a) override {
    check(a);
    health_.enter();
    const CudaWeight& w = stored(a.weight);
    const std::int64_t side = a.pixels.shape[1], grid = side / a.patch, batch = a.pixels.shape[0];
    const int first = a.class_embedding ? 1 : 0;
    const std::int64_t tokens = grid * grid + first;
    for (std::int64_t image = 0; image < batch; image += images_at_a_time(tokens)) {
      const std::int64_t count = std::min(images_at_a_time(tokens), batch - image);
      const View out = a.out.row_range(image * tokens, count * tokens);
      PatchRowsCall rows;
      rows.pixels = a.pixels.as<std::uint8_t>() + image * side * side * 3;
      rows.images = count, rows.side = side, rows.patch = a.patch, rows.first = first;
      rows.columns = w.stride(), rows.type = w.type(), rows.out = a.scratch.data;
      std::copy_n(w.centre, 3, rows.centre);
      const auto needed = static_cast<std::size_t>(count * tokens * rows.columns) * size_of(rows.type);
      require(a.scratch.bytes() >= needed, "patch_embed", "the scratch memory is too small");
      PositionRowsCall positions;
      positions.position = a.position.as<float>(), positions.position_stride = a.position.stride;
      positions.class_embedding = a.class_embedding.as<float>(), positions.bias = w.bias.view().as<float>();
      positions.images = count, positions.tokens = tokens, positions.first = first, positions.out = out;
      launched(patch_and_position_rows(rows, positions, queue_), "patch_embed");
      MatmulCall m;
      m.x = a.scratch.data, m.rows = count * tokens, m.ldx = w.stride();
      weight_of(m, w);
      m.inputs = w.stride();  // with the padding, which is zero on both sides
      m.residual = m.out = out.data, m.ldr = m.ldo = out.stride, m.type = out.dtype, m.alpha = w.alpha;
      matmul_.run(m);
    }
  }

  void layer_norm(const LayerNormArgs& a) override {
    check(a);
    health_.enter();
    LayerNormArgs b = a;
    if (a.reader != nullptr && stored(a.reader).split()) b.precision = Precision::fp32;  // read as it is
    launched(cuda::layer_norm(b, ahead(a.reader, a.x.rows()), queue_), "layer_norm");
  }

  void linear(const LinearArgs& a) override {
    check(a);
    health_.enter();
    count(a.x.view.rows(), a.weight);
    if (by_eight(a.weight)) return eight_.linear(a, ahead(a.reader, a.x.view.rows()));
    eight_.forget(a.out.view);
    if (stored(a.weight).eight()) return sums_.linear(a);
    if (stored(a.weight).split()) return split_linear(a);
    linear_.run(a, call_of(a), ahead(a.reader, a.x.view.rows()));
  }

  void norm_linear(const NormLinearArgs& a) override {
    const CudaWeight& w = stored(a.weight);
    if (!w.folds_norm() && !w.bounds) return Backend::norm_linear(a);
    check(a);
    health_.enter();
    count(a.x.rows(), a.weight);
    if (by_eight(a.weight)) return eight_.norm_linear(a, ahead(a.reader, a.x.rows()), ahead(a.weight, a.x.rows()));
    eight_.forget(a.out.view);
    if (w.eight()) return sums_.norm_linear(a, ahead(a.weight, a.x.rows()));
    require(a.x.dtype == w.type() && a.normalized.view.dtype == w.type(), "norm_linear", "x and the weight differ");
    const LinearArgs product{a.x, a.weight, w.bias.view(), a.fn, {}, a.out, a.reader};
    linear_.run(product, call_of(product), ahead(a.reader, a.x.rows()),
                {a.x, a.eps, w.sums.view().as<float>(), a.normalized.view, ahead(a.weight, a.x.rows())});
  }

  void attention(const AttentionArgs& a) override {
    check(a);
    health_.enter();
    require(a.k.dtype == a.q.dtype && a.v.dtype == a.q.dtype && a.out.dtype == a.q.dtype, "attention", "types differ");
    if (a.head_dim > kLargestHead) {
      throw Error(Code::unsupported,
                  cat("attention heads of ", a.head_dim, " elements are not computed on a GPU, only ", kLargestHead,
                      " or fewer: use --device cpu"));
    }
    const AttentionDevice device{
        device_.major >= 8,      a.precision == Precision::tf32,  warpgroups_,
        device_.multiprocessors, ahead(a.reader, a.queries.rows), warpgroups_ ? eight_.attention_step(a) : 0};
    launched(cuda::attention(a, device, queue_), "attention");
  }

  void embed_tokens(const EmbedTokensArgs& a) override {
    check(a);
    health_.enter();
    launched(cuda::embed_tokens(a, queue_), "embed_tokens");
  }

  void select_rows(const SelectRowsArgs& a) override {
    check(a);
    health_.enter();
    launched(cuda::select_rows(a, queue_), "select_rows");
  }

  void project(const ProjectArgs& a) override {
    check(a);
    health_.enter();
    if (a.weight == nullptr) {
      return launched(copy_rows(a.x, a.out, a.normalize, queue_), "project");
    }
    MatmulCall m;
    m.x = a.x.data, m.rows = a.x.rows(), m.ldx = a.x.stride;
    weight_of(m, stored(a.weight));
    m.out = a.out.data, m.ldo = a.out.stride;
    matmul_.run(m);
    if (a.normalize) launched(copy_rows(a.out, a.out, true, queue_), "project");
  }

  void norm_project(const NormProjectArgs& a) override {
    NormProjectCall c;
    c.x = a.x, c.gamma = a.gamma.as<float>(), c.beta = a.beta.as<float>(), c.eps = a.eps, c.normalized = a.normalized;
    c.normalize = a.normalize, c.out = a.out;
    if (a.weight != nullptr) {
      const CudaWeight& w = stored(a.weight);
      c.weight = reinterpret_cast<const float*>(w.data()), c.ldw = w.stride();
    }
    if (!warpgroups_ || !norm_project_fits(c)) return Backend::norm_project(a);
    check(a);
    health_.enter();
    launched(cuda::norm_project(c, queue_), "norm_project");
  }

  void similarity(const SimilarityArgs& a) override {
    check(a);
    health_.enter();
    MatmulCall m;
    m.x = a.a.data, m.rows = a.a.rows(), m.ldx = a.a.stride;
    m.weight = a.b.data, m.outputs = a.b.rows(), m.inputs = a.b.columns(), m.ldw = a.b.stride;
    m.out = a.out.data, m.ldo = a.out.stride, m.alpha = a.scale;
    matmul_.run(m);
  }

 private:
  static CudaDevice portable(CudaDevice device) {
    if (device.major == 9) device.major = 8, device.minor = 9;
    return device;
  }
  static bool is_eight(Precision p) noexcept { return p == Precision::fp8 || p == Precision::int8; }
  static DType eight_type(Precision p) noexcept { return p == Precision::fp8 ? DType::f8e4m3 : DType::i8; }
  /// Whether an eight-bit precision is SumLinear's here, not EightLinear's.
  bool by_sums(Precision p) const noexcept { return p == Precision::int8 || !warpgroups_; }
  bool fits(ConstView weight, Precision p, bool normed) const {
    if (!by_sums(p)) return EightLinear::fits(weight, normed);
    return SumLinear::fits(weight, eight_type(p)) && (!normed || weight.columns() <= kMostFolded);
  }
  bool by_eight(const PreparedWeight* w) const noexcept { return warpgroups_ && stored(w).e4m3(); }

  /// The first use of the device: says what is wrong with it.
  Stream open_stream() {
    health_.enter();
    const cudaError_t code = runs_here();
    if (code == cudaErrorNoKernelImageForDevice || code == cudaErrorInvalidDeviceFunction ||
        code == cudaErrorUnsupportedPtxVersion) {
      static_cast<void>(cudaGetLastError());
      throw Error(Code::unsupported, cat("cuda:", device_.index, " (", device_.name, ") is ", isa(),
                                         ", and this build has no code for it: ",
                                         "build with the preset cuda-release, or use --device cpu"));
    }
    health_.check(code, "looking at the kernels");
    return make_stream(health_);
  }

  void count(std::int64_t rows, const PreparedWeight* w) {
    const auto work = static_cast<std::uint64_t>(rows * w->inputs() * w->outputs());
    work_->all += work;
    if (stored(w).eight()) work_->eight_bit += work;
  }

  void launched(cudaError_t result, const char* operation) { health_.check(result, operation); }

  static void weight_of(MatmulCall& m, const CudaWeight& w) {
    m.weight = w.data(), m.outputs = w.outputs(), m.inputs = w.inputs(), m.ldw = w.stride();
    m.in = w.type(), m.tf32 = w.tf32();
    if (w.split()) m.inputs = w.stride();
  }

  /// Rows at a time of a product with a split weight, so that pieces are equal.
  static std::int64_t split_rows_of(const CudaWeight& w, std::int64_t rows) {
    const auto row_bytes = w.stride() * static_cast<std::int64_t>(size_of(DType::bf16));
    const std::int64_t most = std::max<std::int64_t>(1, static_cast<std::int64_t>(kSplitBytes) / row_bytes);
    const std::int64_t pieces = std::max<std::int64_t>(1, (rows + most - 1) / most);
    return (rows + pieces - 1) / pieces;
  }
  /// Rows [first, first + rows) of a product whose inputs stand split in split_.
  LinearArgs split_part(const LinearArgs& a, const CudaWeight& w, std::int64_t first, std::int64_t rows) {
    // The weight may be another backend's of this device. A pass that is recorded was issued once before.
    if (split_.data() == nullptr) split_ = allocate_device(health_, device_.index, kSplitBytes);
    LinearArgs part = a;
    part.x = View{split_.data(), DType::bf16, {rows, w.stride()}};
    part.out.view = a.out.view.row_range(first, rows);
    if (a.residual) part.residual = a.residual.row_range(first, rows);
    return part;
  }
  void split_linear(const LinearArgs& a) {
    require(a.x.view.dtype == DType::f32, "linear", "x and the weight differ in type");
    const CudaWeight& w = stored(a.weight);
    const std::int64_t rows = a.x.view.rows(), piece = split_rows_of(w, rows);
    for (std::int64_t first = 0; first < rows; first += piece) {
      const ConstView x = a.x.view.row_range(first, std::min(piece, rows - first));
      const LinearArgs part = split_part(a, w, first, x.rows());
      SplitCall s;
      s.x = x.as<float>(), s.rows = x.rows(), s.columns = x.columns(), s.ldx = x.stride;
      s.part = w.stride() / 3, s.out = split_.data();
      launched(split_rows(s, queue_), "linear");
      linear_.run(part, call_of(part), ahead(a.reader, rows));
      // What the next product reads in tf32 is rounded by whoever writes it; attention rounds for itself.
      if (a.fn == ActivationFn::none) continue;
      launched(activate({part.out.view, {}, part.out.view, ActivationFn::none, true}, queue_), "linear");
    }
  }

  static MatmulCall call_of(const LinearArgs& a) {
    const CudaWeight& w = stored(a.weight);
    require(a.x.view.dtype == w.type(), "linear", "x and the weight differ in type");
    MatmulCall m;
    m.x = a.x.view.data, m.rows = a.x.view.rows(), m.ldx = a.x.view.stride;
    weight_of(m, w);
    m.out = a.out.view.data, m.ldo = a.out.view.stride, m.type = a.out.view.dtype;
    if (a.bias) m.bias = vector_as(m.type, a.bias.as<float>(), w.outputs());
    if (a.residual) m.residual = a.residual.data, m.ldr = a.residual.stride;
    return m;
  }

  /// Where a pass is so small that it waits for memory more than it computes. A larger one would take away from the
  /// kernels beside it what they read themselves (measured on an H200: ViT-B/32 gains 4 percent, ViT-L/14@336 would
  /// lose 5).
  static constexpr AheadLimits kAhead{200, std::size_t{6} << 20};
  /// The weight that is read next, within the limits.
  Ahead ahead(const PreparedWeight* reader, std::int64_t rows) const {
    if (!queue_.overlap || reader == nullptr || rows > kAhead.rows || reader->bytes() > kAhead.bytes) return {};
    const CudaWeight& w = stored(reader);
    return {w.data(), static_cast<std::uint32_t>(w.bytes() / 128)};
  }

  const CudaDevice device_;
  const CudaOptions options_;
  const bool warpgroups_ = device_.major == 9;
  const std::shared_ptr<Choices> choices_ = std::make_shared<Choices>();
  Health health_;
  Stream stream_;
  const Queue queue_{stream_.get(), device_.major == 9};
  Staging staging_;
  Stream copies_;  ///< what upload_beside() copies on
  Staging beside_;
  Event uploaded_;
  static constexpr std::size_t kMarks = 8;
  std::array<Event, kMarks> marks_;
  std::uint64_t marked_ = 0;
  WeightMaker weights_;
  Matmul matmul_;
  Linear linear_;
  EightLinear eight_;
  SumLinear sums_;
  const std::shared_ptr<LinearWork> work_ = std::make_shared<LinearWork>();
  Graphs graphs_;
  Buffer split_;  ///< kSplitBytes, from the first use of a split weight on
};

}  // namespace

std::unique_ptr<Backend> make_backend_on(const CudaDevice& device, const CudaOptions& options) {
  if (device.major * 10 + device.minor < 75) {
    throw Error(Code::unsupported, cat("cuda:", device.index, " (", device.name, ") has compute capability ",
                                       device.major, ".", device.minor, ", 7.5 or newer is wanted: use --device cpu"));
  }
  return std::make_unique<CudaBackend>(device, options);
}

}  // namespace tandem::backend::cuda
