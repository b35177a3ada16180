#include "server/addresses.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "base/strings.h"

namespace tandem::server {
namespace {

struct Block {
  std::uint32_t first;
  int bits;
};

constexpr std::uint32_t v4(unsigned a, unsigned b = 0, unsigned c = 0, unsigned d = 0) {
  return a << 24 | b << 16 | c << 8 | d;
}

/// RFC 6890 and its successors: what is not globally reachable, multicast and reserved included. 168.63.129.16 looks
/// global, but it is Azure's own service of every virtual machine, which hands out certificates and settings.
constexpr Block kClosed[] = {
    {v4(0), 8},         {v4(10), 8},       {v4(100, 64), 10},      {v4(127), 8},          {v4(168, 63, 129, 16), 32},
    {v4(169, 254), 16}, {v4(172, 16), 12}, {v4(192, 0, 0), 24},    {v4(192, 0, 2), 24},   {v4(192, 88, 99), 24},
    {v4(192, 168), 16}, {v4(198, 18), 15}, {v4(198, 51, 100), 24}, {v4(203, 0, 113), 24}, {v4(224), 4},
    {v4(240), 4}};

bool is_public_v4(std::uint32_t address) noexcept {
  return std::none_of(std::begin(kClosed), std::end(kClosed),
                      [&](const Block& block) { return (address ^ block.first) >> (32 - block.bits) == 0; });
}

/// Of 2000::/3, all that is given out for global use, without the parts that hold IPv4 addresses or are for examples.
bool is_public_v6(const std::uint8_t* a) noexcept {
  if ((a[0] & 0xe0) != 0x20) return false;
  if (a[0] == 0x20 && a[1] == 0x01 && a[2] < 0x02) return false;                   // 2001::/23: Teredo, ORCHID, …
  if (a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8) return false;  // documentation
  if (a[0] == 0x20 && a[1] == 0x02) return false;                                  // 6to4
  return !(a[0] == 0x3f && a[1] == 0xff && a[2] < 0x10);                           // 3fff::/20: documentation
}

const in_addr& v4_of(const sockaddr& address) noexcept {
  return reinterpret_cast<const sockaddr_in&>(address).sin_addr;
}
const in6_addr& v6_of(const sockaddr& address) noexcept {
  return reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
}

/// 0: neither IPv4 nor IPv6.
int port_of(const sockaddr& address) noexcept {
  if (address.sa_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  if (address.sa_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  return 0;
}

bool is_same_host(const sockaddr& a, const sockaddr& b) noexcept {
  if (a.sa_family != b.sa_family) return false;
  if (a.sa_family == AF_INET) return v4_of(a).s_addr == v4_of(b).s_addr;
  return a.sa_family == AF_INET6 && std::memcmp(&v6_of(a), &v6_of(b), sizeof(in6_addr)) == 0;
}

}  // namespace

bool is_public(const sockaddr& address) noexcept {
  if (address.sa_family == AF_INET) return is_public_v4(ntohl(v4_of(address).s_addr));
  return address.sa_family == AF_INET6 && is_public_v6(v6_of(address).s6_addr);
}

bool is_of_this_machine(const sockaddr& address) noexcept {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return true;
  bool found = false;
  for (const ifaddrs* one = all; one != nullptr && !found; one = one->ifa_next) {
    found = one->ifa_addr != nullptr && is_same_host(address, *one->ifa_addr);
  }
  ::freeifaddrs(all);
  return found;
}

bool is_web_port(int port) noexcept {
  return port == 80 || port == 443 || port == 8080 || port == 8443;
}

bool may_be_fetched_from(const sockaddr& address) noexcept {
  return is_public(address) && is_web_port(port_of(address)) && !is_of_this_machine(address);
}

std::string to_string(const sockaddr& address) {
  char text[INET6_ADDRSTRLEN] = "an address that is not IP";
  if (address.sa_family == AF_INET) ::inet_ntop(AF_INET, &v4_of(address), text, sizeof text);
  if (address.sa_family == AF_INET6) ::inet_ntop(AF_INET6, &v6_of(address), text, sizeof text);
  return cat(text, " port ", port_of(address));
}

}  // namespace tandem::server
