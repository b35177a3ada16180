#include "backend/cuda/eight_linear.h"

#include <algorithm>

#include "backend/cuda/eight_checks.h"
#include "backend/cuda/matmul_one_wave.h"
#include "tensor/e4m3.h"

namespace tandem::backend::cuda {
namespace {

using Kernel = ProductChoice::Kernel;

/// A layer of zeros has a step, too.
constexpr float kLeastBound = 1e-6F;
/// Rows that the library can be given ones for.
constexpr std::int64_t kMostOnes = std::int64_t{1} << 18;

}  // namespace

EightLinear::EightLinear(Health& health, const CudaDevice& device, Queue queue, Matmul& matmul, Linear& linear,
                         Choices& choices)
    : health_(health), device_(device), queue_(queue), matmul_(matmul), linear_(linear), choices_(choices) {}

bool EightLinear::fits(ConstView weight, bool normed) {
  return weight.columns() % 16 == 0 && weight.rows() % 8 == 0 && (!normed || weight.columns() <= kMostFolded);
}

MatmulCall EightLinear::product_of(const EightCall& c) {
  MatmulCall m;
  m.x = c.x, m.rows = c.rows, m.ldx = c.ldx, m.weight = c.weight, m.outputs = c.outputs, m.inputs = c.inputs;
  m.ldw = c.ldw, m.in = DType::f8e4m3, m.bias = c.bias, m.residual = c.residual, m.ldr = c.ldr;
  m.out = c.out, m.ldo = c.ldo, m.type = c.type, m.alpha = c.alpha;
  m.row_scales = c.row_scales, m.column_scales = c.column_scales;
  if (c.bias != nullptr) m.bias = vector_as(m.type == DType::f16 ? DType::f16 : DType::f32, c.bias, c.outputs);
  return m;
}

bool EightLinear::library_fits(const EightCall& c) {
  if (c.fn != ActivationFn::none || c.type != DType::f16 || c.rows > kMostOnes) return false;
  const MatmulCall m = product_of(c);
  const auto [found, is_new] = library_fits_.try_emplace(product_shape(m));
  if (is_new) {
    MatmulCall asked = m;
    // Which vectors these are makes no difference, only that there are some.
    if (asked.row_scales == nullptr) asked.row_scales = c.column_scales;
    found->second = matmul_.supports(asked);
  }
  return found->second;
}

bool EightLinear::fits(const ProductChoice& choice, const EightCall& c) {
  switch (choice.kernel) {
    case Kernel::library: return library_fits(c);
    case Kernel::wide: return eight_wide_fits(c, 256);
    case Kernel::narrow: return eight_wide_fits(c, 128);
    case Kernel::one_wave:
      return one_wave_fits(choice.plan, c.rows, c.outputs, c.inputs, device_.multiprocessors, DType::f8e4m3);
  }
  return false;
}

/// Measured on an H200 at batches 1, 16 and 256 of the common towers. Few rows are one wave's; of many, cuBLASLt's
/// products are faster by 5 to 25 percent, but it has none with an activation. Those are the own kernel's, by the clock
/// cycles of a step of 128 inputs and of a tile's end.
ProductChoice EightLinear::by_rule(const EightCall& c) {
  const bool library = library_fits(c);
  // Queries, keys and values of several images: the one exception among what fits one wave.
  const bool spread = c.rows >= 700 && c.outputs > 2 * c.inputs;
  if (!library || !spread) {
    if (const auto plan = plan_one_wave(c.rows, c.outputs, c.inputs, device_.multiprocessors, DType::f8e4m3)) {
      return {Kernel::one_wave, *plan};
    }
  }
  if (library) return {Kernel::library, {}};
  const auto steps = static_cast<double>((c.inputs + 127) / 128);
  const auto cycles = [&](int columns, double step, double end) {
    return eight_wide_waves(c, columns) * (steps * step + end);
  };
  // Deep tiles of few inputs: there the kernel of one wave takes several.
  if (!eight_wide_fits(c, 128)) return {Kernel::one_wave, {128, 128, 1}};
  const bool wide = eight_wide_fits(c, 256) && cycles(256, 1024, 700) <= cycles(128, 600, 450);
  return {wide ? Kernel::wide : Kernel::narrow, {}};
}

ProductChoice EightLinear::choose(const EightCall& c) {
  const auto shape = ProductChoices::shape_of(product_of(c), c.fn, false);
  ProductChoices& measured = linear_.measured();
  const ProductChoice* found = measured.find(shape);
  if (found == nullptr && linear_.timer() != nullptr && c.rows > 0) {
    if (const auto fastest = measure(c)) measured.set(shape, *fastest);
    found = measured.find(shape);
  }
  const bool known = found != nullptr && fits(*found, c);
  const ProductChoice choice = known ? *found : by_rule(c);
  if (measured.is_new(shape) && choice.kernel != Kernel::library) ++(known ? choices_.measured : choices_.proposed);
  return choice;
}

std::optional<ProductChoice> EightLinear::measure(const EightCall& c) {
  std::vector<ProductChoice> choices{by_rule(c)};  // where nothing is faster
  const auto add = [&](const ProductChoice& choice) {
    if (fits(choice, c) && to_string(choice) != to_string(choices.front())) choices.push_back(choice);
  };
  for (const OneWavePlan& plan : one_wave_plans(c.rows, c.outputs, c.inputs, device_.multiprocessors, DType::f8e4m3)) {
    add({Kernel::one_wave, plan});
  }
  add({Kernel::wide, {}}), add({Kernel::narrow, {}}), add({Kernel::library, {}});
  if (choices.size() == 1) return {};
  std::vector<ProductTimer::Way> ways;
  ways.reserve(choices.size());
  for (const ProductChoice& choice : choices) {
    ways.emplace_back([&](const MatmulCall& call) {
      EightCall timed = c;
      timed.weight = call.weight;
      try {
        return issue(choice, timed) == cudaSuccess;
      } catch (const Error&) {  // the library's
        return false;
      }
    });
  }
  // The library's best algorithm is found before its product is timed among the others.
  if (choices.back().kernel == Kernel::library) matmul_.prepare(library_call(c));
  linear_.timer()->begin(product_of(c));
  const auto ranked = linear_.timer()->rank(ways);
  linear_.timer()->end();
  return ranked.empty() ? std::nullopt : std::optional(choices[ranked.front()]);
}

cudaError_t EightLinear::issue(const ProductChoice& choice, const EightCall& c) {
  switch (choice.kernel) {
    case Kernel::library: matmul_.run(library_call(c)); return cudaSuccess;
    case Kernel::wide: return eight_wide_product(c, 256, queue_);
    case Kernel::narrow: return eight_wide_product(c, 128, queue_);
    case Kernel::one_wave: break;
  }
  OneWaveCall w;
  w.x = c.x, w.rows = c.rows, w.ldx = c.ldx, w.weight = c.weight, w.outputs = c.outputs, w.inputs = c.inputs;
  w.ldw = c.ldw, w.in = DType::f8e4m3, w.bias = c.bias, w.residual = c.residual, w.ldr = c.ldr;
  w.out = c.out, w.ldo = c.ldo, w.type = c.type, w.alpha = c.alpha, w.fn = c.fn, w.ahead = c.ahead;
  w.row_scales = c.row_scales, w.column_scales = c.column_scales, w.step = c.step;
  return one_wave_product(w, choice.plan, queue_);
}

MatmulCall EightLinear::library_call(const EightCall& c) {
  MatmulCall m = product_of(c);
  if (m.row_scales == nullptr) {
    if (ones_.data() == nullptr) {
      ones_ = allocate_device(health_, device_.index, static_cast<std::size_t>(kMostOnes) * sizeof(float));
      const std::vector<float> ones(static_cast<std::size_t>(kMostOnes), 1.0F);
      health_.check(cudaMemcpyAsync(ones_.data(), ones.data(), ones_.bytes(), cudaMemcpyHostToDevice, queue_.stream),
                    "copying ones");
      health_.check(cudaStreamSynchronize(queue_.stream), "copying ones");
    }
    m.row_scales = reinterpret_cast<const float*>(ones_.data());
  }
  return m;
}

EightCall EightLinear::call_of(const CudaWeight& w, ConstView bias, View out, Ahead ahead) const {
  EightCall c;
  c.weight = w.data(), c.outputs = w.outputs(), c.inputs = w.inputs(), c.ldw = w.stride();
  c.column_scales = w.scales.view().as<float>();
  c.bias = bias.as<float>();
  c.out = out.data, c.ldo = out.stride;
  c.processors = device_.multiprocessors, c.ahead = ahead;
  require_eight(by_vectors(out), "the result is not f16 in rows of 16 bytes");
  return c;
}

void EightLinear::norm_linear(const NormLinearArgs& a, Ahead ahead, Ahead own) {
  const auto& w = static_cast<const CudaWeight&>(*a.weight);
  const View out = a.out.view, room = a.normalized.view;
  if (a.x.rows() == 0) return;
  EightCall c = call_of(w, a.bias, out, ahead);
  require_eight(by_vectors(a.x) && aligned(a.gamma.data) && aligned(a.beta.data) && room.contiguous() &&
                    size_of(room.dtype) == 2 && aligned(room.data),
                "the input of a norm is not f16 in rows of 16 bytes");
  // The rows' scales stand behind them: together they need no more than rows of sixteen bits.
  QuantizeRowsCall q;
  q.x = a.x.data, q.rows = a.x.rows(), q.columns = a.x.columns(), q.ldx = a.x.stride, q.eps = a.eps;
  q.gamma = a.gamma.as<float>(), q.beta = a.beta.as<float>(), q.out = room.data, q.ahead = own;
  q.scales = reinterpret_cast<float*>(room.data + q.rows * q.columns);
  health_.check(quantize_norm(q, queue_), "norm_linear");
  c.x = q.out, c.rows = q.rows, c.ldx = q.columns, c.row_scales = q.scales;

  const auto* reader = static_cast<const CudaWeight*>(a.reader);
  const bool tanh = a.fn == ActivationFn::gelu_tanh;
  c.fn = tanh ? ActivationFn::none : a.fn;
  written_ = {};
  forget(out);
  const float most = *std::max_element(w.bounds->begin(), w.bounds->end());
  if (reader != nullptr && reader->e4m3() && reader->inputs() == w.outputs() && w.outputs() % 16 == 0 && !tanh) {
    c.type = DType::f8e4m3, c.ldo = 2 * out.stride;
    c.step = reader->input_scale > 0 ? reader->input_scale : std::max(most, kLeastBound) / kLargestE4m3;
    written_ = {out.data, out.data + out.rows() * out.stride * 2, reader, c.step};
  } else if (a.fn == ActivationFn::none) {
    made_[made_next_++ % made_.size()] = {out.data, out.data + out.rows() * out.stride * 2, out.stride, w.bounds};
  }
  run(c);
  if (tanh) health_.check(activate({out, {}, out, a.fn, false}, queue_), "norm_linear");
}

void EightLinear::quantize(ConstView x, EightCall& c) {
  require_eight(by_vectors(x), "x is not f16 in rows of 16 bytes");
  QuantizeRowsCall q;
  q.x = x.data, q.rows = x.rows(), q.columns = x.columns(), q.ldx = x.stride;
  const std::size_t elements = static_cast<std::size_t>((q.rows * q.columns + 15) / 16 * 16);
  const std::size_t needed = elements + static_cast<std::size_t>(q.rows) * sizeof(float);
  if (rooms_.empty() || rooms_.back().bytes() < needed) {
    // Passes that were recorded go on to use the old ones.
    rooms_.push_back(
        allocate_device(health_, device_.index, std::max(needed, rooms_.empty() ? 0 : 2 * rooms_.back().bytes())));
  }
  q.out = rooms_.back().data(), q.scales = reinterpret_cast<float*>(rooms_.back().data() + elements);
  health_.check(quantize_rows(q, queue_), "linear");
  c.x = q.out, c.ldx = q.columns, c.row_scales = q.scales;
}

void EightLinear::linear(const LinearArgs& a, Ahead ahead) {
  const auto& w = static_cast<const CudaWeight&>(*a.weight);
  const ConstView x = a.x.view;
  const View out = a.out.view;
  if (x.rows() == 0) return;
  EightCall c = call_of(w, a.bias, out, ahead);
  c.rows = x.rows();
  if (a.residual) {
    require_eight(by_vectors(a.residual), "the residual is not f16 in rows of 16 bytes");
    c.residual = a.residual.data, c.ldr = a.residual.stride;
  }
  const bool waits = written_.reader == a.weight && x.data >= written_.begin &&
                     x.data + ((x.rows() - 1) * x.stride + x.columns()) * 2 <= written_.end;
  if (waits) {
    c.x = x.data, c.ldx = 2 * x.stride, c.alpha = written_.step;
  } else {
    quantize(x, c);
  }
  forget(out);
  if (a.fn != ActivationFn::gelu_tanh) {
    c.fn = a.fn;
    return run(c);
  }
  // No kernel here has it. Where the residual is what the product overwrites, the product goes elsewhere first.
  View product = out;
  if (a.residual && a.residual.data == out.data) {
    make_room(health_, device_.index, queue_.stream, out.bytes(), spare_);
    product = {spare_.data(), out.dtype, out.shape};
  }
  c.residual = nullptr, c.out = product.data, c.ldo = product.stride;
  run(c);
  health_.check(activate({product, a.residual, out, a.fn, false}, queue_), "linear");
}

float EightLinear::attention_step(const AttentionArgs& a) {
  const auto* reader = static_cast<const CudaWeight*>(a.reader);
  const Written before = written_;
  written_ = {};
  forget(a.out);
  if (reader == nullptr || !reader->e4m3() || reader->inputs() != a.out.columns() || a.q.dtype != DType::f16) return 0;
  float step = reader->input_scale;
  for (const Made& made : made_) {
    if (step > 0 || made.data == nullptr || a.v.data < made.data || a.v.data >= made.end || a.v.stride != made.stride) {
      continue;
    }
    // Values are columns of the product that made them.
    const std::int64_t column = (a.v.data - made.data) / 2 % made.stride;
    if (column + a.v.columns() > static_cast<std::int64_t>(made.bounds->size())) continue;
    const auto first = made.bounds->begin() + column;
    step = std::max(*std::max_element(first, first + a.v.columns()), kLeastBound) / kLargestE4m3;
  }
  if (step <= 0) return 0;
  const std::byte* const end = a.out.data + ((a.out.rows() - 1) * a.out.stride + a.out.columns()) * 2;
  // The rows of a shared prefix come first, the sequences' own behind them.
  const bool follows = before.reader == reader && before.step == step && before.begin < a.out.data;
  written_ = {follows ? before.begin : a.out.data, end, reader, step};
  return step;
}

void EightLinear::forget(ConstView out) {
  for (Made& made : made_) {
    if (made.data == out.data) made = {};
  }
}

}  // namespace tandem::backend::cuda
