#include "backend/cuda/linear.h"

#include "backend/cuda/matmul_wide.h"

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

bool Linear::fits_wide(const LinearArgs& a, const MatmulCall& m, bool normed) const {
  return warpgroups_ && (normed || a.fn != ActivationFn::none) && a.fn != ActivationFn::gelu_tanh && !a.residual &&
         m.in != DType::f32 && m.type == m.in && aligned(m.x, m.ldx) && aligned(m.weight, m.ldw) &&
         aligned(m.out, m.ldo) && m.outputs % 8 == 0 && m.inputs % 8 == 0 && wide_fits(m.rows, m.outputs, m.inputs);
}

bool Linear::fits(const ProductChoice& choice, const LinearArgs& a, const MatmulCall& m, bool normed) const {
  switch (choice.kernel) {
    case Kernel::library: break;
    case Kernel::wide: return fits_wide(a, m, normed);
    case Kernel::narrow: return false;
    case Kernel::one_wave:
      return fits_one_wave(a, m) && one_wave_fits(choice.plan, m.rows, m.outputs, m.inputs, device_.multiprocessors);
  }
  return true;
}

/// Measured on an H200: the kernel of one wave is for a few rows, beyond which cuBLASLt's are faster, and, because the
/// activation costs it nothing, for all of fc1's that fit.
ProductChoice Linear::by_rule(const LinearArgs& a, const MatmulCall& m, bool normed) const {
  const std::int64_t products = m.rows * m.outputs * m.inputs;
  const std::int64_t most = m.inputs >= 3 * m.outputs ? 480'000'000 : 300'000'000;
  if (fits_one_wave(a, m) && (a.fn != ActivationFn::none || products <= most)) {
    if (const auto plan = plan_one_wave(m.rows, m.outputs, m.inputs, device_.multiprocessors)) {
      return {Kernel::one_wave, *plan};
    }
  }
  // An activation behind cuBLASLt's product costs more than tiles that do not fill the device.
  const bool wide =
      fits_wide(a, m, normed) && (a.fn != ActivationFn::none || wide_fills(m.rows, m.outputs, device_.multiprocessors));
  return {wide ? Kernel::wide : Kernel::library, {}};
}

ProductChoice Linear::choose(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const Normed& normed) {
  const bool norms = normed.sums != nullptr;
  const auto shape = ProductChoices::shape_of(m, a.fn, norms);
  const ProductChoice* found = measured_.find(shape);
  if (found == nullptr && timer_ && m.rows > 0) {
    if (const auto fastest = measure(a, m, ahead, normed)) measured_.set(shape, *fastest);
    found = measured_.find(shape);
  }
  const bool known = found != nullptr && fits(*found, a, m, norms);
  const ProductChoice choice = known ? *found : by_rule(a, m, norms);
  // Shapes that are the library's are counted where its algorithm is chosen.
  if (measured_.is_new(shape) && choice.kernel != Kernel::library) ++(known ? choices_.measured : choices_.proposed);
  return choice;
}

std::optional<ProductChoice> Linear::measure(const LinearArgs& a, const MatmulCall& m, Ahead ahead,
                                             const Normed& normed) {
  const bool norms = normed.sums != nullptr;
  std::vector<ProductChoice> choices{by_rule(a, m, norms)};  // where nothing is faster
  const auto add = [&](const ProductChoice& c) {
    if (fits(c, a, m, norms) && to_string(c) != to_string(choices.front())) choices.push_back(c);
  };
  if (fits_one_wave(a, m)) {
    for (const OneWavePlan& plan : one_wave_plans(m.rows, m.outputs, m.inputs, device_.multiprocessors)) {
      add({Kernel::one_wave, plan});
    }
  }
  add({Kernel::wide, {}}), add({Kernel::library, {}});
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
        return issue(choice, a, call, ahead, normed) == cudaSuccess;
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

void Linear::run(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const Normed& normed) {
  health_.check(issue(choose(a, m, ahead, normed), a, m, ahead, normed), "linear");
}

cudaError_t Linear::issue(const ProductChoice& choice, const LinearArgs& a, const MatmulCall& m, Ahead ahead,
                          const Normed& normed) {
  if (choice.kernel == Kernel::wide) return wide(a, m, normed);
  MatmulCall product = m;
  if (normed.sums != nullptr) {  // gamma and beta are the weight's
    const cudaError_t code = layer_norm({normed.x, {}, {}, normed.eps, {normed.room, {}}}, normed.ahead, queue_);
    if (code != cudaSuccess) return code;
    product.x = normed.room.data, product.ldx = normed.room.stride;
  }
  return choice.kernel == Kernel::one_wave ? one_wave(a, product, ahead, choice.plan) : by_library(a, product);
}

cudaError_t Linear::one_wave(const LinearArgs& a, const MatmulCall& m, Ahead ahead, const OneWavePlan& plan) const {
  OneWaveCall w;
  w.x = m.x, w.rows = m.rows, w.ldx = m.ldx, w.weight = m.weight, w.outputs = m.outputs, w.inputs = m.inputs;
  w.ldw = m.ldw, w.in = m.in, w.bias = a.bias.as<float>(), w.residual = m.residual, w.ldr = m.ldr;
  w.out = m.out, w.ldo = m.ldo, w.type = m.type, w.fn = a.fn, w.ahead = ahead;
  return one_wave_product(w, plan, queue_);
}

cudaError_t Linear::wide(const LinearArgs& a, const MatmulCall& m, const Normed& normed) const {
  WideCall w;
  w.x = m.x, w.rows = m.rows, w.ldx = m.ldx, w.weight = m.weight, w.outputs = m.outputs, w.inputs = m.inputs;
  w.ldw = m.ldw, w.type = m.type, w.bias = a.bias.as<float>(), w.out = m.out, w.ldo = m.ldo, w.fn = a.fn;
  w.processors = device_.multiprocessors;
  if (normed.sums != nullptr) {
    RowStatisticsCall s;
    s.x = m.x, s.rows = m.rows, s.columns = m.inputs, s.ldx = m.ldx, s.eps = normed.eps;
    s.scale = normed.room.as<float>(), s.shift = s.scale + (m.rows + 3) / 4 * 4;
    const cudaError_t code = row_statistics(s, queue_);
    if (code != cudaSuccess) return code;
    w.scale = s.scale, w.shift = s.shift, w.sums = normed.sums;
  }
  return wide_product(w, queue_);
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
