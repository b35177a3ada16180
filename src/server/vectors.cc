#include "server/vectors.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/base64.h"
#include "base/strings.h"
#include "server/npy.h"

namespace tandem::server {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire format is little-endian");

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// What stands before the next `sign`, which is taken away with it.
std::string_view next_part(std::string_view& text, char sign) {
  const std::size_t end = std::min(text.find(sign), text.size());
  const std::string_view part = trimmed(text.substr(0, end));
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

void append_rows(const Vectors& vectors, std::size_t width, bool half, std::string& out) {
  const std::vector<float> missing(width, std::numeric_limits<float>::quiet_NaN());
  std::vector<std::uint16_t> halves(half ? width : 0);
  for (const Embedding& item : vectors.items) {
    const std::vector<float>& values = item.error ? missing : item.values;
    if (half) {
      std::transform(values.begin(), values.end(), halves.begin(), half_of);
      out.append(reinterpret_cast<const char*>(halves.data()), halves.size() * sizeof(std::uint16_t));
    } else {
      out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    }
  }
}

}  // namespace

Wire wire_of(std::string_view accept) {
  Wire best;
  double most = 0;
  while (!accept.empty()) {
    std::string_view media = next_part(accept, ',');
    const std::string type = lower(next_part(media, ';'));
    Wire wire;
    if (type == "application/x-npy" || type == "application/npy" || type == "application/x-numpy") {
      wire.kind = Wire::npy;
    } else if (type == "application/octet-stream") {
      wire.kind = Wire::raw;
    } else if (type != "application/json" && type != "*/*" && type != "application/*") {
      continue;
    }
    double quality = 1;
    while (!media.empty()) {
      const std::string parameter = lower(next_part(media, ';'));
      if (parameter == "dtype=float16" || parameter == "dtype=f16" || parameter == "dtype=<f2") wire.half = true;
      if (parameter.starts_with("q=")) {
        quality = 0;
        std::from_chars(parameter.data() + 2, parameter.data() + parameter.size(), quality);
      }
    }
    if (quality > most) {
      most = quality;
      best = wire;
    }
  }
  return best;
}

void shorten(std::vector<float>& values, std::size_t dimensions) {
  if (dimensions == 0 || dimensions >= values.size()) return;
  values.resize(dimensions);
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  const float scale = sum > 0 ? static_cast<float>(1 / std::sqrt(sum)) : 0.0f;
  for (float& value : values) value *= scale;
}

std::uint16_t half_of(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const std::uint32_t size = bits & 0x7fffffffu;
  if (size > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u);   // not a number
  if (size >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to beyond 65504
  if (size < 0x38800000u) {
    // Below 2^-14 a half counts in steps of 2^-24, and adding 1/2 makes float32 count, and round, in the same steps.
    const float shifted = std::bit_cast<float>(size) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = size + 0xfffu + (size >> 13 & 1u);
  return static_cast<std::uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

void append_vector(std::span<const float> values, bool base64, std::string& out) {
  if (base64) {
    out += '"';
    append_base64(std::as_bytes(values), out);
    out += '"';
    return;
  }
  out += '[';
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i > 0) out += ',';
    append_number(values[i], out);
  }
  out += ']';
}

void append_vectors(const Vectors& vectors, std::size_t begin, std::size_t end, std::string& out) {
  out += '[';
  for (std::size_t i = begin; i < end; ++i) {
    if (i > begin) out += ',';
    append_vector(vectors.items.at(i).values, false, out);
  }
  out += ']';
}

std::size_t json_bytes(std::size_t count, std::size_t width, bool base64) noexcept {
  constexpr std::size_t kFields = 64, kDecimal = 16, kBase64 = 6;
  return count * (kFields + width * (base64 ? kBase64 : kDecimal));
}

Answer binary_answer(const Vectors& vectors, std::size_t width, Wire wire) {
  Answer answer;
  const std::size_t rows = vectors.items.size();
  answer.content_type = wire.kind == Wire::npy ? "application/x-npy" : "application/octet-stream";
  if (wire.kind == Wire::npy) answer.body = npy_head(rows, width, wire.half);
  answer.body.reserve(answer.body.size() + rows * width * (wire.half ? 2 : 4));
  append_rows(vectors, width, wire.half, answer.body);
  std::string failed;
  for (std::size_t i = 0; i < rows; ++i) {
    if (vectors.items[i].error && failed.size() < 4096) failed += cat(failed.empty() ? "" : ",", i);
  }
  answer.headers.emplace_back("X-Shape", cat(rows, ",", width));
  answer.headers.emplace_back("X-Dtype", wire.half ? "float16" : "float32");
  answer.headers.emplace_back("X-Prompt-Tokens", std::to_string(vectors.tokens()));
  if (!failed.empty()) answer.headers.emplace_back("X-Failed-Items", failed);
  return answer;
}

float cosine(std::span<const float> a, std::span<const float> b) noexcept {
  double sum = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) sum += static_cast<double>(a[i]) * b[i];
  return static_cast<float>(sum);
}

}  // namespace tandem::server
