// A fast 64-bit digest that tells two checkpoints apart in logs and provenance. Not cryptographic: it says which file
// was used, not that nobody forged it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

namespace tandem::model {

class Digest {
 public:
  void add(std::uint64_t value) noexcept {
    state_ = (state_ ^ value) * 0x9e3779b97f4a7c15u;
    state_ ^= state_ >> 29;  // multiplication only carries upwards
  }
  void add(std::span<const std::byte> bytes) noexcept {
    add(std::uint64_t{bytes.size()});
    while (bytes.size() >= 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data(), 8);
      add(word);
      bytes = bytes.subspan(8);
    }
    std::uint64_t tail = 0;
    if (!bytes.empty()) std::memcpy(&tail, bytes.data(), bytes.size());
    add(tail);
  }
  /// Its size and at most 64 pieces of 4 KiB, evenly spread, so that a file of gigabytes costs a few page reads.
  void add_sampled(std::span<const std::byte> file) noexcept {
    constexpr std::size_t kPieces = 64, kPiece = 4096;
    add(std::uint64_t{file.size()});
    if (file.size() <= kPieces * kPiece) return add(file);
    const std::size_t step = (file.size() - kPiece) / (kPieces - 1);
    for (std::size_t i = 0; i < kPieces; ++i) add(file.subspan(i * step, kPiece));
  }
  std::uint64_t value() const noexcept {
    std::uint64_t x = state_;  // Murmur3's finalizer (Appleby, public domain)
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdu;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53u;
    return x ^ (x >> 33);
  }
  /// 16 hexadecimal digits.
  std::string hex() const {
    constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    for (int shift = 60; shift >= 0; shift -= 4) out += kDigits[(value() >> shift) & 15u];
    return out;
  }

 private:
  std::uint64_t state_ = 0x243f6a8885a308d3u;  // digits of pi
};

}  // namespace tandem::model
