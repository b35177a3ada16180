// Pictures from elsewhere: http and https addresses, fetched without letting anybody look behind this server's walls.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "server/addresses.h"
#include "server/input.h"
#include "server/memory.h"

namespace tandem::server {

struct FetchOptions {
  std::size_t max_bytes = std::size_t{32} << 20;  ///< of one picture
  double seconds = 10;                            ///< for one picture, redirects included
  int threads = 16;                               ///< pictures fetched at once
  int threads_each = 4;                           ///< of one request: slow ones leave the other threads to others
  std::size_t max_waiting = 4096;                 ///< pictures
  /// Which addresses may be connected to, asked of every connection once its name is resolved, after redirects too, so
  /// that a name cannot mean one address when it is checked and another when it is used. The server leaves it alone.
  std::function<bool(const sockaddr&)> allowed = may_be_fetched_from;
  /// Told why a picture was not fetched, which the client is not: it could learn from it what this server's network
  /// looks like. Called on the fetcher's threads; some lines are left out where there are many.
  std::function<void(const std::string&)> log;
};

/// What every client hears where a URL leads to where it may not, or nowhere, or to a server that does not answer.
inline constexpr const char* kNotFetched =
    "the URL was not fetched: it must lead, by http or https and one of the ports 80, 443, 8080 and 8443, to a public "
    "address that answers in time; or send the picture itself";

using Fetched = std::variant<EncodedImage, ItemError>;

/// The pictures of one request.
struct Wanted {
  std::vector<std::string> urls;
  std::chrono::steady_clock::time_point deadline;
  CancelFlag cancel = nullptr;                    ///< may be null
  std::shared_ptr<Reservation> memory = nullptr;  ///< holds what was fetched, as it arrives; may be null
  std::string name = {};                          ///< of the request, in the log
};

/// libcurl, opened when the first Fetcher is made, so that the program does not need it otherwise. Proxies, netrc and
/// cookies of the environment are left out; connections are kept for the next picture. Requests take turns.
class Fetcher {
 public:
  /// Throws unsupported where libcurl is not installed.
  explicit Fetcher(FetchOptions options = {});
  ~Fetcher();  ///< waits for what is under way
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  /// Calls on_done(index, picture) once for every URL, on threads of its own, several at a time. Throws overloaded when
  /// too many wait.
  void fetch(Wanted wanted, std::function<void(std::size_t, Fetched)> on_done);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::server
