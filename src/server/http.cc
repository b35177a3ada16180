#include "server/http.h"

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <condition_variable>
#include <list>
#include <mutex>

#include "base/strings.h"
#include "base/thread_pool.h"
#include "server/connection.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using ConnectionPtr = std::shared_ptr<Connection>;

constexpr auto kPause = std::chrono::milliseconds(20);  // after a connection could not be accepted
constexpr auto kSaidOnce = std::chrono::seconds(10);    // while that goes on

std::string reason_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const std::exception& known) {
    return known.what();
  } catch (...) {
    return "an unknown exception";
  }
}

}  // namespace

struct Http::Impl {
  Impl(const ServerOptions& o, Service& s)
      : options(o), shared{options, s}, io(std::max(1, o.io_threads)), strand(asio::make_strand(io)), acceptor(strand) {
    const OperationOptions& operation = o.operation;
    if (!operation.tls_cert.empty() || !operation.tls_key.empty()) {
      shared.tls = std::make_unique<Tls>(operation.tls_cert, operation.tls_key);
    }
  }

  class Place;

  asio::awaitable<void> accept();
  void take(tcp::socket socket);
  void serve() noexcept;
  void say(const std::string& line) noexcept;
  void say_failure(const std::string& why) noexcept;
  void for_each(void (Connection::*act)());

  const ServerOptions options;
  Shared shared;

  std::mutex mutex;
  std::condition_variable changed;
  std::list<std::weak_ptr<Connection>> connections;
  Clock::time_point failure_said;  // on the strand

  asio::io_context io;                                   // after what its handlers use when it goes
  asio::strand<asio::io_context::executor_type> strand;  // the acceptor's
  tcp::acceptor acceptor;
  int port = 0;
  std::vector<std::thread> threads;
};

/// A connection's place among those that are open; given up with the object.
class Http::Impl::Place {
 public:
  Place(Impl& impl, ConnectionPtr connection) : impl_(impl), connection_(std::move(connection)) {
    const std::lock_guard lock(impl_.mutex);
    at_ = impl_.connections.insert(impl_.connections.end(), connection_);
    impl_.shared.service.operation().telemetry().connection_opened();
  }
  ~Place() {
    connection_->withdraw();
    connection_->close();
    impl_.shared.service.operation().telemetry().connection_closed();
    const std::lock_guard lock(impl_.mutex);
    impl_.connections.erase(at_);
    impl_.changed.notify_all();
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

 private:
  Impl& impl_;
  const ConnectionPtr connection_;
  std::list<std::weak_ptr<Connection>>::iterator at_;
};

/// Goes on whatever happens: without descriptors or memory it waits until there are some again.
asio::awaitable<void> Http::Impl::accept() {
  for (;;) {
    std::string problem;
    try {
      error_code error;
      tcp::socket socket =
          co_await acceptor.async_accept(asio::make_strand(io), asio::redirect_error(asio::use_awaitable, error));
      if (!acceptor.is_open() || shared.draining) co_return;
      if (!error) {
        take(std::move(socket));
      } else if (error != asio::error::connection_aborted) {  // a client that left again is no problem
        problem = error.message();
      }
    } catch (...) {
      problem = reason_of(std::current_exception());
    }
    if (problem.empty()) continue;
    say_failure(problem);
    try {
      asio::steady_timer pause(strand, kPause);
      error_code ignored;
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    } catch (const std::exception&) {  // no memory for waiting either: on without it
    }
  }
}

void Http::Impl::take(tcp::socket socket) {
  bool full = false;
  {
    const std::lock_guard lock(mutex);
    full = connections.size() >= static_cast<std::size_t>(options.max_connections);
  }
  const auto connection = std::make_shared<Connection>(std::move(socket), shared);
  if (full) {
    asio::co_spawn(connection->executor(), connection->turn_away(), [connection](const std::exception_ptr&) {});
    return;
  }
  const auto place = std::make_shared<Place>(*this, connection);
  asio::co_spawn(connection->executor(), connection->talk(), [this, place](const std::exception_ptr& error) {
    if (error) say(cat("error: a connection was closed: ", reason_of(error)));
  });
}

/// An I/O thread's life.
void Http::Impl::serve() noexcept {
  name_thread("io");
  for (;;) {
    try {
      io.run();
      return;
    } catch (...) {  // of one handler; the others go on
      say(cat("error: an I/O thread goes on after: ", reason_of(std::current_exception())));
    }
  }
}

void Http::Impl::say(const std::string& line) noexcept {
  try {
    if (options.announce && !options.quiet) options.announce(line);
  } catch (const std::exception&) {  // nobody to tell
  }
}

void Http::Impl::say_failure(const std::string& why) noexcept {
  const auto now = Clock::now();
  if (failure_said != Clock::time_point() && now - failure_said < kSaidOnce) return;
  failure_said = now;
  say(cat("warning: new connections have to wait: ", why));
}

void Http::Impl::for_each(void (Connection::*act)()) {
  const std::lock_guard lock(mutex);
  for (const auto& weak : connections) {
    if (const ConnectionPtr connection = weak.lock()) {
      asio::post(connection->executor(), [connection, act] { (*connection.*act)(); });
    }
  }
}

Http::Http(const ServerOptions& options, Service& service) : impl_(std::make_unique<Impl>(options, service)) {}

Http::~Http() {
  stop();
}

void Http::start() {
  const ServerOptions& options = impl_->options;
  error_code error;
  const auto address = asio::ip::make_address(options.host == "localhost" ? "127.0.0.1" : options.host, error);
  if (error)
    throw Error(Code::invalid_argument,
                cat("host \"", options.host, "\" is no address; name one such as 127.0.0.1 or 0.0.0.0"));
  if (options.port < 0 || options.port > 65535)
    throw Error(Code::invalid_argument, cat("port ", options.port, " is not between 0 and 65535"));
  const tcp::endpoint endpoint(address, static_cast<unsigned short>(options.port));
  tcp::acceptor& acceptor = impl_->acceptor;
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    throw Error(Code::io_error, cat("cannot listen on ", options.host, " port ", options.port, ": ", error.message(),
                                    "; choose another with --port"));
  }
  impl_->port = acceptor.local_endpoint().port();
  asio::co_spawn(impl_->strand, impl_->accept(), [](const std::exception_ptr&) {});
  for (int i = 0; i < std::max(1, options.io_threads); ++i) {
    impl_->threads.push_back(start_thread("an I/O thread", [impl = impl_.get()] { impl->serve(); }));
  }
}

void Http::reload() {
  if (impl_->shared.tls) impl_->shared.tls->reload();
}

int Http::port() const noexcept {
  return impl_->port;
}

void Http::drain() {
  if (impl_->shared.draining.exchange(true)) return;
  asio::post(impl_->strand, [impl = impl_.get()] {
    error_code ignored;
    impl->acceptor.close(ignored);
  });
  impl_->for_each(&Connection::close_if_resting);
}

bool Http::wait(double limit) {
  std::unique_lock lock(impl_->mutex);
  return impl_->changed.wait_for(lock, std::chrono::duration<double>(limit),
                                 [this] { return impl_->connections.empty(); });
}

void Http::withdraw() {
  impl_->for_each(&Connection::withdraw);
}

void Http::stop() {
  if (impl_->threads.empty()) return;
  drain();
  impl_->for_each(&Connection::close);
  wait(2);
  impl_->io.stop();
  for (auto& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace tandem::server
