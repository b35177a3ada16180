#include "engine/content_hash.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "tandem/error.h"

namespace tandem::engine {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kLow63 = ~std::uint64_t{0} >> 1;
constexpr Wide kPrime = (static_cast<Wide>(1) << 127) - 1;

Wide wide(std::uint64_t high, std::uint64_t low) {
  return (static_cast<Wide>(high) << 64) | low;
}
std::uint64_t low(Wide value) {
  return static_cast<std::uint64_t>(value);
}
std::uint64_t high(Wide value) {
  return static_cast<std::uint64_t>(value >> 64);
}

/// a below 2^127 + 2^64, b below 2^127: a * b modulo 2^127 - 1, below 2^127 (where 2^127 - 1 itself stands for 0).
Wide times(Wide a, Wide b) {
  a = (a & kPrime) + (a >> 127);
  // Limbs of 64 bits; the upper ones have 63.
  const Wide ll = static_cast<Wide>(low(a)) * low(b), hh = static_cast<Wide>(high(a)) * high(b);
  const Wide lh = static_cast<Wide>(low(a)) * high(b), hl = static_cast<Wide>(high(a)) * low(b);
  const Wide middle = static_cast<Wide>(high(ll)) + low(lh) + low(hl);
  const Wide bottom = wide(low(middle), low(ll));                 // the product's lower 128 bits
  const Wide top = hh + high(lh) + high(hl) + high(middle);       // and the others: below 2^126
  Wide sum = (bottom & kPrime) + ((top << 1) | (bottom >> 127));  // 2^127 is 1
  sum = (sum & kPrime) + (sum >> 127);
  return sum;
}

struct Pair {
  Wide first = 0, second = 0;
};

/// NH of one chunk with the key, and with the key moved on by kShift words.
Pair nh(const std::byte* bytes, const std::uint64_t* key) {
  Pair sum;
  for (std::size_t i = 0; i < ContentHasher::kChunkWords; i += 2) {
    std::uint64_t m[2];
    std::memcpy(m, bytes + i * sizeof m[0], sizeof m);
    sum.first += static_cast<Wide>(m[0] + key[i]) * (m[1] + key[i + 1]);
    sum.second += static_cast<Wide>(m[0] + key[i + 2]) * (m[1] + key[i + 3]);
  }
  return sum;
}

}  // namespace

ContentHasher::ContentHasher() : key_(kKeyWords) {
  std::random_device system;
  for (auto& word : key_) word = (static_cast<std::uint64_t>(system()) << 32) | system();
}

ContentHasher::ContentHasher(std::span<const std::uint64_t> key) : key_(key.begin(), key.end()) {
  if (key.size() != kKeyWords) throw Error(Code::invalid_argument, "a key of another length than kKeyWords");
}

Digest ContentHasher::hash(std::span<const std::byte> bytes, std::uint64_t tag) const noexcept {
  constexpr std::size_t kChunk = kChunkWords * sizeof(std::uint64_t);
  const std::uint64_t* points = key_.data() + kChunkWords + kShift;
  const Wide x = wide(points[0] & kLow63, points[1]), y = wide(points[2] & kLow63, points[3]);
  // The length and the tag come first, so that contents of different lengths differ although the last chunk is filled
  // up with zeros.
  Wide a = 0, b = 0;
  const auto absorb = [&](std::uint64_t first, std::uint64_t second) {
    a = times(a + first, x), b = times(b + second, y);
  };
  absorb(bytes.size(), bytes.size());
  absorb(tag, tag);
  for (std::size_t at = 0; at < bytes.size(); at += kChunk) {
    Pair sums;
    if (bytes.size() - at >= kChunk) {
      sums = nh(bytes.data() + at, key_.data());
    } else {
      std::byte last[kChunk]{};
      std::memcpy(last, bytes.data() + at, bytes.size() - at);
      sums = nh(last, key_.data());
    }
    absorb(low(sums.first), low(sums.second));
    absorb(high(sums.first), high(sums.second));
  }
  const auto canonical = [](Wide value) { return value == kPrime ? Wide{0} : value; };
  a = canonical(a), b = canonical(b);
  return {{low(a), high(a), low(b), high(b)}};
}

}  // namespace tandem::engine
