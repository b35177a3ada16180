#include "image/kernels.h"

#include <cstring>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::image {
namespace scalar {

void pack_weights(const std::int32_t weights[4], std::uint32_t* words) {
  std::memcpy(words, weights, 16);
}

void pack_rows(const std::uint8_t* const rows[kTileRows], int groups, std::uint32_t* tile) {
  for (int g = 0; g < groups; ++g) {
    for (int c = 0; c < 3; ++c) {
      for (int r = 0; r < kTileRows; ++r) {
        const std::uint8_t* p = rows[r] + 12 * g + c;
        *tile++ = p[0] | p[3] << 8 | p[6] << 16 | static_cast<std::uint32_t>(p[9]) << 24;
      }
    }
  }
}

/// The sum of four taps: bytes of `pixels` times the weights at `words`. Wraps like the vector registers do.
std::uint32_t dot(std::uint32_t pixels, const std::uint32_t* words) {
  return (pixels & 255) * words[0] + (pixels >> 8 & 255) * words[1] + (pixels >> 16 & 255) * words[2] +
         (pixels >> 24) * words[3];
}

std::uint32_t finish(std::uint32_t sum, int shift) {
  const std::int32_t value = static_cast<std::int32_t>(sum + (1u << (shift - 1))) >> shift;
  return value < 0 ? 0 : value > 255 ? 255 : static_cast<std::uint32_t>(value);
}

void columns(const std::uint32_t* tile, const PackedAxis& axis, std::uint32_t* bytes, std::int64_t stride) {
  for (int x = 0; x < axis.outputs; ++x) {
    for (int c = 0; c < 3; ++c) {
      for (int j = 0; j < 4; ++j) {
        std::uint32_t word = 0;
        for (int k = 0; k < 4; ++k) {
          std::uint32_t sum = 0;
          for (int g = 0; g < axis.count[x]; ++g) {
            sum += dot(tile[((axis.first[x] + g) * 3 + c) * kTileRows + 4 * j + k],
                       axis.words + axis.first_word[x] + 4 * g);
          }
          word |= finish(sum, axis.shift) << (8 * k);
        }
        bytes[j * stride + 3 * x + c] = word;
      }
    }
  }
}

void row(const std::uint32_t* bytes, std::int64_t stride, const PackedAxis& axis, int y, int width, std::uint8_t* out) {
  for (int i = 0; i < width; ++i) {
    std::uint32_t sum = 0;
    for (int g = 0; g < axis.count[y]; ++g) {
      sum += dot(bytes[g * stride + i], axis.words + axis.first_word[y] + 4 * g);
    }
    out[i] = static_cast<std::uint8_t>(finish(sum, axis.shift));
  }
}

}  // namespace scalar

namespace {

constexpr Kernels kScalar{Isa::scalar, 4, scalar::pack_weights, scalar::pack_rows, scalar::columns, scalar::row};
#if defined(__x86_64__)
constexpr Kernels kAvx2{Isa::avx2, 4, avx2::pack_weights, avx2::pack_rows, avx2::columns, avx2::row};
constexpr Kernels kAvx512{Isa::avx512, 3, avx512::pack_weights, avx512::pack_rows, avx512::columns, avx512::row};
#endif

}  // namespace

std::string_view isa_name(Isa isa) noexcept {
  switch (isa) {
    case Isa::scalar: return "scalar";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
  }
  return "unknown";
}

bool isa_available(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2");
  if (isa == Isa::avx512) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  }
#endif
  return isa == Isa::scalar;
}

Isa best_isa() noexcept {
  if (isa_available(Isa::avx512)) return Isa::avx512;
  return isa_available(Isa::avx2) ? Isa::avx2 : Isa::scalar;
}

const Kernels& kernels_of(Isa isa) {
  if (!isa_available(isa)) {
    throw Error(Code::unsupported, cat("this processor or build has no ", isa_name(isa), " kernels: use scalar"));
  }
#if defined(__x86_64__)
  if (isa == Isa::avx2) return kAvx2;
  if (isa == Isa::avx512) return kAvx512;
#endif
  return kScalar;
}

}  // namespace tandem::image
