#include "model/rounded_weight.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/strings.h"
#include "model/digest.h"
#include "model/file_source.h"
#include "tandem/error.h"
#include "tensor/e4m3.h"

namespace tandem::model {
namespace {

constexpr float kLeastStep = 1e-30F, kMostStep = 1e30F;

DType code_type(Precision precision) {
  return precision == Precision::fp8 ? DType::f8e4m3 : DType::i8;
}

/// Whether a code stands for a number that a backend may multiply.
bool is_number(DType type, std::uint8_t code) {
  return type == DType::i8 ? code != 0x80 : (code & 0x7fU) != 0x7fU;
}

[[noreturn]] void reject(const std::string& where, const std::string& message) {
  throw Error(Code::bad_data, cat(where, ": ", message, ": run `tandem calibrate` again"));
}

}  // namespace

std::shared_ptr<const RoundedWeight> make_rounded(Precision precision, std::span<const float> values,
                                                  std::vector<float> steps) {
  auto out = std::make_shared<RoundedWeight>();
  auto codes = std::make_shared<std::vector<std::uint8_t>>(values.size());
  const std::size_t inputs = steps.empty() ? 0 : values.size() / steps.size();
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float step = steps[i / inputs], scaled = step > 0 ? values[i] / step : 0;
    (*codes)[i] =
        precision == Precision::fp8
            ? e4m3_code(scaled)
            : static_cast<std::uint8_t>(static_cast<std::int8_t>(std::clamp(std::nearbyint(scaled), -127.0F, 127.0F)));
  }
  const auto* first = reinterpret_cast<const std::byte*>(codes->data());
  out->codes = {
      first, code_type(precision), {static_cast<std::int64_t>(steps.size()), static_cast<std::int64_t>(inputs)}};
  Digest digest;
  digest.add(std::span(first, codes->size())), digest.add(std::as_bytes(std::span(steps)));
  out->steps = std::move(steps), out->digest = digest.hex(), out->memory = std::move(codes);
  return out;
}

Tensor values_of(const RoundedWeight& weight) {
  std::array<float, 256> numbers{};
  for (std::size_t code = 0; code < numbers.size(); ++code) {
    const auto byte = static_cast<std::uint8_t>(code);
    numbers[code] =
        weight.codes.dtype == DType::i8 ? static_cast<float>(static_cast<std::int8_t>(byte)) : e4m3_value(byte);
  }
  Tensor out = host_tensor(DType::f32, weight.codes.shape);
  float* to = out.view().as<float>();
  const auto* code = weight.codes.as<std::uint8_t>();
  for (const float step : weight.steps) {
    for (std::int64_t i = 0; i < weight.codes.columns(); ++i) *to++ = numbers[*code++] * step;
  }
  return out;
}

Shape layer_shape(const Config& config, std::string_view layer) {
  const TowerConfig& c = layer.starts_with("vision.") ? static_cast<const TowerConfig&>(config.vision) : config.text;
  if (layer.ends_with(".qkv")) return {std::int64_t{3} * c.width, c.width};
  if (layer.ends_with(".fc1")) return {c.mlp, c.width};
  if (layer.ends_with(".fc2")) return {c.width, c.mlp};
  return {c.width, c.width};
}

std::string rounded_hash(std::span<const std::byte> bytes) {
  Digest digest;
  digest.add(bytes);
  return digest.hex();
}

RoundedWeights read_rounded(std::span<const std::byte> bytes, const std::shared_ptr<const void>& memory,
                            const std::string& where, const Config& config, Precision precision,
                            const std::vector<std::string>& layers) {
  std::map<std::string, StoredTensor> tensors;
  for (StoredTensor& tensor : read_safetensors(bytes, where)) {
    std::string name = tensor.name;
    tensors.emplace(std::move(name), std::move(tensor));
  }
  const DType type = code_type(precision);
  const auto take = [&](const std::string& name, DType dtype, const std::vector<std::int64_t>& shape) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) reject(where, cat("there is no ", name));
    StoredTensor tensor = std::move(found->second);
    tensors.erase(found);
    if (tensor.dtype != dtype || tensor.shape != shape) {
      StoredTensor wanted;
      wanted.dtype_name = to_string(dtype), wanted.shape = shape;
      reject(where, cat(printable(name), " is ", describe(tensor), "; expected ", describe(wanted)));
    }
    return tensor;
  };
  const std::string hash = rounded_hash(bytes);
  RoundedWeights out;
  for (const std::string& layer : layers) {
    const Shape shape = layer_shape(config, layer);
    const StoredTensor codes = take(layer + ".codes", type, {shape[0], shape[1]});
    const StoredTensor steps = take(layer + ".steps", DType::f32, {shape[0]});
    auto weight = std::make_shared<RoundedWeight>();
    weight->steps.resize(static_cast<std::size_t>(shape[0]));
    std::memcpy(weight->steps.data(), steps.bytes.data(), steps.bytes.size());
    for (const float step : weight->steps) {
      if (step != 0 && !(step >= kLeastStep && step <= kMostStep)) {
        reject(where, cat(layer, ".steps holds ", step, ", which is no step"));
      }
    }
    for (const std::byte code : codes.bytes) {
      if (!is_number(type, static_cast<std::uint8_t>(code))) {
        reject(where, cat(layer, ".codes holds a byte, ", static_cast<int>(code), ", that is no number of ",
                          to_string(precision)));
      }
    }
    weight->codes = {codes.bytes.data(), type, shape};
    weight->digest = cat(hash, ' ', layer), weight->memory = memory;
    out.emplace(layer, std::move(weight));
  }
  if (!tensors.empty()) reject(where, cat(printable(tensors.begin()->first), " is nothing that it should hold"));
  return out;
}

}  // namespace tandem::model
