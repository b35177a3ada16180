#include "server/ids.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <random>

#include "base/strings.h"

namespace tandem::server {

std::string random_uuid() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  std::array<std::uint8_t, 16> bytes{};
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    std::uint64_t word = random();
    for (std::size_t j = 0; j < 8; ++j, word >>= 8) bytes[i + j] = static_cast<std::uint8_t>(word);
  }
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

std::string id_and_date(std::string_view prefix) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return cat(",\"id\":\"", prefix, "-", random_uuid(),
             "\",\"created\":", std::chrono::duration_cast<std::chrono::seconds>(now).count());
}

}  // namespace tandem::server
