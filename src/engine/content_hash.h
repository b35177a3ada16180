// A short name for long contents, which nobody can make two contents share.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tandem::engine {

/// Equal for equal contents. For two that differ, equal with a probability below 2^-100, however they were chosen by
/// somebody who does not know the hasher's key.
struct Digest {
  std::array<std::uint64_t, 4> words{};
  friend bool operator==(const Digest&, const Digest&) = default;
};

/// A universal hash under a secret key: caches answer strangers with what is stored under a digest, so a picture that
/// is made to collide with another would get the other's vector. A plain fast hash lets anybody make one. Here the
/// proof needs no assumption about what the stranger can compute: NH (Black, Halevi, Krawczyk, Krovetz, Rogaway,
/// "UMAC", 1999) with 64-bit words reduces every 4 KiB to 128 bits, twice, with the key shifted between (Toeplitz),
/// which collides with probability 2^-128; a polynomial modulo 2^127 - 1 over those, twice, adds 2^-110 for 256 MiB.
/// The key is drawn anew for every hasher, and neither it nor a digest ever leaves the process. It runs several times
/// faster than a cryptographic hash does without instructions of its own.
class ContentHasher {
 public:
  /// Draws a key from the system.
  ContentHasher();
  /// With a given key of kKeyWords words, for tests.
  explicit ContentHasher(std::span<const std::uint64_t> key);

  /// tag: what else must be equal (a kind, a width); part of the digest.
  Digest hash(std::span<const std::byte> bytes, std::uint64_t tag = 0) const noexcept;

  static constexpr std::size_t kChunkWords = 512, kShift = 2;
  static constexpr std::size_t kKeyWords = kChunkWords + kShift + 4;

 private:
  std::vector<std::uint64_t> key_;  ///< of NH and its shift; then two points of the polynomials, 127 bits each
};

}  // namespace tandem::engine

template <>
struct std::hash<tandem::engine::Digest> {
  /// Any part will do: it depends on the whole key.
  std::size_t operator()(const tandem::engine::Digest& digest) const noexcept { return digest.words[0]; }
};
