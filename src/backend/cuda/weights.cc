#include "backend/cuda/weights.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cuda/kernels.h"
#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

void require_float(ConstView v, const char* what) {
  if (v.dtype == DType::f32 || v.dtype == DType::f16 || v.dtype == DType::bf16) return;
  throw Error(Code::unsupported, cat(what, " of type ", to_string(v.dtype), ": F32, F16 or BF16 is wanted"));
}

/// Bytes of a vector in one type, so that the next begins at a multiple of 256.
std::int64_t vector_bytes(std::int64_t n, DType type) {
  return round_up(n * static_cast<std::int64_t>(size_of(type)), 256);
}

std::vector<float> to_floats(ConstView v) {
  std::vector<float> out(static_cast<std::size_t>(v.shape.elements()));
  convert(v, {reinterpret_cast<std::byte*>(out.data()), DType::f32, v.shape});
  return out;
}

/// Elements between rows: a multiple of 16 bytes.
std::int64_t padded(std::int64_t inputs, DType type) {
  return round_up(inputs, 16 / static_cast<std::int64_t>(size_of(type)));
}

}  // namespace

void WeightMaker::put(ConstView from, std::byte* to, DType type) {
  if (from.contiguous()) return staging_.upload(from.data, from.dtype, to, type, from.shape.elements());
  const auto row_bytes = from.columns() * static_cast<std::int64_t>(size_of(type));
  for (std::int64_t r = 0; r < from.rows(); ++r) {
    staging_.upload(from.row_range(r, 1).data, from.dtype, to + r * row_bytes, type, from.columns());
  }
}

std::unique_ptr<CudaWeight> WeightMaker::linear(ConstView weight, DType type, bool tf32) {
  require_float(weight, "a weight");
  const std::int64_t outputs = weight.rows(), inputs = weight.columns(), stride = padded(inputs, type);
  Buffer memory = allocate_device(health_, device_, static_cast<std::size_t>(outputs * stride) * size_of(type));
  if (stride == inputs) {
    put(weight, memory.data(), type);
  } else {
    Tensor rows = host_tensor(type, {outputs, stride});
    std::fill_n(rows.view().data, rows.bytes(), std::byte{0});
    convert(weight, {rows.view().data, type, {outputs, inputs}, stride});
    staging_.upload(rows.view().data, memory.data(), rows.bytes());
  }
  if (tf32) {
    health_.check(round_to_tf32(reinterpret_cast<float*>(memory.data()), outputs * stride, staging_.stream()),
                  "rounding a weight");
  }
  return std::make_unique<CudaWeight>(std::move(memory), outputs, inputs, stride, type, tf32);
}

std::unique_ptr<CudaWeight> WeightMaker::split(ConstView weight) {
  const auto whole = linear(weight, DType::f32, false);
  SplitCall c;
  c.x = reinterpret_cast<const float*>(whole->data()), c.ldx = whole->stride(), c.weight = true;
  c.rows = weight.rows(), c.columns = weight.columns(), c.part = round_up(c.columns, 8);
  const std::int64_t stride = 3 * c.part;
  Buffer memory = allocate_device(health_, device_, static_cast<std::size_t>(c.rows * stride) * size_of(DType::bf16));
  c.out = memory.data();
  health_.check(split_rows(c, {staging_.stream(), false}), "splitting a weight");
  health_.check(cudaStreamSynchronize(staging_.stream()), "splitting a weight");  // before `whole` goes
  return std::make_unique<CudaWeight>(std::move(memory), c.rows, c.columns, stride, DType::bf16, false, true);
}

Buffer WeightMaker::floats(ConstView v, std::int64_t n) {
  const std::vector<float> values = v ? to_floats(v) : std::vector<float>(static_cast<std::size_t>(n), 0.0F);
  Buffer memory = allocate_device(health_, device_, values.size() * sizeof(float));
  staging_.upload(values.data(), memory.data(), memory.bytes());
  return memory;
}

std::unique_ptr<CudaWeight> WeightMaker::eight(ConstView weight, DType type, const WeightUse& use, ConstView bias,
                                               ConstView gamma, ConstView beta) {
  require_float(weight, "a weight");
  const std::int64_t outputs = weight.rows(), inputs = weight.columns();
  const Buffer whole =
      allocate_device(health_, device_, static_cast<std::size_t>(outputs * inputs) * size_of(weight.dtype));
  put(weight, const_cast<std::byte*>(whole.data()), weight.dtype);
  const auto device_floats = [&](std::int64_t n) {
    return allocate_device(health_, device_, static_cast<std::size_t>(n) * sizeof(float));
  };
  Buffer memory = allocate_device(health_, device_, static_cast<std::size_t>(outputs * inputs));
  Tensor scales(device_floats(outputs), DType::f32, {outputs});
  Buffer ends[4];  // gamma, beta, bias, bounds
  QuantizeWeightCall c;
  c.weight = whole.data(), c.type = weight.dtype, c.rows = outputs, c.columns = inputs;
  c.to = type, c.out = memory.data(), c.scales = scales.view().as<float>();
  c.given = static_cast<bool>(use.steps);
  if (c.given) staging_.upload(use.steps.data, scales.view().data, scales.bytes());
  if (gamma) {
    ends[0] = floats(gamma, inputs), ends[1] = floats(beta, inputs), ends[2] = floats(bias, outputs);
    ends[3] = device_floats(outputs);
    const auto at = [&](int i) { return reinterpret_cast<float*>(ends[i].data()); };
    c.gamma = at(0), c.beta = at(1), c.bias = at(2), c.bounds = at(3);
  }
  health_.check(quantize_weight(c, staging_.stream()), "quantising a weight");
  auto out = std::make_unique<CudaWeight>(std::move(memory), outputs, inputs, inputs, type, false);
  if (gamma) {
    auto bounds = std::make_shared<std::vector<float>>(static_cast<std::size_t>(outputs));
    staging_.download(ends[3].data(), bounds->data(), ends[3].bytes());
    out->bounds = std::move(bounds);
  }
  health_.check(cudaStreamSynchronize(staging_.stream()), "quantising a weight");  // before `whole` goes
  out->scales = std::move(scales);
  out->input_scale = use.input_scale;
  return out;
}

std::unique_ptr<CudaWeight> WeightMaker::folded(ConstView weight, ConstView bias, ConstView gamma, ConstView beta) {
  require_float(weight, "a weight");
  const std::int64_t outputs = weight.rows(), inputs = weight.columns();
  // As it is stored, so that it is rounded once.
  Buffer whole = allocate_device(health_, device_, static_cast<std::size_t>(outputs * inputs) * size_of(weight.dtype));
  put(weight, whole.data(), weight.dtype);
  const Buffer scale = floats(gamma, inputs), shift = floats(beta, inputs), total = floats(bias, outputs);
  Buffer memory = allocate_device(health_, device_, static_cast<std::size_t>(outputs * inputs) * size_of(DType::f16));
  Tensor sums(allocate_device(health_, device_, static_cast<std::size_t>(outputs) * sizeof(float)), DType::f32,
              {outputs});
  FoldCall c;
  c.weight = whole.data(), c.type = weight.dtype, c.rows = outputs, c.columns = inputs;
  c.gamma = reinterpret_cast<const float*>(scale.data()), c.beta = reinterpret_cast<const float*>(shift.data());
  c.out = memory.data(), c.sums = sums.view().as<float>();
  c.bias = reinterpret_cast<float*>(const_cast<std::byte*>(total.data()));
  health_.check(fold_norm(c, staging_.stream()), "folding a norm");
  std::vector<float> biases(static_cast<std::size_t>(outputs));
  staging_.download(total.data(), biases.data(), total.bytes());  // and waits, before what it read goes
  auto out = std::make_unique<CudaWeight>(std::move(memory), outputs, inputs, inputs, DType::f16, false);
  out->bias = vector({reinterpret_cast<const std::byte*>(biases.data()), DType::f32, {outputs}});
  out->sums = std::move(sums);
  return out;
}

// With W [D, 3, P, P] as published and pixels p:
//   W ((p rescale - mean) / std) = rescale (W / std) (p - centre) + (W / std) (centre rescale - mean)
// rescale (1/255) is left to the product's epilogue: inside of W it would make fp16's smallest weights subnormal.
std::unique_ptr<CudaWeight> WeightMaker::patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                                     const float std[3], float rescale, DType type, bool tf32) {
  require_float(weight, "the patch embedding");
  const std::int64_t width = weight.shape[0], area = weight.shape[2] * weight.shape[3], inputs = 3 * area;
  const std::vector<float> published = to_floats(weight);
  std::vector<float> offsets = bias ? to_floats(bias) : std::vector<float>(static_cast<std::size_t>(width), 0.0F);
  // The matrix of patches is written eight elements at a time.
  const std::int64_t stride = round_up(inputs, 8);
  Tensor folded = host_tensor(DType::f32, {width, stride});
  std::fill_n(folded.view().as<float>(), width * stride, 0.0F);
  float centre[3];
  for (int c = 0; c < 3; ++c) centre[c] = std::clamp(std::round(mean[c] / rescale), 0.0F, 255.0F);
  for (std::int64_t n = 0; n < width; ++n) {
    double offset = offsets[static_cast<std::size_t>(n)];
    for (std::int64_t c = 0; c < 3; ++c) {
      double sum = 0;
      for (std::int64_t i = 0; i < area; ++i) {
        const double value =
            static_cast<double>(published[static_cast<std::size_t>(n * inputs + c * area + i)]) / std[c];
        folded.view().as<float>()[n * stride + i * 3 + c] = static_cast<float>(value);
        sum += value;
      }
      offset += sum * (static_cast<double>(centre[c]) * rescale - mean[c]);
    }
    offsets[static_cast<std::size_t>(n)] = static_cast<float>(offset);
  }
  auto out = linear(folded.view(), type, tf32);
  out->bias = vector({reinterpret_cast<const std::byte*>(offsets.data()), DType::f32, {width}});
  out->alpha = rescale;
  std::copy_n(centre, 3, out->centre);
  return out;
}

Tensor WeightMaker::vector(ConstView v) {
  require_float(v, "a vector");
  const std::int64_t n = v.shape.elements();
  const bool copies = v.shape.rank() == 1;
  const std::int64_t bytes = vector_bytes(n, DType::f32) + (copies ? 2 * vector_bytes(n, DType::f16) : 0);
  Buffer memory = allocate_device(health_, device_, static_cast<std::size_t>(bytes));
  put(v, memory.data(), DType::f32);
  if (copies) {
    const auto* whole = reinterpret_cast<const float*>(memory.data());
    for (const DType type : {DType::f16, DType::bf16}) {
      put(v, static_cast<std::byte*>(const_cast<void*>(vector_as(type, whole, n))), type);
    }
  }
  return {std::move(memory), DType::f32, v.shape};
}

Tensor WeightMaker::table(ConstView t, DType type) {
  require_float(t, "a table");
  Buffer memory = allocate_device(health_, device_, static_cast<std::size_t>(t.shape.elements()) * size_of(type));
  put(t, memory.data(), type);
  return {std::move(memory), type, t.shape};
}

const void* vector_as(DType type, const float* vector, std::int64_t n) {
  const auto* begin = reinterpret_cast<const std::byte*>(vector);
  if (type == DType::f32) return begin;
  return begin + vector_bytes(n, DType::f32) + (type == DType::bf16 ? vector_bytes(n, DType::f16) : 0);
}

}  // namespace tandem::backend::cuda
