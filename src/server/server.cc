#include "server/server.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX's part, which <csignal> does not promise
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <mutex>

#include "base/strings.h"
#include "server/descriptors.h"
#include "server/http.h"

namespace tandem::server {
namespace {

using Clock = std::chrono::steady_clock;

/// Written beside and renamed, so that whoever waits for the file never reads half a number.
void write_port(const std::string& path, int port) {
  const std::string part = cat(path, ".", ::getpid());
  std::ofstream(part) << port << "\n";
  if (std::rename(part.c_str(), path.c_str()) != 0) {
    throw Error(Code::io_error, cat("cannot write the port to ", path, ": ", std::strerror(errno)));
  }
}

/// Blocks SIGTERM and SIGINT for this thread and those it starts, so that run() can wait for them.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
  }
  ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  /// Whether one came within the time.
  bool wait(std::chrono::milliseconds time) const {
    const timespec limit{time.count() / 1000, time.count() % 1000 * 1'000'000};
    return sigtimedwait(&set_, nullptr, &limit) > 0;
  }

 private:
  sigset_t set_{}, before_{};
};

}  // namespace

struct Server::Impl {
  Impl(ServerOptions o, EncoderFactory factory)
      : options(std::move(o)), service(options, std::move(factory)), http(options, service) {}

  void announce(const std::string& line) const {
    if (options.announce && !options.quiet) options.announce(line);
  }

  const ServerOptions options;
  Service service;
  Http http;
  bool started = false, stopped = false;
};

Server::Server(ServerOptions options, EncoderFactory factory)
    : impl_(std::make_shared<Impl>(std::move(options), std::move(factory))) {}

Server::~Server() {
  stop(0);
}

void Server::start() {
  impl_->http.start();
  impl_->started = true;
  const std::string& host = impl_->options.host;
  const bool v6 = host.find(':') != std::string::npos;
  impl_->announce(cat("listening on http://", v6 ? "[" : "", host, v6 ? "]" : "", ":", port()));
  if (!impl_->options.port_file.empty()) write_port(impl_->options.port_file, port());
  impl_->service.start();
}

int Server::port() const noexcept {
  return impl_->http.port();
}

bool Server::stop(double drain_seconds) {
  if (impl_->stopped) return true;
  impl_->stopped = true;
  impl_->service.drain();
  if (impl_->started) impl_->http.drain();
  const bool in_time = !impl_->started || impl_->http.wait(drain_seconds);
  // What is still under way gets its answer (that the server stops) before the connections go.
  impl_->http.withdraw();
  impl_->service.stop();
  if (impl_->started) {
    impl_->http.wait(1);
    impl_->http.stop();
  }
  return in_time;
}

std::string Server::load_error() const {
  return impl_->service.load_error();
}

bool Server::ready() const {
  return impl_->service.ready();
}

int run(const ServerOptions& wanted) {
  const BlockedSignals signals;
  const std::size_t descriptors = raise_descriptor_limit();
  ServerOptions options = wanted;
  options.max_connections = connections_within(descriptors, wanted.max_connections);
  Server server(options);
  if (options.max_connections < wanted.max_connections) {
    server.impl_->announce(cat("warning: at most ", options.max_connections, " connections at once, not ",
                               wanted.max_connections, ": the system's hard limit of open files is ", descriptors,
                               "; raise it (ulimit -Hn, LimitNOFILE), or give --max-connections"));
  }
  server.start();
  while (!signals.wait(std::chrono::milliseconds(200))) {
    if (server.impl_->service.state() == State::failed) {
      const std::string why = server.load_error();
      server.stop(0);
      throw Error(server.impl_->service.load_error_code(), why);
    }
  }
  server.impl_->announce(cat("stopping: finishing what is under way, at most ", options.drain_seconds, " s"));
  // In portions, so that a second signal is noticed.
  server.impl_->service.drain();
  server.impl_->http.drain();
  const auto end = Clock::now() + std::chrono::duration<double>(options.drain_seconds);
  bool in_time = false;
  while (!(in_time = server.impl_->http.wait(0.1)) && Clock::now() < end &&
         !signals.wait(std::chrono::milliseconds(1))) {
  }
  server.stop(0);
  server.impl_->announce(in_time ? "stopped" : "stopped; requests that took too long were answered 503");
  return 0;
}

}  // namespace tandem::server
