// Which addresses a URL may lead to: the open internet, and nothing of this machine or its surroundings.
#pragma once

#include <sys/socket.h>

#include <string>

namespace tandem::server {

/// Whether an address is one of the open internet: no loopback, private, link-local, shared, multicast, documentation
/// or reserved one, none that carries an IPv4 address within it (v4-mapped, 6to4, Teredo, NAT64).
bool is_public(const sockaddr& address) noexcept;

/// Whether it belongs to an interface of this machine: what listens here is reached under its public address as well.
/// Where the system does not tell, true.
bool is_of_this_machine(const sockaddr& address) noexcept;

/// Ports of web servers: 80, 443, 8080, 8443. No other service is to be talked to in this server's name.
bool is_web_port(int port) noexcept;

/// All three.
bool may_be_fetched_from(const sockaddr& address) noexcept;

/// "10.0.0.3 port 80", for the log.
std::string to_string(const sockaddr& address);

}  // namespace tandem::server
