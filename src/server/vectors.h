// Vectors on their way to a client: JSON, base64, npy, raw.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/embed.h"
#include "server/message.h"

namespace tandem::server {

/// What a client asked for by Accept.
struct Wire {
  enum Kind : std::uint8_t { json, npy, raw } kind = json;
  bool half = false;  ///< float16 instead of float32; of npy and raw
};

/// "application/x-npy", "application/octet-stream", either with "; dtype=float16" (or f16), else JSON: whatever of it
/// has the largest q, the first of equals.
Wire wire_of(std::string_view accept);

/// OpenAI's `dimensions`: the first values, to unit length again. 0: all.
void shorten(std::vector<float>& values, std::size_t dimensions);

/// IEEE 754 half, rounded to nearest even; too large becomes infinity.
std::uint16_t half_of(float value) noexcept;

/// [0.1,…] or, as base64, the string of their little-endian float32.
void append_vector(std::span<const float> values, bool base64, std::string& out);
/// [[…],…] of the items [begin, end); they must have no errors.
void append_vectors(const Vectors& vectors, std::size_t begin, std::size_t end, std::string& out);

/// The most bytes of `count` vectors of `width` values in JSON with what belongs to them: a float32's shortest decimal
/// has at most 15 characters and a comma.
std::size_t json_bytes(std::size_t count, std::size_t width, bool base64 = false) noexcept;

/// One row for each vector, as npy or raw, with headers that say its shape and type; an item with an error is a row of
/// NaN, and named in X-Failed-Items.
Answer binary_answer(const Vectors& vectors, std::size_t width, Wire wire);

/// Cosine of two vectors: their dot product where both have unit length.
float cosine(std::span<const float> a, std::span<const float> b) noexcept;

}  // namespace tandem::server
