#include "backend/cuda/linear.h"

#include <limits>

#include "backend/cuda/matmul_wgmma.h"

namespace tandem::backend::cuda {
namespace {

using Kernel = ProductChoice::Kernel;

/// The own products read and write 16 bytes at a time.
bool aligned(const void* p, std::int64_t stride) {
  return reinterpret_cast<std::uintptr_t>(p) % 16 == 0 && stride % 8 == 0;
}

}  // namespace

Linear::Linear(Health& health, const CudaDevice& device, Queue queue, Matmul& matmul, Choices& choices,
               AheadLimits ahead)
    : health_(health), device_(device), queue_(queue), matmul_(matmul), choices_(choices), ahead_(ahead) {}

bool Linear::fits_one_wave(const LinearArgs& a, const MatmulCall& m) const {
  return warpgroups_ && m.in != DType::f32 && a.fn != ActivationFn::gelu_tanh && m.rows > 0 &&
         aligned(m.x, m.rows > 1 ? m.ldx : 0) && aligned(m.weight, m.ldw) && aligned(m.out, m.ldo) &&
         (m.residual == nullptr || aligned(m.residual, m.ldr)) && m.outputs % 8 == 0 && m.inputs % 8 == 0;
}

bool Linear::fits_fused(const LinearArgs& a, const MatmulCall& m) const {
  return warpgroups_ && (a.fn == ActivationFn::quick_gelu || a.fn == ActivationFn::gelu_erf) && !a.residual &&
         m.in != DType::f32 && m.type == m.in && m.bias != nullptr && aligned(m.x, m.ldx) && aligned(m.weight, m.ldw) &&
         aligned(m.out, m.ldo) && aligned(m.bias, 0) && m.outputs % 8 == 0 && m.inputs % 8 == 0 &&
         m.rows <= std::numeric_limits<std::int32_t>::max();
}

bool Linear::fits(const ProductChoice& choice, const LinearArgs& a, const MatmulCall& m) const {
  switch (choice.kernel) {
    case Kernel::library: break;
    case Kernel::fused: return fits_fused(a, m);
    case Kernel::one_wave:
      return fits_one_wave(a, m) && one_wave_fits(choice.plan, m.rows, m.outputs, m.inputs, device_.multiprocessors);
  }
  return true;
}

/// Measured on an H200 (matmul_one_wave.cu): the kernel of one wave is for a few rows, beyond which cuBLASLt's are
/// faster, and, because the activation costs it nothing, for all of fc1's that fit.
ProductChoice Linear::by_rule(const LinearArgs& a, const MatmulCall& m) const {
  const std::int64_t products = m.rows * m.outputs * m.inputs;
  const std::int64_t most = m.inputs >= 3 * m.outputs ? 480'000'000 : 300'000'000;
  if (fits_one_wave(a, m) && (a.fn != ActivationFn::none || products <= most)) {
    if (const auto plan = plan_one_wave(m.rows, m.outputs, m.inputs, device_.multiprocessors)) {
      return {Kernel::one_wave, *plan};
    }
  }
  return {fits_fused(a, m) ? Kernel::fused : Kernel::library, {}};
}

ProductChoice Linear::choose(const LinearArgs& a, const MatmulCall& m, Ahead ahead) {
  const auto shape = ProductChoices::shape_of(m, a.fn);
  const ProductChoice* found = measured_.find(shape);
  if (found == nullptr && timer_ && m.rows > 0) {
    if (const auto fastest = measure(a, m, ahead)) measured_.set(shape, *fastest);
    found = measured_.find(shape);
  }
  const bool known = found != nullptr && fits(*found, a, m);
  const ProductChoice choice = known ? *found : by_rule(a, m);
  // Shapes that are the library's are counted where its algorithm is chosen.
  if (measured_.is_new(shape) && choice.kernel != Kernel::library) ++(known ? choices_.measured : choices_.proposed);
  return choice;
}

std::optional<ProductChoice> Linear::measure(const LinearArgs& a, const MatmulCall& m, Ahead ahead) {
  std::vector<ProductChoice> choices{by_rule(a, m)};  // where nothing is faster
  const auto add = [&](const ProductChoice& c) {
    if (fits(c, a, m) && to_string(c) != to_string(choices.front())) choices.push_back(c);
  };
  if (fits_one_wave(a, m)) {
    for (const OneWavePlan& plan : one_wave_plans(m.rows, m.outputs, m.inputs, device_.multiprocessors)) {
      add({Kernel::one_wave, plan});
    }
  }
  add({Kernel::fused, {}}), add({Kernel::library, {}});
  // Finding the library's algorithm would overwrite a residual that its product knows nothing of.
  const bool lost = a.fn != ActivationFn::none && m.residual == m.out;
  if (choices.size() == 1 || lost) return {};
  // The library's best algorithm is found before its product is timed among the others.
  MatmulCall plain = m;
  if (a.fn != ActivationFn::none) plain.residual = nullptr;
  matmul_.prepare(plain);
  std::vector<ProductTimer::Way> ways;
  ways.reserve(choices.size());
  for (const ProductChoice& choice : choices) {
    ways.emplace_back([&](const MatmulCall& call) {
      try {
        return issue(choice, a, call, ahead) == cudaSuccess;
      } catch (const Error&) {  // the library's
        return false;
      }
    });
  }
  timer_->begin(m);
  const auto ranked = timer_->rank(ways);
  timer_->end();
  return ranked.empty() ? std::nullopt : std::optional(choices[ranked.front()]);
}

void Linear::start_tuning() {
  measured_.clear();
  timer_ = std::make_unique<ProductTimer>(health_, device_.index, queue_.stream, ahead_);
  matmul_.start_tuning(*timer_);
}

void Linear::run(const LinearArgs& a, const MatmulCall& m, Ahead ahead) {
  health_.check(issue(choose(a, m, ahead), a, m, ahead), "linear");
}

cudaError_t Linear::issue(const ProductChoice& choice, const LinearArgs& a, const MatmulCall& m, Ahead ahead) {
  switch (choice.kernel) {
    case Kernel::library: break;
    case Kernel::fused: return fused(a, m);
    case Kernel::one_wave: return one_wave(a, m, ahead, choice.plan);
  }
  return by_library(a, m);
}

cudaError_t Linear::one_wave(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const OneWavePlan& plan) const {
  OneWaveCall w;
  w.x = m.x, w.rows = m.rows, w.ldx = m.ldx, w.weight = m.weight, w.outputs = m.outputs, w.inputs = m.inputs;
  w.ldw = m.ldw, w.in = m.in, w.bias = a.bias.as<float>(), w.residual = m.residual, w.ldr = m.ldr;
  w.out = m.out, w.ldo = m.ldo, w.type = m.type, w.fn = a.fn, w.ahead = ahead;
  return one_wave_product(w, plan, queue_);
}

cudaError_t Linear::fused(const LinearArgs& a, const MatmulCall& m) const {
  FusedCall f;
  f.x = m.x, f.rows = m.rows, f.ldx = m.ldx, f.weight = m.weight, f.outputs = m.outputs, f.inputs = m.inputs;
  f.ldw = m.ldw, f.bias = m.bias, f.out = m.out, f.ldo = m.ldo;
  f.device = device_.index, f.processors = device_.multiprocessors;
  return fused_product(f, m.type, a.fn, queue_.stream);
}

cudaError_t Linear::by_library(const LinearArgs& a, MatmulCall m) {
  if (a.fn == ActivationFn::none) {
    matmul_.run(m);
    return cudaSuccess;
  }
  // Where the residual is what the product overwrites, the product goes elsewhere first.
  View product = a.out.view;
  if (a.residual && a.residual.data == a.out.view.data) {
    make_room(health_, device_.index, queue_.stream, a.out.view.bytes(), spare_);
    product = {spare_.data(), a.out.view.dtype, a.out.view.shape};
  }
  m.residual = nullptr, m.out = product.data, m.ldo = product.stride;
  matmul_.run(m);
  return activate({product, a.residual, a.out.view, a.fn, m.tf32}, queue_);
}

}  // namespace tandem::backend::cuda
