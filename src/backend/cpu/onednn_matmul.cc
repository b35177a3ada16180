#include "backend/cpu/onednn_matmul.h"

#include <omp.h>

#include <algorithm>
#include <list>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::backend::cpu {
namespace {

using dnnl::memory;

constexpr std::size_t kPlans = 64;
/// Panels as wide as these are what oneDNN's AVX-512 and AMX kernels read.
constexpr int kPanel = 64;

/// All that a plan depends on.
struct Key {
  std::int64_t rows, inputs, outputs, lda, ldo, ldr;
  bool bf16, out_bf16, bias;
  ActivationFn fn;
  enum class Residual : std::uint8_t { none, in_place, apart } residual;
  friend bool operator==(const Key&, const Key&) = default;
};

Key key_of(const GemmCall& c) {
  using Residual = Key::Residual;
  const Residual residual = c.residual == nullptr                   ? Residual::none
                            : c.residual == c.out && c.ldr == c.ldo ? Residual::in_place
                                                                    : Residual::apart;
  return {c.rows,
          c.weight->inputs(),
          c.weight->outputs(),
          c.lda,
          c.ldo,
          residual == Residual::apart ? c.ldr : 0,
          c.weight->bf16(),
          c.out_bf16,
          c.bias != nullptr,
          c.fn,
          residual};
}

struct Plan {
  Key key;
  bool usable = false;
  dnnl::primitive primitive;
  memory a, weight, bias, residual, out, scratch;
  std::vector<dnnl_exec_arg_t> arguments;
  std::size_t scratch_bytes = 0;
};

/// The thread count that OpenMP gives this thread's next regions, put back afterwards.
class Threads {
 public:
  explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace

struct OneDnnMatmul::Impl {
  explicit Impl(int n) : threads(n), engine(dnnl::engine::kind::cpu, 0), stream(engine) {}

  int threads;
  dnnl::engine engine;
  dnnl::stream stream;
  std::list<Plan> plans;  // used last first
  Buffer scratch;

  Plan& plan(const GemmCall& call) {
    const Key key = key_of(call);
    const auto found = std::find_if(plans.begin(), plans.end(), [&](const Plan& p) { return p.key == key; });
    if (found != plans.end()) {
      plans.splice(plans.begin(), plans, found);
      return plans.front();
    }
    if (plans.size() >= kPlans) plans.pop_back();
    plans.push_front(make(key));
    return plans.front();
  }

  Plan make(const Key& k) {
    using Type = memory::data_type;
    using Residual = Key::Residual;
    const Type type = k.bf16 ? Type::bf16 : Type::f32, out_type = k.out_bf16 ? Type::bf16 : Type::f32;
    const memory::desc a({k.rows, k.inputs}, type, memory::dims{k.lda, 1});
    const memory::desc out({k.rows, k.outputs}, out_type, memory::dims{k.ldo, 1});
    const memory::desc residual({k.rows, k.outputs}, out_type, memory::dims{std::max(k.ldr, k.outputs), 1});
    const memory::desc bias({1, k.outputs}, Type::f32, memory::format_tag::ab);
    dnnl::post_ops steps;
    switch (k.fn) {
      case ActivationFn::none: break;
      case ActivationFn::quick_gelu: steps.append_eltwise(dnnl::algorithm::eltwise_swish, 1.702F, 0); break;
      case ActivationFn::gelu_erf: steps.append_eltwise(dnnl::algorithm::eltwise_gelu_erf, 0, 0); break;
      case ActivationFn::gelu_tanh: steps.append_eltwise(dnnl::algorithm::eltwise_gelu_tanh, 0, 0); break;
    }
    if (k.residual == Residual::in_place) steps.append_sum(1.0F);
    if (k.residual == Residual::apart) steps.append_binary(dnnl::algorithm::binary_add, residual);
    dnnl::primitive_attr attributes;
    attributes.set_post_ops(steps);
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);

    Plan p;
    p.key = k;
    try {
      const memory::desc weight({k.inputs, k.outputs}, type,
                                k.bf16 ? memory::format_tag::BA16a64b2a : memory::format_tag::BA16a64b);
      // Failure is an answer here, not an error: allow_empty.
      const auto pd = k.bias ? dnnl::matmul::primitive_desc(engine, a, weight, bias, out, attributes, true)
                             : dnnl::matmul::primitive_desc(engine, a, weight, out, attributes, true);
      if (!pd || std::string_view(pd.impl_info_str()).substr(0, 3) != "brg") return p;
      p.primitive = dnnl::matmul(pd);
      p.a = memory(a, engine, DNNL_MEMORY_NONE);
      p.weight = memory(weight, engine, DNNL_MEMORY_NONE);
      p.out = memory(out, engine, DNNL_MEMORY_NONE);
      p.scratch = memory(pd.scratchpad_desc(), engine, DNNL_MEMORY_NONE);
      p.scratch_bytes = pd.scratchpad_desc().get_size();
      p.arguments = {{DNNL_ARG_SRC, p.a.get()},
                     {DNNL_ARG_WEIGHTS, p.weight.get()},
                     {DNNL_ARG_DST, p.out.get()},
                     {DNNL_ARG_SCRATCHPAD, p.scratch.get()}};
      if (k.bias) {
        p.bias = memory(bias, engine, DNNL_MEMORY_NONE);
        p.arguments.push_back({DNNL_ARG_BIAS, p.bias.get()});
      }
      if (k.residual == Residual::apart) {
        p.residual = memory(residual, engine, DNNL_MEMORY_NONE);
        p.arguments.push_back(
            {DNNL_ARG_ATTR_MULTIPLE_POST_OP((k.fn == ActivationFn::none ? 0 : 1)) | DNNL_ARG_SRC_1, p.residual.get()});
      }
      if (p.scratch_bytes > scratch.bytes()) scratch = allocate_host(p.scratch_bytes, 64);
      p.usable = true;
    } catch (const dnnl::error& e) {
      if (e.status != dnnl_unimplemented && e.status != dnnl_invalid_arguments) {
        throw Error(Code::device_failure, cat("oneDNN could not plan a product of ", k.rows, " x ", k.inputs, " x ",
                                              k.outputs, ": ", e.what()));
      }
    }
    return p;
  }
};

bool OneDnnMatmul::available() noexcept {
  return true;
}

OneDnnMatmul::OneDnnMatmul(int threads) : impl_(std::make_unique<Impl>(threads)) {}
OneDnnMatmul::~OneDnnMatmul() = default;

bool OneDnnMatmul::prepare(const GemmCall& call) {
  if (call.weight->panel() != kPanel || call.rows == 0) return false;
  const Threads threads(impl_->threads);
  return impl_->plan(call).usable;
}

bool OneDnnMatmul::run(const GemmCall& call) {
  if (call.weight->panel() != kPanel || call.rows == 0) return false;
  const Threads threads(impl_->threads);
  Plan& p = impl_->plan(call);
  if (!p.usable) return false;
  const auto set = [](memory& m, const void* data) { m.set_data_handle(const_cast<void*>(data)); };
  set(p.a, call.a);
  set(p.weight, call.weight->data());
  set(p.out, call.out);
  set(p.scratch, impl_->scratch.data());
  if (p.bias) set(p.bias, call.bias);
  if (p.residual) set(p.residual, call.residual);
  const dnnl_status_t status = dnnl_primitive_execute(p.primitive.get(), impl_->stream.get(),
                                                      static_cast<int>(p.arguments.size()), p.arguments.data());
  if (status != dnnl_success) {
    throw Error(Code::device_failure,
                cat("oneDNN failed with status ", static_cast<int>(status), " on a product of ", call.rows, " rows"));
  }
  return true;
}

}  // namespace tandem::backend::cpu
