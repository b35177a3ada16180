#include "server/base64.h"

#include <array>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::server {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kInvalid = 0xff, kSpace = 0xfe, kPad = 0xfd;  // all have the top bit set, digits never

constexpr std::array<std::uint8_t, 256> kValues = [] {
  std::array<std::uint8_t, 256> values{};
  values.fill(kInvalid);
  for (std::size_t i = 0; i < kAlphabet.size(); ++i)
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::uint8_t>(i);
  values['-'] = 62;
  values['_'] = 63;
  values[' '] = values['\t'] = values['\r'] = values['\n'] = kSpace;
  values['='] = kPad;
  return values;
}();

std::uint8_t value_of(char c) {
  return kValues[static_cast<unsigned char>(c)];
}

}  // namespace

std::vector<std::byte> decode_base64(std::string_view text) {
  std::vector<std::byte> out(text.size() / 4 * 3 + 3);
  std::byte* write = out.data();
  std::uint32_t bits = 0;
  int digits = 0;  // of the unfinished group of four
  bool padded = false;
  std::size_t at = 0;
  while (at < text.size()) {
    if (digits == 0 && !padded) {  // whole groups without spaces: nearly always everything
      while (at + 4 <= text.size()) {
        const std::uint8_t a = value_of(text[at]), b = value_of(text[at + 1]), c = value_of(text[at + 2]),
                           d = value_of(text[at + 3]);
        if ((a | b | c | d) & 0x80) break;
        const std::uint32_t group = static_cast<std::uint32_t>(a) << 18 | static_cast<std::uint32_t>(b) << 12 |
                                    static_cast<std::uint32_t>(c) << 6 | d;
        write[0] = static_cast<std::byte>(group >> 16);
        write[1] = static_cast<std::byte>(group >> 8);
        write[2] = static_cast<std::byte>(group);
        write += 3;
        at += 4;
      }
      if (at == text.size()) break;
    }
    const std::uint8_t value = value_of(text[at]);
    if (value == kInvalid || (padded && value < 64)) {
      throw Error(Code::bad_data, cat("base64: unexpected character code ",
                                      static_cast<int>(static_cast<unsigned char>(text[at])), " at position ", at));
    }
    if (value == kPad) {
      padded = true;
    } else if (value != kSpace) {
      bits = bits << 6 | value;
      if (++digits == 4) {
        *write++ = static_cast<std::byte>(bits >> 16);
        *write++ = static_cast<std::byte>(bits >> 8);
        *write++ = static_cast<std::byte>(bits);
        bits = 0;
        digits = 0;
      }
    }
    ++at;
  }
  if (digits == 1) throw Error(Code::bad_data, cat("base64: cut off after ", text.size(), " characters"));
  if (digits == 2) *write++ = static_cast<std::byte>(bits >> 4);
  if (digits == 3) {
    *write++ = static_cast<std::byte>(bits >> 10);
    *write++ = static_cast<std::byte>(bits >> 2);
  }
  out.resize(static_cast<std::size_t>(write - out.data()));
  return out;
}

void append_base64(std::span<const std::byte> bytes, std::string& out) {
  out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
  std::size_t at = 0;
  for (; at + 3 <= bytes.size(); at += 3) {
    const std::uint32_t group = static_cast<std::uint32_t>(bytes[at]) << 16 |
                                static_cast<std::uint32_t>(bytes[at + 1]) << 8 |
                                static_cast<std::uint32_t>(bytes[at + 2]);
    const char four[4] = {kAlphabet[group >> 18], kAlphabet[group >> 12 & 63], kAlphabet[group >> 6 & 63],
                          kAlphabet[group & 63]};
    out.append(four, 4);
  }
  if (at == bytes.size()) return;
  const bool two = bytes.size() - at == 2;
  const std::uint32_t group =
      static_cast<std::uint32_t>(bytes[at]) << 16 | (two ? static_cast<std::uint32_t>(bytes[at + 1]) << 8 : 0u);
  out += kAlphabet[group >> 18];
  out += kAlphabet[group >> 12 & 63];
  out += two ? kAlphabet[group >> 6 & 63] : '=';
  out += '=';
}

}  // namespace tandem::server
