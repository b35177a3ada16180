#include "backend/cpu/packed.h"

#include <emmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/huge_pages.h"
#include "base/strings.h"

namespace tandem::backend::cpu {
namespace {

constexpr std::int64_t kStepMultiple = 16;

std::int64_t round_up(std::int64_t n, std::int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

std::int64_t steps_of(std::int64_t inputs, DType type) {
  const std::int64_t step = 4 / static_cast<std::int64_t>(size_of(type));
  return round_up((inputs + step - 1) / step, kStepMultiple);
}

void require_float(ConstView v, const char* what) {
  if (v.dtype == DType::f32 || v.dtype == DType::f16 || v.dtype == DType::bf16) return;
  throw Error(Code::unsupported, cat(what, " of type ", to_string(v.dtype), ": F32, F16 or BF16 is wanted"));
}

/// Rows [first, first + count) of a dense host matrix as float32: where they are, or converted into `room`.
const float* to_float(ConstView matrix, std::int64_t first, std::int64_t count, std::vector<float>& room) {
  if (matrix.dtype == DType::f32 && matrix.contiguous()) return matrix.as<float>() + first * matrix.columns();
  room.resize(static_cast<std::size_t>(count * matrix.columns()));
  float* out = room.data();
  convert(matrix.row_range(first, count), {reinterpret_cast<std::byte*>(out), DType::f32, {count, matrix.columns()}});
  return out;
}

void pack_rows(ConstView weight, PackedWeight& packed) {
  std::vector<float> room;
  for (std::int64_t first = 0; first < weight.rows(); first += packed.panel()) {
    const std::int64_t count = std::min<std::int64_t>(packed.panel(), weight.rows() - first);
    packed.pack(first, count, to_float(weight, first, count, room));
  }
}

}  // namespace

PackedWeight::PackedWeight(std::int64_t outputs, std::int64_t inputs, DType type, int panel)
    : PreparedWeight(outputs, inputs,
                     static_cast<std::size_t>(round_up(outputs, panel) * steps_of(inputs, type) * 4 +
                                              (type == DType::i8 ? round_up(outputs, panel) * 8 : 0)),
                     type, cat("panels", panel), type == DType::i8),
      panel_(panel),
      padded_steps_(steps_of(inputs, type)),
      memory_(allocate_pages(static_cast<std::size_t>(round_up(outputs, panel) * padded_steps_ * 4))) {
  if (!int8()) return;
  scales_.resize(static_cast<std::size_t>(round_up(outputs, panel)));
  begin_with_.resize(scales_.size());
}

/// Rows to [count, 4 steps()] whole numbers, padded with zeros; their scales, and what their sums begin with.
void PackedWeight::quantise(std::int64_t first, std::int64_t count, const float* rows, std::int8_t* fours) {
  for (std::int64_t j = 0; j < count; ++j, rows += inputs(), fours += 4 * steps()) {
    float top = 0, sum = 0;
    for (std::int64_t i = 0; i < inputs(); ++i) top = std::max(top, std::abs(rows[i])), sum += rows[i] * 0.0F;
    if (sum != 0) throw Error(Code::bad_data, cat("output ", first + j, " of a weight has values that are not finite"));
    const auto at = static_cast<std::size_t>(first + j);
    const bool any = top > kSmallestTop, given = any && scales_[at] > 0;
    const float inverse = given ? 1 / scales_[at] : any ? 127 / top : 0;
    if (!given) scales_[at] = any ? top / 127 : 0;
    std::int32_t values = 0;
    for (std::int64_t i = 0; i < inputs(); ++i) {
      // Rounds to even: there the sum's last digit is one.
      constexpr float kRounding = 0x1.8p23F;
      const float scaled = std::clamp(rows[i] * inverse, -127.0F, 127.0F);  // a given scale may be too small
      const auto value = static_cast<std::int32_t>((scaled + kRounding) - kRounding);
      fours[i] = static_cast<std::int8_t>(value);
      values += value;
    }
    begin_with_[at] = -input_offset * values;
  }
}

void PackedWeight::pack(std::int64_t first, std::int64_t count, const float* rows) {
  auto* out = reinterpret_cast<std::uint32_t*>(memory_.data() + first / panel_ * panel_bytes());
  if (int8()) {
    std::vector<std::uint32_t> fours(static_cast<std::size_t>(count * steps()));
    quantise(first, count, rows, reinterpret_cast<std::int8_t*>(fours.data()));
    return turn(fours.data(), steps(), count, out);
  }
  if (!bf16()) return turn(rows, inputs(), count, out);
  // Pairs of values as one element; an odd input is paired with a zero.
  std::vector<std::uint32_t> pairs(static_cast<std::size_t>(count * steps()));
  const View narrow(reinterpret_cast<std::byte*>(pairs.data()), DType::bf16, {count, inputs()}, 2 * steps());
  convert({reinterpret_cast<const std::byte*>(rows), DType::f32, {count, inputs()}}, narrow);
  turn(pairs.data(), steps(), count, out);
}

/// One panel: out[s][j] = rows[j][s], with zeros for outputs from `count` and steps from `steps` on.
void PackedWeight::turn(const void* rows, std::int64_t steps, std::int64_t count, std::uint32_t* out) const {
  // Elements of four bytes, whatever they are.
  const auto* elements = static_cast<const std::byte*>(rows);
  const auto at = [&](std::int64_t row, std::int64_t step) { return elements + (row * steps + step) * 4; };
  // A few steps at a time, so that the rows' and the panel's lines of cache are used whole; in them, squares of four.
  constexpr std::int64_t kSteps = 16;
  for (std::int64_t s0 = 0; s0 < padded_steps_; s0 += kSteps) {
    for (std::int64_t j = 0; j < panel_; j += 4) {
      if (j + 4 > count || s0 + kSteps > steps) {
        for (std::int64_t s = s0; s < s0 + kSteps; ++s) {
          for (std::int64_t i = j; i < j + 4; ++i) {
            std::uint32_t element = 0;
            if (i < count && s < steps) std::memcpy(&element, at(i, s), 4);
            out[s * panel_ + i] = element;
          }
        }
        continue;
      }
      for (std::int64_t s = s0; s < s0 + kSteps; s += 4) {
        const auto row = [&](std::int64_t i) {
          return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at(j + i, s)));
        };
        const auto put = [&](std::int64_t i, __m128i column) {
          _mm_storeu_si128(reinterpret_cast<__m128i*>(out + (s + i) * panel_ + j), column);
        };
        const __m128i a = row(0), b = row(1), c = row(2), d = row(3);
        const __m128i ab = _mm_unpacklo_epi32(a, b), cd = _mm_unpacklo_epi32(c, d);
        const __m128i ab2 = _mm_unpackhi_epi32(a, b), cd2 = _mm_unpackhi_epi32(c, d);
        put(0, _mm_unpacklo_epi64(ab, cd)), put(1, _mm_unpackhi_epi64(ab, cd));
        put(2, _mm_unpacklo_epi64(ab2, cd2)), put(3, _mm_unpackhi_epi64(ab2, cd2));
      }
    }
  }
}

std::unique_ptr<PackedWeight> pack_linear(ConstView weight, DType type, int panel) {
  require_float(weight, "a weight");
  auto packed = std::make_unique<PackedWeight>(weight.rows(), weight.columns(), type, panel);
  pack_rows(weight, *packed);
  return packed;
}

std::unique_ptr<PackedWeight> pack_int8(ConstView weight, int panel, int input_offset, const WeightUse& use) {
  require_float(weight, "a weight");
  auto packed = std::make_unique<PackedWeight>(weight.rows(), weight.columns(), DType::i8, panel);
  packed->input_offset = input_offset, packed->input_scale = use.input_scale;
  if (use.steps) packed->take_scales(use.steps.as<float>());
  pack_rows(weight, *packed);
  return packed;
}

std::unique_ptr<PackedWeight> pack_patch_embed(ConstView weight, ConstView bias, const float mean[3],
                                               const float std[3], float rescale, DType type, int panel) {
  require_float(weight, "the patch embedding");
  const std::int64_t width = weight.shape[0], area = weight.shape[2] * weight.shape[3], inputs = 3 * area;
  auto packed = std::make_unique<PackedWeight>(width, inputs, type, panel);
  for (int c = 0; c < 3; ++c) {
    packed->centre[c] = std::clamp(static_cast<int>(std::lround(mean[c] / rescale)), 0, 255);
  }
  packed->bias.resize(static_cast<std::size_t>(width), 0.0F);
  if (bias) convert(bias, {reinterpret_cast<std::byte*>(packed->bias.data()), DType::f32, bias.shape});
  const ConstView matrix(weight.data, weight.dtype, {width, inputs});
  std::vector<float> room, rows(static_cast<std::size_t>(panel * inputs));
  for (std::int64_t first = 0; first < width; first += panel) {
    const std::int64_t count = std::min<std::int64_t>(panel, width - first);
    const float* published = to_float(matrix, first, count, room);
    for (std::int64_t j = 0; j < count; ++j) {
      double offset = packed->bias[static_cast<std::size_t>(first + j)];
      for (std::int64_t c = 0; c < 3; ++c) {
        // (p r - mean) / std = (p - centre) r / std + (centre r - mean) / std
        const double factor = static_cast<double>(rescale) / std[c];
        const double rest = (packed->centre[c] * static_cast<double>(rescale) - mean[c]) / std[c];
        double sum = 0;
        for (std::int64_t i = 0; i < area; ++i) {
          const double value = published[j * inputs + c * area + i];
          rows[static_cast<std::size_t>(j * inputs + i * 3 + c)] = static_cast<float>(value * factor);
          sum += value;
        }
        offset += sum * rest;
      }
      packed->bias[static_cast<std::size_t>(first + j)] = static_cast<float>(offset);
    }
    packed->pack(first, count, rows.data());
  }
  return packed;
}

}  // namespace tandem::backend::cpu
