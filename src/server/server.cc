#include "server/server.h"

#include <fcntl.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX's part, which <csignal> does not promise
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <mutex>

#include "base/strings.h"
#include "base/thread_pool.h"
#include "server/descriptors.h"
#include "server/http.h"
#include "server/models.h"

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

bool has_terminal() {
  const int terminal = ::open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);
  if (terminal >= 0) ::close(terminal);
  return terminal >= 0;
}

/// Blocks SIGTERM, SIGINT and SIGHUP for this thread and those it starts, so that run() can wait for them.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    sigaddset(&set_, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set_, &before_);
    // Not waited for: who reads standard error may leave, and writing to it is then an error like another.
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, nullptr);
  }
  ~BlockedSignals() {
    const timespec none{};
    while (sigtimedwait(&pipe_, nullptr, &none) > 0) {  // one that came must not be delivered now
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  /// Whether one came that asks to stop.
  bool next_stop(std::chrono::milliseconds time) const {
    const int signal = next(time);
    return signal > 0 && signal != SIGHUP;
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;

  /// The one that came within the time, or -1.
  int next(std::chrono::milliseconds time) const {
    const timespec limit{time.count() / 1000, time.count() % 1000 * 1'000'000};
    return sigtimedwait(&set_, nullptr, &limit);
  }

 private:
  sigset_t set_{}, pipe_{}, before_{};
};

ServerOptions with_threads(ServerOptions options) {
  const int cores = usable_cores();
  // More than are needed wake each other, and take the cores of those who decode.
  if (options.io_threads == 0) options.io_threads = std::clamp(cores * 3 / 8, 2, 12);
  if (options.worker_threads == 0) options.worker_threads = std::clamp(cores / 2, 2, 16);
  return options;
}

}  // namespace

struct Server::Impl {
  Impl(ServerOptions o, EncoderFactory factory)
      : options(with_threads(std::move(o))), service(options, std::move(factory)), http(options, service) {}

  void announce(const std::string& line) {
    service.operation().note(line);
    if (options.announce && !options.quiet) options.announce(line);
  }

  const ServerOptions options;
  Service service;
  Http http;
  /// Tries one thing after the other.
  void reload() {
    const auto attempt = [this](const auto& act) {
      try {
        act();
      } catch (const std::exception& error) {
        announce(cat("warning: not read again: ", error.what()));
      }
    };
    attempt([this] { service.operation().reload(); });
    attempt([this] { http.reload(); });
    announce("read keys and certificates again, opened the log anew");
  }

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
  const bool tls = !impl_->options.operation.tls_cert.empty();
  impl_->announce(cat("listening on ", tls ? "https" : "http", "://", v6 ? "[" : "", host, v6 ? "]" : "", ":", port()));
  if (!impl_->options.port_file.empty()) write_port(impl_->options.port_file, port());
  impl_->service.start();
}

void Server::reload() {
  impl_->reload();
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
  return state_of(impl_->service) == State::failed ? impl_->service.load_error() : std::string();
}

bool Server::ready() const {
  return is_ready(impl_->service);
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
  const bool terminal = has_terminal();
  bool told = false;
  for (int signal = -1;;) {
    if (!told && server.ready()) {
      told = true;
      if (options.on_ready) options.on_ready();
    }
    signal = signals.next(std::chrono::milliseconds(200));
    // A terminal that has closed says so with the signal that otherwise means: read your files again.
    if (signal == SIGHUP && (!terminal || has_terminal())) {
      server.reload();
      continue;
    }
    if (signal > 0) break;
    if (state_of(server.impl_->service) == State::failed) {
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
         !signals.next_stop(std::chrono::milliseconds(1))) {
  }
  server.stop(0);
  server.impl_->announce(in_time ? "stopped" : "stopped; requests that took too long were answered 503");
  return 0;
}

}  // namespace tandem::server
