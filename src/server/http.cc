#include "server/http.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_suffix.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <ctime>
#include <list>
#include <mutex>
#include <optional>

#include "base/strings.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Parser = http::request_parser<http::string_body>;

constexpr std::size_t kBufferBytes = 64 << 10;
constexpr std::uint32_t kHeaderBytes = 16 << 10;
constexpr std::size_t kSlowestBytesPerSecond = 16 << 10;
constexpr std::size_t kPadding = 64;              // behind a body, for the JSON parser
constexpr auto kGrace = std::chrono::seconds(5);  // for the engine to notice a deadline before the server answers

Clock::duration seconds(double value) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(value));
}

/// A part of the bytes that all requests may take together.
class Reservation {
 public:
  Reservation(std::atomic<std::size_t>& used, std::size_t limit) : used_(used), limit_(limit) {}
  ~Reservation() { used_ -= held_; }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  /// Holds at least `bytes`; false when that is more than is left.
  bool hold(std::size_t bytes) {
    if (bytes <= held_) return true;
    const std::size_t more = bytes - held_;
    if (used_.fetch_add(more) + more > limit_) {
      used_ -= more;
      return false;
    }
    held_ = bytes;
    return true;
  }

 private:
  std::atomic<std::size_t>& used_;
  const std::size_t limit_;
  std::size_t held_ = 0;
};

struct Connection {
  explicit Connection(tcp::socket socket) : stream(std::move(socket)) {}
  beast::tcp_stream stream;
  bool resting = false;  ///< between two requests; on the strand
  CancelFlag cancel;     ///< of the request being answered; on the strand
};
using ConnectionPtr = std::shared_ptr<Connection>;

/// An answer on its way from whatever thread to the connection's strand.
struct Pending {
  explicit Pending(const asio::any_io_executor& executor) : arrived(executor) {}
  asio::steady_timer arrived;  ///< cancelled when the answer is there
  std::optional<Answer> answer;
};
using PendingPtr = std::shared_ptr<Pending>;

std::string now_as_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts)};
}

std::string head_of(const Answer& answer, bool keep) {
  const std::string_view body = answer.bytes();
  std::string head;
  head.reserve(512);
  head += cat("HTTP/1.1 ", answer.status, " ");
  if (answer.status == 499) {
    head += "Client Closed Request";
  } else {
    const auto reason = http::obsolete_reason(static_cast<http::status>(answer.status));
    head.append(reason.data(), reason.size());
  }
  head += "\r\nServer: tandem\r\nDate: " + now_as_text();
  if (answer.status != 204 && answer.status != 304) head += cat("\r\nContent-Length: ", body.size());
  if (!body.empty()) head += "\r\nContent-Type: " + answer.content_type;
  head += "\r\nX-Content-Type-Options: nosniff";
  head += keep ? "\r\nConnection: keep-alive" : "\r\nConnection: close";
  for (const auto& [name, value] : answer.headers) head += cat("\r\n", name, ": ", value);
  return head += "\r\n\r\n";
}

std::string_view view(boost::core::string_view text) {
  return {text.data(), text.size()};
}

/// Method, target and the few headers that handlers look at.
CallPtr call_of(const http::request<http::string_body>& request) {
  auto call = std::make_shared<Call>();
  call->method = view(request.method_string());
  if (call->method == "HEAD") call->method = "GET";
  std::string_view target = view(request.target());
  if (const std::size_t scheme = target.find("://"); scheme != std::string_view::npos && target.front() != '/') {
    const std::size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  target = target.substr(0, target.find('#'));
  const std::size_t question = std::min(target.find('?'), target.size());
  call->path = target.substr(0, question);
  call->query = target.substr(std::min(question + 1, target.size()));
  call->content_type = view(request[http::field::content_type]);
  std::transform(call->content_type.begin(),
                 call->content_type.begin() +
                     static_cast<std::ptrdiff_t>(std::min(call->content_type.find(';'), call->content_type.size())),
                 call->content_type.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  call->if_none_match = view(request[http::field::if_none_match]);
  call->fetch_site = view(request["Sec-Fetch-Site"]);
  return call;
}

/// What is wrong with a request's head, beyond its syntax.
std::optional<Answer> refuse_head(const http::request<http::string_body>& request) {
  if (request.version() != 10 && request.version() != 11) {
    return error_answer(505, "unsupported", "this server speaks HTTP/1.1");
  }
  if (request.version() == 11 && request.count(http::field::host) != 1) {
    return error_answer(400, code_name(Code::bad_data), "an HTTP/1.1 request needs exactly one Host header");
  }
  const auto expect = request[http::field::expect];
  if (!expect.empty() && !beast::iequals(expect, "100-continue")) {
    return error_answer(417, "unsupported", "the only expectation that is met is 100-continue");
  }
  return std::nullopt;
}

Answer answer_to_bad_head(const error_code& error, std::size_t max_body) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return error_answer(431, code_name(Code::too_large),
                        cat("the request's head is too large; the limit is ", kHeaderBytes, " bytes"));
  }
  if (error == http::error::body_limit) {
    return error_answer(Code::too_large, cat("the request's body is too large; the limit is ", max_body, " bytes"));
  }
  return error_answer(400, code_name(Code::bad_data), cat("malformed HTTP request: ", error.message()));
}

}  // namespace

struct Http::Impl {
  Impl(const ServerOptions& o, Service& s)
      : options(o), service(s), io(std::max(1, o.io_threads)), acceptor(asio::make_strand(io)) {}

  asio::awaitable<void> accept();
  asio::awaitable<void> turn_away(tcp::socket socket);
  asio::awaitable<void> talk(ConnectionPtr connection);
  asio::awaitable<bool> exchange(ConnectionPtr connection, beast::flat_buffer& buffer);
  asio::awaitable<std::optional<Answer>> read_body(ConnectionPtr connection, beast::flat_buffer& buffer, Parser& parser,
                                                   Reservation& reservation);
  asio::awaitable<Answer> answer_of(ConnectionPtr connection, CallPtr call);
  asio::awaitable<bool> write(ConnectionPtr connection, std::string head, std::string_view body);
  asio::awaitable<void> linger(ConnectionPtr connection, beast::flat_buffer& buffer);
  void watch(const ConnectionPtr& connection, const PendingPtr& pending, const CancelFlag& cancel);
  void for_each(void (*act)(Connection&));

  const ServerOptions options;
  Service& service;
  asio::io_context io;
  tcp::acceptor acceptor;
  int port = 0;
  std::vector<std::thread> threads;
  std::atomic<bool> draining{false};
  std::atomic<std::size_t> buffered{0};

  std::mutex mutex;
  std::condition_variable changed;
  std::list<std::weak_ptr<Connection>> connections;
};

asio::awaitable<void> Http::Impl::accept() {
  for (;;) {
    error_code error;
    tcp::socket socket =
        co_await acceptor.async_accept(asio::make_strand(io), asio::redirect_error(asio::use_awaitable, error));
    if (!acceptor.is_open() || draining) co_return;
    if (error) {  // out of descriptors, or the client left again
      asio::steady_timer pause(acceptor.get_executor(), std::chrono::milliseconds(20));
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    const auto executor = socket.get_executor();
    std::list<std::weak_ptr<Connection>>::iterator place;
    ConnectionPtr connection;
    {
      const std::lock_guard lock(mutex);
      if (connections.size() < static_cast<std::size_t>(options.max_connections)) {
        connection = std::make_shared<Connection>(std::move(socket));
        place = connections.insert(connections.end(), connection);
      }
    }
    if (!connection) {
      asio::co_spawn(executor, turn_away(std::move(socket)), [](std::exception_ptr) {});
      continue;
    }
    asio::co_spawn(executor, talk(connection), [this, connection, place](std::exception_ptr) {
      if (connection->cancel) *connection->cancel = true;
      error_code ignored;
      connection->stream.socket().shutdown(tcp::socket::shutdown_both, ignored);
      connection->stream.close();
      const std::lock_guard lock(mutex);
      connections.erase(place);
      changed.notify_all();
    });
  }
}

asio::awaitable<void> Http::Impl::turn_away(tcp::socket socket) {
  auto connection = std::make_shared<Connection>(std::move(socket));
  const Answer answer = error_answer(Code::unavailable,
                                     cat("all ", options.max_connections, " connections are taken; try again shortly"));
  connection->stream.expires_after(std::chrono::seconds(2));
  co_await write(connection, head_of(answer, false), answer.bytes());
}

asio::awaitable<void> Http::Impl::talk(ConnectionPtr connection) {
  beast::flat_buffer buffer(kBufferBytes);
  beast::tcp_stream& stream = connection->stream;
  error_code error;
  stream.socket().set_option(tcp::no_delay(true), error);
  for (bool first = true;; first = false) {
    if (buffer.size() == 0) {
      if (buffer.capacity() > kBufferBytes / 8) buffer.shrink_to_fit();  // thousands of connections may rest
      connection->resting = true;
      if (draining) co_return;
      stream.expires_after(seconds(first ? options.header_seconds : options.idle_seconds));
      const std::size_t count =
          co_await stream.async_read_some(buffer.prepare(4096), asio::redirect_error(asio::use_awaitable, error));
      connection->resting = false;
      if (error) co_return;
      buffer.commit(count);
    }
    const bool keep = co_await exchange(connection, buffer);
    if (!keep) co_return;
  }
}

/// One request and its answer; whether another may follow.
asio::awaitable<bool> Http::Impl::exchange(ConnectionPtr connection, beast::flat_buffer& buffer) {
  Parser parser;
  parser.header_limit(kHeaderBytes);
  parser.body_limit(options.max_body_bytes);
  error_code error;
  connection->stream.expires_after(seconds(options.header_seconds));
  co_await http::async_read_header(connection->stream, buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
  if (error && error.category() != http::make_error_code(http::error::bad_method).category()) co_return false;
  if (error == http::error::end_of_stream || error == http::error::partial_message) co_return false;
  if (error) {
    const Answer answer = answer_to_bad_head(error, options.max_body_bytes);
    co_await write(connection, head_of(answer, false), answer.bytes());
    co_await linger(connection, buffer);
    co_return false;
  }

  const CallPtr call = call_of(parser.get());
  const bool head_only = parser.get().method() == http::verb::head;
  const bool keep_wanted = parser.get().keep_alive();
  Reservation reservation(buffered, options.max_buffered_bytes);
  std::optional<Answer> answer = refuse_head(parser.get());
  if (!answer && !parser.is_done() && parser.get().count(http::field::expect) > 0)
    answer = refuse_early(service, *call);
  if (!answer && !parser.is_done()) answer = co_await read_body(connection, buffer, parser, reservation);
  if (!answer && !parser.is_done()) co_return false;  // the client left or was too slow
  if (!answer) {
    call->body = std::move(parser.get().body());
    answer = co_await answer_of(connection, call);
  }
  const bool unread = !parser.is_done();
  const bool keep = keep_wanted && !unread && !answer->close && !draining;
  const std::string_view body =
      head_only || answer->status == 204 || answer->status == 304 ? std::string_view() : answer->bytes();
  const bool written = co_await write(connection, head_of(*answer, keep), body);
  if (unread && written) co_await linger(connection, buffer);
  co_return keep&& written;
}

/// The rest of a body, within its limits; an answer when it is refused. When the client leaves or is too slow neither
/// an answer nor the end of the body comes.
asio::awaitable<std::optional<Answer>> Http::Impl::read_body(ConnectionPtr connection, beast::flat_buffer& buffer,
                                                             Parser& parser, Reservation& reservation) {
  const Answer busy = error_answer(
      Code::overloaded, cat("the requests under way fill ", options.max_buffered_bytes, " bytes; try again shortly"));
  std::string& body = parser.get().body();
  if (const auto length = parser.content_length()) {
    if (!reservation.hold(static_cast<std::size_t>(*length))) co_return busy;
    body.reserve(static_cast<std::size_t>(*length) + kPadding);
  }
  error_code error;
  if (parser.get().count(http::field::expect) > 0 && parser.get().version() == 11) {
    co_await write(connection, "HTTP/1.1 100 Continue\r\n\r\n", {});
  }
  parser.eager(true);
  const auto begin = Clock::now();
  while (!parser.is_done()) {
    connection->stream.expires_at(
        begin + seconds(options.body_seconds + static_cast<double>(body.size()) / kSlowestBytesPerSecond));
    co_await http::async_read_some(connection->stream, buffer, parser,
                                   asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::need_more) error = {};
    if (error && error.category() == http::make_error_code(http::error::body_limit).category() &&
        error != http::error::partial_message && error != http::error::end_of_stream) {
      co_return answer_to_bad_head(error, options.max_body_bytes);
    }
    if (error) co_return std::nullopt;
    if (!reservation.hold(body.size())) co_return busy;
  }
  if (body.capacity() - body.size() < kPadding) body.reserve(body.size() + kPadding);
  co_return std::nullopt;
}

asio::awaitable<Answer> Http::Impl::answer_of(ConnectionPtr connection, CallPtr call) {
  const asio::any_io_executor executor = connection->stream.get_executor();
  const auto pending = std::make_shared<Pending>(executor);
  call->deadline = Clock::now() + seconds(options.request_seconds);
  connection->cancel = call->cancel;
  connection->stream.expires_never();
  dispatch(service, call, Reply([pending, executor](Answer answer) {
             asio::dispatch(executor, [pending, answer = std::move(answer)]() mutable {
               if (pending->answer) return;
               pending->answer = std::move(answer);
               pending->arrived.cancel();
             });
           }));
  if (!pending->answer) {
    watch(connection, pending, call->cancel);
    pending->arrived.expires_at(call->deadline + kGrace);
    error_code error;
    co_await pending->arrived.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (!pending->answer) {
      *call->cancel = true;
      pending->answer =
          error_answer(Code::deadline_exceeded, cat("no answer within ", options.request_seconds, " seconds"));
    }
    connection->stream.socket().cancel(error);  // the watch
  }
  connection->cancel = nullptr;
  co_return std::move(*pending->answer);
}

/// Withdraws the work when the client closes its side. What it would have been answered is written all the same:
/// a client that only closed its sending half still reads it.
void Http::Impl::watch(const ConnectionPtr& connection, const PendingPtr& pending, const CancelFlag& cancel) {
  connection->stream.socket().async_wait(tcp::socket::wait_read, [this, connection, pending, cancel](error_code error) {
    if (error || pending->answer) return;
    char byte = 0;
    const auto count = ::recv(connection->stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (count > 0) return;  // the next request waits there: this client is not gone
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
      return watch(connection, pending, cancel);
    *cancel = true;
  });
}

/// False when the client left, or took the answer more slowly than the slowest allowed.
asio::awaitable<bool> Http::Impl::write(ConnectionPtr connection, std::string head, std::string_view body) {
  const std::array<asio::const_buffer, 2> both{asio::buffer(head), asio::buffer(body.data(), body.size())};
  beast::buffers_suffix<std::array<asio::const_buffer, 2>> rest(both);
  std::size_t left = head.size() + body.size(), written = 0;
  const auto begin = Clock::now();
  error_code error;
  while (left > 0) {
    connection->stream.expires_at(
        begin + seconds(options.body_seconds + static_cast<double>(written) / kSlowestBytesPerSecond));
    const std::size_t count =
        co_await connection->stream.async_write_some(rest, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    rest.consume(count);
    left -= count;
    written += count;
  }
  co_return true;
}

/// Reads on after a refusal until the client has sent what it wanted to send: closing at once would make its system
/// throw the answer away before the client has read it.
asio::awaitable<void> Http::Impl::linger(ConnectionPtr connection, beast::flat_buffer& buffer) {
  error_code error;
  connection->stream.socket().shutdown(tcp::socket::shutdown_send, error);
  buffer.clear();
  std::size_t left = 4 * options.max_body_bytes;
  connection->stream.expires_after(kGrace);
  while (!error && left > 0) {
    const std::size_t count = co_await connection->stream.async_read_some(
        buffer.prepare(kBufferBytes), asio::redirect_error(asio::use_awaitable, error));
    left -= std::min(left, count);
  }
}

void Http::Impl::for_each(void (*act)(Connection&)) {
  const std::lock_guard lock(mutex);
  for (const auto& weak : connections) {
    if (const ConnectionPtr connection = weak.lock()) {
      asio::post(connection->stream.get_executor(), [connection, act] { act(*connection); });
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
  asio::co_spawn(acceptor.get_executor(), impl_->accept(), [](std::exception_ptr) {});
  for (int i = 0; i < std::max(1, options.io_threads); ++i) {
    impl_->threads.emplace_back([impl = impl_.get()] { impl->io.run(); });
  }
}

int Http::port() const noexcept {
  return impl_->port;
}

void Http::drain() {
  if (impl_->draining.exchange(true)) return;
  asio::post(impl_->acceptor.get_executor(), [impl = impl_.get()] {
    error_code ignored;
    impl->acceptor.close(ignored);
  });
  impl_->for_each([](Connection& connection) {
    if (connection.resting) connection.stream.close();
  });
}

bool Http::wait(double limit) {
  std::unique_lock lock(impl_->mutex);
  return impl_->changed.wait_for(lock, seconds(limit), [this] { return impl_->connections.empty(); });
}

void Http::withdraw() {
  impl_->for_each([](Connection& connection) {
    if (connection.cancel) *connection.cancel = true;
  });
}

void Http::stop() {
  if (impl_->threads.empty()) return;
  drain();
  impl_->for_each([](Connection& connection) { connection.stream.close(); });
  wait(2);
  impl_->io.stop();
  for (auto& thread : impl_->threads) thread.join();
  impl_->threads.clear();
}

}  // namespace tandem::server
