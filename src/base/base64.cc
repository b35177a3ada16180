#include "base/base64.h"

#include <array>

#include "base/base64_kernels.h"
#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::base64 {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kInvalid = 0xff, kSpace = 0xfe, kPad = 0xfd;  // all have the top bit set, digits never

using Values = std::array<std::uint8_t, 256>;

constexpr Values values_of(Alphabet alphabet) {
  Values values{};
  values.fill(kInvalid);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  values[' '] = values['\t'] = values['\r'] = values['\n'] = kSpace;
  values['='] = kPad;
  if (alphabet == Alphabet::either) values['-'] = 62, values['_'] = 63;
  return values;
}

constexpr Values kStandard = values_of(Alphabet::standard), kEither = values_of(Alphabet::either);

std::uint8_t value_of(const Values& values, char c) {
  return values[static_cast<unsigned char>(c)];
}

/// Decoded a piece at a time, in memory that stays in the nearest cache: the result is written once and never cleared.
constexpr std::size_t kPiece = 24576;

namespace scalar {

std::size_t decode(const char* text, std::size_t size, Alphabet alphabet, std::uint8_t* out) {
  const Values& values = alphabet == Alphabet::either ? kEither : kStandard;
  std::size_t at = 0;
  for (; at + 4 <= size; at += 4, out += 3) {
    const std::uint32_t a = value_of(values, text[at]), b = value_of(values, text[at + 1]),
                        c = value_of(values, text[at + 2]), d = value_of(values, text[at + 3]);
    if (((a | b | c | d) & 0x80) != 0) break;
    const std::uint32_t group = a << 18 | b << 12 | c << 6 | d;
    out[0] = static_cast<std::uint8_t>(group >> 16);
    out[1] = static_cast<std::uint8_t>(group >> 8);
    out[2] = static_cast<std::uint8_t>(group);
  }
  return at;
}

std::size_t encode(const std::uint8_t* bytes, std::size_t size, char* out) {
  std::size_t at = 0;
  for (; at + 3 <= size; at += 3, out += 4) {
    const std::uint32_t group =
        static_cast<std::uint32_t>(bytes[at]) << 16 | static_cast<std::uint32_t>(bytes[at + 1]) << 8 | bytes[at + 2];
    out[0] = kAlphabet[group >> 18];
    out[1] = kAlphabet[group >> 12 & 63];
    out[2] = kAlphabet[group >> 6 & 63];
    out[3] = kAlphabet[group & 63];
  }
  return at;
}

}  // namespace scalar

constexpr Kernels kScalar{"scalar", scalar::decode, scalar::encode};
#if defined(__x86_64__)
// The fastest first: what a processor has is always the end of this list.
constexpr std::array kKernels{Kernels{"avx512", avx512::decode, avx512::encode},
                              Kernels{"avx2", avx2::decode, avx2::encode}, kScalar};
#else
constexpr std::array kKernels{kScalar};
#endif

/// All whole groups up to the first that has more than digits: characters read.
std::size_t decode_groups(const Kernels& kernels, std::string_view text, Alphabet alphabet, std::uint8_t* out) {
  const std::size_t read = kernels.decode(text.data(), text.size(), alphabet, out);
  return read + scalar::decode(text.data() + read, text.size() - read, alphabet, out + read / 4 * 3);
}

/// Whole groups of three bytes.
void encode_groups(const Kernels& kernels, std::span<const std::byte> bytes, char* out) {
  const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data());
  const std::size_t read = kernels.encode(from, bytes.size(), out);
  scalar::encode(from + read, bytes.size() - read, out + read / 3 * 4);
}

/// Bytes on their way into a vector.
class Piece {
 public:
  explicit Piece(std::vector<std::byte>& out) : out_(out) {}

  /// Room for at least one group.
  std::uint8_t* room() {
    if (used_ + 3 > kPiece) flush();
    return bytes_.data() + used_;
  }
  /// Characters whose bytes fit, after room().
  std::size_t characters() const { return (kPiece - used_) / 3 * 4; }
  void wrote(std::size_t bytes) { used_ += bytes; }
  void add(std::uint32_t byte) { *room() = static_cast<std::uint8_t>(byte), ++used_; }
  void flush() {
    const auto* from = reinterpret_cast<const std::byte*>(bytes_.data());
    out_.insert(out_.end(), from, from + used_);
    used_ = 0;
  }

 private:
  std::vector<std::byte>& out_;
  std::size_t used_ = 0;
  std::array<std::uint8_t, kPiece> bytes_;
};

}  // namespace

std::span<const Kernels> available() noexcept {
  std::size_t first = kKernels.size() - 1;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) {
    first = 1;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vbmi")) first = 0;
  }
#endif
  return std::span(kKernels).subspan(first);
}

std::vector<std::byte> decode(const Kernels& kernels, std::string_view text) {
  std::vector<std::byte> out;
  out.reserve(text.size() / 4 * 3 + 3);
  Piece piece(out);
  std::uint32_t bits = 0;
  int digits = 0;  // of the unfinished group of four
  bool padded = false;
  std::size_t at = 0;
  while (at < text.size()) {
    if (digits == 0 && !padded) {  // nearly always everything, but for the end
      std::uint8_t* const to = piece.room();
      const std::size_t read = decode_groups(kernels, text.substr(at, piece.characters()), Alphabet::either, to);
      piece.wrote(read / 4 * 3);
      at += read;
      if (read > 0) continue;
    }
    const std::uint8_t value = value_of(kEither, text[at]);
    if (value == kInvalid || (padded && value < 64)) {
      throw Error(Code::bad_data, cat("base64: unexpected character code ",
                                      static_cast<int>(static_cast<unsigned char>(text[at])), " at position ", at));
    }
    if (value == kPad) {
      padded = true;
    } else if (value != kSpace) {
      bits = bits << 6 | value;
      if (++digits == 4) {
        for (const int shift : {16, 8, 0}) piece.add(bits >> shift);
        bits = 0;
        digits = 0;
      }
    }
    ++at;
  }
  if (digits == 1) throw Error(Code::bad_data, cat("base64: cut off after ", text.size(), " characters"));
  if (digits == 2) piece.add(bits >> 4);
  if (digits == 3) piece.add(bits >> 10), piece.add(bits >> 2);
  piece.flush();
  return out;
}

bool decode_strict(const Kernels& kernels, std::string_view text, std::string& out) {
  out.clear();
  if (text.size() % 4 != 0) return false;
  if (text.empty()) return true;
  const std::size_t whole = text.size() - 4;  // the last group may be padded
  const std::string_view last = text.substr(whole);
  const std::size_t padding = last[3] != '=' ? 0 : last[2] == '=' ? 2 : 1;
  std::uint32_t bits = 0, wrong = 0;
  for (std::size_t k = 0; k < 4; ++k) {
    const std::uint32_t value = k < 4 - padding ? value_of(kStandard, last[k]) : 0u;
    wrong |= value;
    bits = bits << 6 | (value & 63);
  }
  if ((wrong & 0x80) != 0) return false;
  out.resize(text.size() / 4 * 3);
  if (decode_groups(kernels, text.substr(0, whole), Alphabet::standard, reinterpret_cast<std::uint8_t*>(out.data())) !=
      whole) {
    out.clear();
    return false;
  }
  for (std::size_t k = 0; k < 3; ++k) out[whole / 4 * 3 + k] = static_cast<char>(bits >> (16 - 8 * k) & 0xff);
  out.resize(out.size() - padding);
  return true;
}

void append(const Kernels& kernels, std::span<const std::byte> bytes, std::string& out) {
  out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
  const std::size_t rest = bytes.size() % 3;
  for (auto groups = bytes.first(bytes.size() - rest); !groups.empty();) {
    const auto piece = groups.first(std::min(groups.size(), kPiece));
    const std::size_t before = out.size();
    out.resize(before + piece.size() / 3 * 4);  // which clears it, so no more at once than stays in a cache
    encode_groups(kernels, piece, out.data() + before);
    groups = groups.subspan(piece.size());
  }
  if (rest == 0) return;
  const auto last = bytes.last(rest);
  const std::uint32_t group =
      static_cast<std::uint32_t>(last[0]) << 16 | (rest == 2 ? static_cast<std::uint32_t>(last[1]) << 8 : 0u);
  out += kAlphabet[group >> 18];
  out += kAlphabet[group >> 12 & 63];
  out += rest == 2 ? kAlphabet[group >> 6 & 63] : '=';
  out += '=';
}

}  // namespace tandem::base64

namespace tandem {

std::vector<std::byte> decode_base64(std::string_view text) {
  return base64::decode(base64::available().front(), text);
}

bool decode_strict_base64(std::string_view text, std::string& out) {
  return base64::decode_strict(base64::available().front(), text, out);
}

void append_base64(std::span<const std::byte> bytes, std::string& out) {
  base64::append(base64::available().front(), bytes, out);
}

}  // namespace tandem
