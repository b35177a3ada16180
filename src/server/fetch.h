// Pictures from elsewhere: http and https addresses, fetched without letting anybody look behind this server's walls.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "server/input.h"

namespace tandem::server {

/// Whether an address is one of the open internet: no loopback, private, link-local, shared, multicast, documentation
/// or reserved one, none that carries an IPv4 address within it (v4-mapped, 6to4, Teredo, NAT64).
bool is_public(const sockaddr& address) noexcept;

struct FetchOptions {
  std::size_t max_bytes = std::size_t{32} << 20;  ///< of one picture
  double seconds = 10;                            ///< for one picture, redirects included
  int threads = 8;                                ///< pictures fetched at once
  std::size_t max_waiting = 4096;
  /// Which addresses may be connected to, asked of every connection once its name is resolved, after redirects too, so
  /// that a name cannot mean one address when it is checked and another when it is used. The server leaves it alone.
  std::function<bool(const sockaddr&)> allowed = is_public;
};

using Fetched = std::variant<EncodedImage, ItemError>;

/// libcurl, opened when the first Fetcher is made, so that the program does not need it otherwise. Proxies, netrc and
/// cookies of the environment are left out; connections are kept for the next picture.
class Fetcher {
 public:
  /// Throws unsupported where libcurl is not installed.
  explicit Fetcher(FetchOptions options = {});
  ~Fetcher();  ///< waits for what is under way
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// Calls on_done once, on a thread of its own. Throws overloaded when too many wait.
  void fetch(std::string url, std::chrono::steady_clock::time_point deadline, CancelFlag cancel,
             std::function<void(Fetched)> on_done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::server
