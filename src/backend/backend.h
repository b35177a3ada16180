// The fused steps that a CLIP transformer is made of. One implementation per kind of device; the model above calls
// them and knows neither device nor element type. All views of a call are in the backend's own memory. Calls are
// issued in order on the backend's one stream of work, by one thread at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "tandem/types.h"
#include "tensor/tensor.h"

namespace tandem::backend {

enum class ActivationFn : std::uint8_t {
  none,
  quick_gelu,  ///< x * sigmoid(1.702 x)
  gelu_erf,    ///< x * Phi(x), exact
  gelu_tanh,   ///< the tanh approximation
};

/// Element types of a forward pass in one precision.
struct ComputeTypes {
  DType activation;  ///< what linear layers and attention read and write
  DType residual;    ///< the residual stream
};

/// A weight matrix in the form that a backend multiplies with: packed, converted, quantised. Opaque above the backend.
class PreparedWeight {
 public:
  virtual ~PreparedWeight() = default;
  std::int64_t outputs() const noexcept { return outputs_; }
  std::int64_t inputs() const noexcept { return inputs_; }
  std::size_t bytes() const noexcept { return bytes_; }
  DType type() const noexcept { return type_; }                     ///< of the stored elements
  const std::string& packing() const noexcept { return packing_; }  ///< their order, for people: "rows", "panels64"
  /// Whether it is norm_linear()'s alone, which then normalises inside of the product.
  virtual bool folds_norm() const noexcept { return false; }
  bool has_scales() const noexcept { return has_scales_; }  ///< elements are multiplied by scales of their own

 protected:
  PreparedWeight(std::int64_t outputs, std::int64_t inputs, std::size_t bytes, DType type = DType::f32,
                 std::string packing = "rows", bool has_scales = false)
      : outputs_(outputs),
        inputs_(inputs),
        bytes_(bytes),
        type_(type),
        has_scales_(has_scales),
        packing_(std::move(packing)) {}

 private:
  std::int64_t outputs_, inputs_;
  std::size_t bytes_;
  DType type_;
  bool has_scales_;
  std::string packing_;
};

/// How an eight-bit weight will be used: what calibration chose for its layer. Other precisions ignore it.
struct WeightUse {
  float input_scale = 0;  ///< one step of the input's static scale; 0: a scale per row, found as the row comes
  /// f32 [N] on the host: one step of every output's weights, where they were rounded to multiples of it already (to
  /// whole ones, or in fp8 to E4M3 numbers). An output's step is 0, or there are none: found from its weights.
  ConstView steps{};
};

/// An activation as an operation reads or writes it: its elements and, for eight-bit types, a scale per row (f32).
struct Operand {
  View view;
  View scales;
};
struct ConstOperand {
  ConstView view;
  ConstView scales;
  constexpr ConstOperand() = default;
  constexpr ConstOperand(ConstView v, ConstView s = {}) : view(v), scales(s) {}  // NOLINT(google-explicit-constructor)
  constexpr ConstOperand(View v) : view(v) {}                                    // NOLINT(google-explicit-constructor)
  constexpr ConstOperand(Operand o) : view(o.view), scales(o.scales) {}          // NOLINT(google-explicit-constructor)
};

/// How the rows of a packed matrix divide into sequences. Sequence i owns rows [offsets[i], offsets[i + 1]); without
/// offsets each has `longest` rows. `offsets` (count + 1 values) is the backend's. Rows after the last belong to none.
struct Sequences {
  std::int64_t count = 0;
  std::int64_t longest = 0;
  std::int64_t rows = 0;
  const std::int32_t* offsets = nullptr;
};

/// tokens[b, 0] = class_embedding + position[0]; tokens[b, 1 + p] = W patch(b, p) + bias + position[1 + p].
/// Pixels are bytes; W is prepared so that (pixel / 255 - mean) / std is folded into it and its bias.
struct PatchEmbedArgs {
  ConstView pixels;                        // u8 [B, S, S, 3]
  const PreparedWeight* weight = nullptr;  // from prepare_patch_embed
  ConstView class_embedding;               // f32 [D]; none: no class token
  ConstView position;                      // f32 [T, D]
  View scratch;                            // patch_embed_scratch() bytes (u8)
  View out;                                // residual type [B * T, D]
  int patch = 0;
};

/// out = (x - mean(x)) / sqrt(var(x) + eps) * gamma + beta, per row, statistics in float32 (Ba et al. 2016).
struct LayerNormArgs {
  ConstView x;            // residual type [M, D]
  ConstView gamma, beta;  // f32 [D]
  float eps = 1e-5F;
  Operand out;  // activation or residual type [M, D]; may be x itself
  /// Of the products that read `out`: fp32 and tf32 have the same activation type. fp32 where none does.
  Precision precision = Precision::fp32;
  const PreparedWeight* reader = nullptr;  ///< a hint: what `out` is multiplied with next
};

/// out = fn(x W^T + bias) + residual.
struct LinearArgs {
  ConstOperand x;                          // [M, K]
  const PreparedWeight* weight = nullptr;  // [N, K]
  ConstView bias;                          // f32 [N]; none: zero
  ActivationFn fn = ActivationFn::none;
  ConstView residual;                      // [M, N] of out's type; may be out itself; none: zero
  Operand out;                             // [M, N], activation or residual type
  const PreparedWeight* reader = nullptr;  ///< a hint: what `out` is multiplied with next
};

/// out = fn(ln(x) W^T + bias), where ln is LayerNormArgs' normalisation: a backend that applies it inside of the
/// product saves writing and reading the normalised rows.
struct NormLinearArgs {
  ConstView x;            // residual type [M, D]
  ConstView gamma, beta;  // f32 [D]
  float eps = 1e-5F;
  Precision precision = Precision::fp32;   ///< of the pass: fp32 and tf32 have the same activation type
  const PreparedWeight* weight = nullptr;  // [N, D] from prepare_norm_linear, with the same gamma, beta and bias
  ConstView bias;                          // f32 [N]; none: zero
  ActivationFn fn = ActivationFn::none;
  Operand normalized;                      // activation type [M, D]: scratch, for backends that need it
  Operand out;                             // [M, N], activation type
  const PreparedWeight* reader = nullptr;  ///< a hint: what `out` is multiplied with next
};

/// softmax(q k^T / sqrt(head_dim)) v for every head of every sequence, softmax in float32. Every sequence also attends
/// to the rows of prefix_k and prefix_v, which stand before its own. `causal`: a query sees the prefix, and its own
/// sequence up to its own row (queries and keys then have the same sequences).
struct AttentionArgs {
  ConstView q;                   // activation type [queries.rows, heads * head_dim], any stride
  ConstView k, v;                // activation type [keys.rows, heads * head_dim], any stride
  ConstView prefix_k, prefix_v;  // [P, heads * head_dim]; none: no prefix
  View out;                      // activation type [queries.rows, heads * head_dim]
  Sequences queries, keys;
  int heads = 0, head_dim = 0;
  bool causal = false;
  Precision precision = Precision::fp32;   ///< of the pass: fp32 and tf32 have the same activation type
  const PreparedWeight* reader = nullptr;  ///< a hint: what `out` is multiplied with next
};

/// out[r] = table[ids[r]] + position[positions[r]]
struct EmbedTokensArgs {
  const std::int32_t* ids = nullptr;        // [M]
  const std::int32_t* positions = nullptr;  // [M]
  ConstView table;                          // [V, D], type chosen by prepare_table
  ConstView position;                       // f32 [T, D]
  View out;                                 // residual type [M, D]
};

/// out[i] = x[rows[i]], or x[i * every] where `rows` is null.
struct SelectRowsArgs {
  ConstView x;                         // [M, D], any type
  const std::int32_t* rows = nullptr;  // [N]
  View out;                            // [N, D], x's type
  std::int64_t every = 0;
};

/// out = x W^T (float32), divided by its L2 norm when asked.
struct ProjectArgs {
  ConstView x;                             // f32 [B, D]
  const PreparedWeight* weight = nullptr;  // [P, D] from prepare_projection; none: out = x, normalised when asked
  bool normalize = true;
  View out;  // f32 [B, P]
};

/// normalized = ln(x); out = normalized W^T, divided by its L2 norm when asked. All in float32.
struct NormProjectArgs {
  ConstView x;            // residual type [B, D]
  ConstView gamma, beta;  // f32 [D]
  float eps = 1e-5F;
  View normalized;                         // f32 [B, D]
  const PreparedWeight* weight = nullptr;  // [P, D] from prepare_projection; none: out = normalized
  bool normalize = true;
  View out;  // f32 [B, P]
};

/// out = scale * a b^T (float32)
struct SimilarityArgs {
  ConstView a, b;  // f32 [M, D], [N, D]
  float scale = 1;
  View out;  // f32 [M, N]
};

/// A device's memory, in bytes; zeros where the backend does not count. `held` and `peak` are what this backend itself
/// allocated: now, and at most so far.
struct Memory {
  std::size_t free = 0, total = 0;
  std::size_t held = 0, peak = 0;
};

/// How kernels were chosen for the shapes of matrix products that a backend has met. May be read on any thread, and
/// outlives the backend.
struct Choices {
  std::string file;                           ///< of measurements that is in use; empty: none
  std::atomic<int> measured{0}, proposed{0};  ///< shapes: by a measurement, by the library's heuristic
  std::atomic<int> recorded{0};               ///< passes of replay()
};

/// Multiply-adds of linear() and norm_linear() so far, as they were issued: a recorded pass counts when it is recorded.
/// May be read on any thread, and outlives the backend.
struct LinearWork {
  std::atomic<std::uint64_t> all{0}, eight_bit{0};
};

/// A point in the order of the operations that a backend was given.
class Moment {
 public:
  virtual ~Moment() = default;
  /// Milliseconds from when the device reached an earlier moment of the same backend until it reached this one. Waits
  /// until it has.
  virtual double since(const Moment& earlier) const = 0;
};

/// Names a pass: whoever gives the same key again issues the same operations on the same addresses, so that what
/// differs is only what stands in the device's memory.
using PassKey = std::array<std::int64_t, 8>;

/// What allocate() and prepare_*() return is the device's, not the backend's that made it: replicas of one device share
/// their weights. Once the maker's synchronize() has returned, any backend of that device made with the same options
/// may read it, on its own thread; it may outlive its maker, and is freed on any thread.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual DeviceId device() const = 0;
  virtual std::string device_name() const = 0;  ///< "AMD EPYC …"
  virtual std::string isa() const = 0;          ///< "avx512_bf16", "sm_90", "plain"
  /// Resolves `automatic`, and throws unsupported, with the remedy, for what this device cannot do.
  virtual Precision resolve(Precision precision) const = 0;
  virtual ComputeTypes types(Precision precision) const = 0;
  /// What a layer computes in that is kept back from an eight-bit precision: one with the same types() of activations.
  /// Others: the same one.
  virtual Precision kept(Precision precision) const { return precision; }

  virtual Buffer allocate(std::size_t bytes) = 0;
  virtual void upload(const void* host, View to) = 0;     ///< contiguous
  virtual void download(ConstView from, void* host) = 0;  ///< contiguous; returns when the bytes are there
  virtual void synchronize() = 0;

  // Copies beside the work. On the host everything is done when a call returns, and these are the plain ones.
  /// As upload(), on a stream of copies of its own, so that it overlaps the work. `to` must not be in use by work that
  /// is not finished. Safe to call from several threads at once; the host's bytes are free when it returns.
  virtual void upload_beside(const void* host, View to) { upload(host, to); }
  /// Work issued from now on sees what upload_beside() was given until now.
  virtual void join_uploads() {}
  /// Host memory that download_later() may write to.
  virtual Buffer allocate_landing(std::size_t bytes) { return allocate_host(bytes); }
  /// As download(), in the stream's order: the bytes are there when a mark() set later has passed. `landing` is inside
  /// memory from allocate_landing().
  virtual void download_later(ConstView from, void* landing) { download(from, landing); }
  /// A mark behind everything issued so far.
  virtual std::uint64_t mark() { return 0; }
  /// Returns when the device has reached a mark.
  virtual void wait_for(std::uint64_t) {}
  /// The same, some ten microseconds later, and other threads have the processor meanwhile.
  virtual void wait_asleep(std::uint64_t mark) { wait_for(mark); }

  virtual Memory memory() const { return {}; }
  /// The stream of work as the device's library knows it (a cudaStream_t): what a Communicator issues its sums on, and
  /// what a copy waits for. Null on the host, where a call is done when it returns.
  virtual void* stream() const noexcept { return nullptr; }

  // Preparing weights, from host memory in f32, f16 or bf16. Safe to call from several threads at once.
  virtual std::unique_ptr<PreparedWeight> prepare_linear(ConstView weight, Precision precision,  // [N, K]
                                                         const WeightUse& use = {}) = 0;
  /// The weight of norm_linear(), which a backend may store with gamma, beta and bias (f32, f16 or bf16 on the host; no
  /// bias: none) folded in.
  virtual std::unique_ptr<PreparedWeight> prepare_norm_linear(ConstView weight, ConstView /*bias*/, ConstView /*gamma*/,
                                                              ConstView /*beta*/, Precision precision,
                                                              const WeightUse& use = {}) {
    return prepare_linear(weight, precision, use);
  }
  /// weight [D, 3, P, P] as published; mean and std per channel; bias [D] or none.
  virtual std::unique_ptr<PreparedWeight> prepare_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                              const float std[3], float rescale,
                                                              Precision precision) = 0;
  virtual std::unique_ptr<PreparedWeight> prepare_projection(ConstView weight) = 0;  // [P, D], stays f32
  virtual Tensor prepare_vector(ConstView vector) = 0;                               // any shape, to f32
  virtual Tensor prepare_table(ConstView table, Precision precision) = 0;            // [V, D]

  /// Bytes that patch_embed needs for a batch.
  virtual std::size_t patch_embed_scratch(std::int64_t batch, int image, int patch, std::int64_t width,
                                          Precision precision) const = 0;
  /// Bytes of its own that linear() and norm_linear() take for so many rows of so many inputs, beside what they are
  /// given. The first call takes them, and they stay for all that need no more.
  virtual std::size_t linear_scratch(std::int64_t /*rows*/, std::int64_t /*inputs*/, Precision) const { return 0; }
  /// Issues the operations of `pass`, which uploads, downloads and allocates nothing and waits for nothing. A backend
  /// that can records those of a key that comes again and from then on issues them all at once.
  virtual void replay(const PassKey&, const std::function<void()>& pass) { pass(); }
  /// Around the operations of a pass, on the thread that issues them: a processor's backends divide its threads among
  /// the passes under way.
  virtual void pass_begins() noexcept {}
  virtual void pass_ends() noexcept {}

  // Choosing kernels by measurement, never during a request (`tandem bench --tune`, bench/cuda_operations).
  /// Forgets what was measured before. From now on the first use of a shape times what could compute it and keeps the
  /// fastest, which takes seconds.
  virtual void start_tuning() {}
  /// What was measured, as text for a file of this device (backend/tuning.h); empty where there is nothing to choose.
  virtual std::string tuned() const { return {}; }
  /// Takes such a text, before the first operation; lines of other versions or kinds are left out. Returns how many
  /// shapes it took. `file` is where the text stood, for choices().
  virtual int take_tuned(const std::string& /*text*/, const std::string& /*file*/ = {}) { return 0; }
  /// Counted from the first operation on; null where there is nothing to choose.
  virtual std::shared_ptr<const Choices> choices() const { return nullptr; }

  /// Null where eight-bit precisions are not computed.
  virtual std::shared_ptr<const LinearWork> linear_work() const { return nullptr; }

  // For measuring (TimedBackend).
  /// On the host a call is done when it returns: the time of this one.
  virtual std::unique_ptr<Moment> moment();
  /// Keeps the device busy for about so long, so that it finds what is issued next already waiting: then moments
  /// around an operation hold the device's time, not the host's.
  virtual void linger(double /*milliseconds*/) {}

  virtual void patch_embed(const PatchEmbedArgs&) = 0;
  virtual void layer_norm(const LayerNormArgs&) = 0;
  virtual void linear(const LinearArgs&) = 0;
  /// layer_norm() and linear(), unless a backend does better.
  virtual void norm_linear(const NormLinearArgs&);
  virtual void attention(const AttentionArgs&) = 0;
  virtual void embed_tokens(const EmbedTokensArgs&) = 0;
  virtual void select_rows(const SelectRowsArgs&) = 0;
  virtual void project(const ProjectArgs&) = 0;
  /// layer_norm() and project(), unless a backend does better.
  virtual void norm_project(const NormProjectArgs&);
  virtual void similarity(const SimilarityArgs&) = 0;
};

// Shape and type checks in front of every implementation: they throw internal, since the model made the call.
void check(const PatchEmbedArgs&);
void check(const LayerNormArgs&);
void check(const LinearArgs&);
void check(const NormLinearArgs&);
void check(const AttentionArgs&);
void check(const EmbedTokensArgs&);
void check(const SelectRowsArgs&);
void check(const ProjectArgs&);
void check(const NormProjectArgs&);
void check(const SimilarityArgs&);

}  // namespace tandem::backend
