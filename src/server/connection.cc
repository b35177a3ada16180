#include "server/connection.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_suffix.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>

#include "base/clock.h"
#include "base/strings.h"
#include "server/http_text.h"
#include "server/routes.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kLook = std::chrono::milliseconds(100);
constexpr auto kGrace = std::chrono::seconds(5);  // for the engine to notice a deadline before the server answers
constexpr auto kFirstKnock =
    std::chrono::seconds(1);  // until the second letter is sent; twice as long for each further

}  // namespace

/// An answer on its way from whatever thread to the connection's strand.
struct Connection::Pending {
  explicit Pending(const asio::any_io_executor& executor) : arrived(executor) {}
  asio::steady_timer arrived;  ///< cancelled when something is there
  std::optional<Answer> answer;
  bool ended = false;  ///< the client sends no more: it has left, or closed its sending half alone
};

asio::awaitable<void> Connection::turn_away() {
  const Answer answer = error_answer(
      Code::unavailable, cat("all ", shared_.options.max_connections, " connections are taken; try again shortly"));
  stream_.expires_after(std::chrono::seconds(2));
  if (stream_.is_tls()) co_return;  // not worth a handshake
  co_await write(head_of(answer, false), answer.bytes());
}

asio::awaitable<void> Connection::talk() {
  error_code error;
  stream_.socket().set_option(tcp::no_delay(true), error);
  client_ = stream_.socket().remote_endpoint(error).address().to_string();
  stream_.expires_after(seconds_of(shared_.options.header_seconds));
  if (!co_await stream_.begin()) co_return;
  Buffer buffer(kBufferBytes);
  co_await talk_on(buffer);
  stream_.expires_after(std::chrono::seconds(2));
  co_await stream_.end();
}

asio::awaitable<void> Connection::talk_on(Buffer& buffer) {
  error_code error;
  for (bool first = true;; first = false) {
    if (buffer.size() == 0) {
      if (buffer.capacity() > kBufferBytes / 8) buffer.shrink_to_fit();  // thousands of connections may rest
      resting_ = true;
      if (shared_.draining) co_return;
      stream_.expires_after(seconds_of(first ? shared_.options.header_seconds : shared_.options.idle_seconds));
      const std::size_t count =
          co_await stream_.async_read_some(buffer.prepare(4096), asio::redirect_error(asio::use_awaitable, error));
      resting_ = false;
      if (error) co_return;
      buffer.commit(count);
    }
    const bool keep = co_await exchange(buffer);
    if (!keep) co_return;
  }
}

/// One request and its answer; whether another may follow.
asio::awaitable<bool> Connection::exchange(Buffer& buffer) {
  Parser parser;
  parser.header_limit(kHeaderBytes);
  parser.body_limit(shared_.options.max_body_bytes);
  error_code error;
  stream_.expires_after(seconds_of(shared_.options.header_seconds));
  co_await http::async_read_header(stream_, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error && error.category() != http::make_error_code(http::error::bad_method).category()) co_return false;
  if (error == http::error::end_of_stream || error == http::error::partial_message) co_return false;
  if (error) {
    const CallPtr call = call_of(parser.get(), shared_.service.memory());  // as far as it was understood
    Answer answer = answer_to_bad_request(error, shared_.options.max_body_bytes);
    {
      Operation::Exchange around(shared_.service.operation(), call, client_);
      around.dress(answer);
      around.answering(answer, answer.bytes().size());
      if (co_await write(head_of(answer, false), answer.bytes())) around.written();
    }
    co_await linger(buffer);
    co_return false;
  }

  const CallPtr call = call_of(parser.get(), shared_.service.memory());
  const bool head_only = parser.get().method() == http::verb::head;
  const bool keep_wanted = parser.get().keep_alive();
  Operation::Exchange around(shared_.service.operation(), call, client_);
  std::optional<Answer> answer = refuse_head(parser.get());
  bool whole = parser.is_done();  // nothing of the body is left to read
  if (!answer) {
    answer = around.admit();
    // A small body is read all the same, so that the connection can be kept.
    const bool small = parser.content_length().value_or(kInlineBytes + 1) <= kInlineBytes;
    if (answer && !whole && small && parser.get().count(http::field::expect) == 0) {
      co_await read_body(buffer, parser, *call, whole);
    }
  }
  if (!answer && !whole && parser.get().count(http::field::expect) > 0) answer = refuse_early(shared_.service, *call);
  if (!answer && !whole) answer = co_await read_body(buffer, parser, *call, whole);
  if (!answer && !whole) co_return false;  // the client left or was too slow
  if (!answer) {
    call->body = std::move(parser.get().body());
    call->facts.bytes_in = call->body.size();
    answer = co_await answer_of(call);
  }
  around.dress(*answer);
  const bool keep = keep_wanted && whole && !answer->close && !shared_.draining;
  const std::string_view body =
      head_only || answer->status == 204 || answer->status == 304 ? std::string_view() : answer->bytes();
  around.answering(*answer, body.size());
  const bool written = co_await write(head_of(*answer, keep).substr(std::exchange(ahead_, 0)), body);
  if (written) around.written();
  if ((!whole || answer->close) && written) co_await linger(buffer);
  co_return keep&& written;
}

asio::awaitable<Answer> Connection::answer_of(CallPtr call) {
  const asio::any_io_executor executor = stream_.get_executor();
  const auto pending = std::make_shared<Pending>(executor);
  call->deadline = Clock::now() + seconds_of(shared_.options.request_seconds);
  cancel_ = call->cancel;
  call->post = [executor](std::function<void()> work) { asio::post(executor, std::move(work)); };
  stream_.expires_never();
  dispatch(shared_.service, call, Reply([pending, executor](Answer answer) {
             asio::dispatch(executor, [pending, answer = std::move(answer)]() mutable {
               if (pending->answer) return;
               pending->answer = std::move(answer);
               pending->arrived.cancel();
             });
           }));
  bool on_time = true;
  if (!pending->answer) {
    watch(pending, call->cancel);
    const auto last = call->deadline + kGrace;
    auto knock = Clock::now();  // when the next letter is sent to a client that has ended
    Clock::duration pause = kFirstKnock;
    error_code error;
    while (!pending->answer && Clock::now() < last) {
      if (pending->ended && ahead_ < kBeginning.size() && Clock::now() >= knock) {
        if (ahead_ == 0) watch_reset(pending, call->cancel);
        if (!co_await write(std::string(kBeginning.substr(ahead_++, 1)), {})) *call->cancel = true;
        stream_.expires_never();
        knock = Clock::now() + pause;
        pause *= 2;
        continue;
      }
      pending->arrived.expires_at(pending->ended && ahead_ < kBeginning.size() ? std::min(last, knock) : last);
      co_await pending->arrived.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    on_time = pending->answer.has_value();
    if (!on_time) {
      *call->cancel = true;
      pending->answer =
          error_answer(Code::deadline_exceeded, cat("no answer within ", shared_.options.request_seconds, " seconds"));
    }
    stream_.socket().cancel(error);  // the watch
  }
  // What was held for the work is held for the answer, while the client takes its time to read it.
  if (on_time) call->memory.set(pending->answer->body.size());
  cancel_ = nullptr;
  co_return std::move(*pending->answer);
}

/// Says when the client sends no more, and withdraws the work when it is seen to have left. One that closed its
/// connection cannot be told from one that closed its sending half and reads on, until something is written to it: then
/// the system of the former answers with a reset. So the answer's first letters, which are always the same, are sent
/// ahead, one at a time, for as long as the answer takes.
void Connection::watch(const std::shared_ptr<Pending>& pending, const CancelFlag& cancel) {
  const auto self = shared_from_this();
  stream_.socket().async_wait(tcp::socket::wait_read, [this, self, pending, cancel](error_code error) {
    if (error || pending->answer) return;
    char byte = 0;
    const auto count = ::recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    // Through TLS it may be the end, which nobody can tell from the next request without reading it.
    if (count > 0 && stream_.is_tls()) return watch_tls(pending, cancel);
    if (count > 0) return;  // the next request waits there: this client is not gone
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return watch(pending, cancel);
    if (count < 0) {
      *cancel = true;
      return;
    }
    pending->ended = true;
    pending->arrived.cancel();
  });
}

/// Withdraws the work when the connection is reset.
void Connection::watch_reset(const std::shared_ptr<Pending>& pending, const CancelFlag& cancel) {
  stream_.socket().async_wait(tcp::socket::wait_error,
                              [this, self = shared_from_this(), pending, cancel](error_code error) {
                                if (error || pending->answer) return;
                                if (state() != TCP_CLOSE) return watch_reset(pending, cancel);
                                *cancel = true;
                              });
}

/// Of TCP; -1 where it is not known.
int Connection::state() {
  tcp_info info{};
  socklen_t size = sizeof info;
  const int problem = ::getsockopt(stream_.socket().native_handle(), IPPROTO_TCP, TCP_INFO, &info, &size);
  return problem == 0 ? info.tcpi_state : -1;
}

/// The same where something waits to be read: looks now and then whether the other side has closed the connection.
void Connection::watch_tls(const std::shared_ptr<Pending>& pending, const CancelFlag& cancel) {
  const int now = state();
  if (now == TCP_CLOSE_WAIT || now == TCP_CLOSE) {
    *cancel = now == TCP_CLOSE;
    pending->ended = now == TCP_CLOSE_WAIT;
    pending->arrived.cancel();
    return;
  }
  const auto timer = std::make_shared<asio::steady_timer>(stream_.get_executor(), kLook);
  timer->async_wait([this, self = shared_from_this(), timer, pending, cancel](error_code error) {
    if (!error && !pending->answer && stream_.socket().is_open()) watch_tls(pending, cancel);
  });
}

void Connection::expect_bytes(Clock::time_point begin, std::size_t moved) {
  const double rest = static_cast<double>(moved) / kSlowestBytesPerSecond;
  stream_.expires_at(begin + seconds_of(shared_.options.body_seconds + rest));
}

/// False when the client left, or took the answer more slowly than the slowest allowed.
asio::awaitable<bool> Connection::write(std::string head, std::string_view body) {
  const std::array<asio::const_buffer, 2> both{asio::buffer(head), asio::buffer(body.data(), body.size())};
  beast::buffers_suffix<std::array<asio::const_buffer, 2>> rest(both);
  std::size_t left = head.size() + body.size(), written = 0;
  const auto begin = Clock::now();
  error_code error;
  while (left > 0) {
    expect_bytes(begin, written);
    const std::size_t count = co_await stream_.async_write_some(rest, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
    rest.consume(count);
    left -= count;
    written += count;
  }
  co_return true;
}

/// Reads on after a refusal until the client has sent what it wanted to send: closing at once would make its system
/// throw the answer away before the client has read it.
asio::awaitable<void> Connection::linger(Buffer& buffer) {
  error_code error;
  if (!stream_.is_tls()) stream_.socket().shutdown(tcp::socket::shutdown_send, error);
  buffer.clear();
  std::size_t left = 4 * shared_.options.max_body_bytes;
  stream_.expires_after(kGrace);
  while (!error && left > 0) {
    const std::size_t count = co_await stream_.async_read_some(buffer.prepare(kBufferBytes),
                                                               asio::redirect_error(asio::use_awaitable, error));
    left -= std::min(left, count);
  }
}

void Connection::close() {
  error_code ignored;
  stream_.socket().shutdown(tcp::socket::shutdown_both, ignored);
  stream_.close();
}

void Connection::close_if_resting() {
  if (resting_) stream_.close();
}

void Connection::withdraw() {
  if (cancel_) *cancel_ = true;
}

}  // namespace tandem::server
