#include "loadtest/worker.h"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/clock.h"
#include "base/strings.h"
#include "loadtest/answers.h"

namespace tandem::loadtest {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::size_t kExamples = 8;

std::uint64_t share_of(std::uint64_t total, int index, int parts) {
  const auto n = static_cast<std::uint64_t>(parts);
  return total / n + (static_cast<std::uint64_t>(index) < total % n ? 1 : 0);
}

float milliseconds(Clock::duration value) {
  return std::chrono::duration<float, std::milli>(value).count();
}

}  // namespace

/// A connection that is used again and again.
struct Worker::Link {
  explicit Link(asio::io_context& io) : stream(io), wake(io) {}

  // A server may close a connection that rests: its end is then already here.
  bool alive() {
    if (!open) return false;
    char byte = 0;
    const auto got = ::recv(stream.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  }
  void close() {
    open = false;
    buffer.clear();
    stream.close();
  }

  beast::tcp_stream stream;
  asio::steady_timer wake;  // cancelled when a request waits for a connection
  beast::flat_buffer buffer;
  bool open = false;
};

struct Worker::Outcome {
  error_code error;
  bool heard = false;  // some of an answer came
  http::response<http::string_body> answer;
};

Worker::Worker(const Setup& setup, int index)
    : setup_(setup),
      options_(setup.options),
      index_(index),
      connections_(static_cast<int>(
          share_of(static_cast<std::uint64_t>(setup.options.concurrency), index, setup.options.threads))),
      requests_(share_of(setup.options.requests, index, setup.options.threads)),
      random_(setup.options.seed * 1000003 + static_cast<std::uint64_t>(index)),
      arrival_(io_),
      stop_timer_(io_) {}

void Worker::run() {
  if (options_.requests > 0 && requests_ == 0) return;
  asio::co_spawn(io_, watch_stop(), asio::detached);
  if (options_.arrivals == Arrivals::closed) {
    for (int i = 0; i < connections_; ++i) spawn();
  } else {
    asio::co_spawn(io_, schedule(), asio::detached);
  }
  io_.run();
}

/// Whether nothing more is to be sent.
bool Worker::ended() const {
  if (!sending_ || (setup_.stop != nullptr && *setup_.stop)) return true;
  return requests_ > 0 ? planned_ >= requests_ : Clock::now() >= setup_.begin + seconds_of(options_.seconds);
}

void Worker::spawn() {
  ++open_;
  asio::co_spawn(io_, work(), asio::detached);
}

void Worker::wake_one() {
  if (idle_.empty()) return;
  idle_.back()->wake.cancel();  // the one used last: its memory is still in the processor's caches
  idle_.pop_back();
}

void Worker::end_sending() {
  sending_ = false;
  stop_timer_.cancel();
  while (!idle_.empty()) wake_one();
}

asio::awaitable<void> Worker::watch_stop() {
  error_code error;
  while (sending_) {
    stop_timer_.expires_after(std::chrono::milliseconds(50));
    co_await stop_timer_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (setup_.stop == nullptr || !*setup_.stop) continue;
    waiting_.clear();
    arrival_.cancel();
    end_sending();
  }
}

/// The arrivals of this worker. Poisson processes add up to one, so each worker has its own; constant ones take turns.
asio::awaitable<void> Worker::schedule() {
  const double mean = options_.threads / options_.rate;  // seconds between two arrivals here
  double at = options_.arrivals == Arrivals::constant ? mean * index_ / options_.threads : mean * random_.gap();
  error_code error;
  while (!ended() && (requests_ > 0 || at < options_.seconds)) {
    const Clock::time_point intended = setup_.begin + seconds_of(at);
    arrival_.expires_at(intended);
    co_await arrival_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (error || ended()) break;
    tally.latest_dispatch = std::max<double>(tally.latest_dispatch, milliseconds(Clock::now() - intended));
    ++planned_;
    waiting_.push_back({intended});
    if (idle_.empty() && open_ < connections_) {
      spawn();
    } else {
      wake_one();
    }
    at += options_.arrivals == Arrivals::constant ? mean : mean * random_.gap();
  }
  end_sending();
}

asio::awaitable<void> Worker::work() {
  Link link(io_);
  while (const auto planned = co_await take(link)) co_await exchange(link, *planned);
  link.close();
  // The last one of a closed loop ends the worker.
  if (--open_ == 0 && options_.arrivals == Arrivals::closed) end_sending();
}

/// The next request for a connection; none when nothing more will come.
asio::awaitable<std::optional<Worker::Planned>> Worker::take(Link& link) {
  if (options_.arrivals == Arrivals::closed) {
    if (ended()) co_return std::nullopt;
    ++planned_;
    co_return Planned{Clock::now()};
  }
  error_code error;
  while (waiting_.empty()) {
    if (!sending_) co_return std::nullopt;
    idle_.push_back(&link);
    link.wake.expires_at(Clock::time_point::max());
    co_await link.wake.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  const Planned planned = waiting_.front();
  waiting_.pop_front();
  co_return planned;
}

asio::awaitable<void> Worker::exchange(Link& link, Planned planned) {
  const auto deadline = planned.intended + seconds_of(options_.timeout);
  ++tally.sent;
  if (Clock::now() >= deadline) co_return lose(Lost::not_sent);
  const std::unique_ptr<Outgoing> request = setup_.mix.next(random_);
  for (int attempt = 0;; ++attempt) {
    const bool rested = link.alive();
    if (!rested && !co_await connect(link, deadline)) co_return lose(Lost::no_connection);
    const auto sent = Clock::now();
    link.stream.expires_at(deadline);
    const Outcome outcome = co_await talk(link, *request);
    if (outcome.error) {
      link.close();
      if (rested && attempt == 0 && !outcome.heard && outcome.error != beast::error::timeout) {
        ++tally.retried;
        continue;
      }
      const bool ended = outcome.error == http::error::end_of_stream || outcome.error == http::error::partial_message;
      co_return lose(outcome.error == beast::error::timeout ? Lost::timeout
                     : !ended && outcome.error.category() == http::make_error_code(http::error::bad_version).category()
                         ? Lost::malformed
                         : Lost::closed);
    }
    count(*request, outcome, planned, sent);
    if (!outcome.answer.keep_alive()) link.close();
    co_return;
  }
}

asio::awaitable<bool> Worker::connect(Link& link, Clock::time_point deadline) {
  link.close();
  error_code error;
  link.stream.expires_at(deadline);
  co_await link.stream.async_connect(setup_.endpoints, asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    // A server that is not there answers at once: without a pause a closed loop would do nothing but knock.
    link.wake.expires_after(std::chrono::milliseconds(20));
    co_await link.wake.async_wait(asio::redirect_error(asio::use_awaitable, error));
    co_return false;
  }
  link.stream.socket().set_option(tcp::no_delay(true), error);
  link.open = true;
  ++tally.connections;
  co_return true;
}

asio::awaitable<Worker::Outcome> Worker::talk(Link& link, const Outgoing& request) {
  Outcome outcome;
  std::vector<asio::const_buffer> pieces;
  pieces.reserve(request.body.size() + 1);
  pieces.push_back(asio::buffer(request.head));
  for (const std::string_view piece : request.body) pieces.push_back(asio::buffer(piece.data(), piece.size()));
  tally.bytes_sent +=
      co_await asio::async_write(link.stream, pieces, asio::redirect_error(asio::use_awaitable, outcome.error));
  if (outcome.error == beast::error::timeout) co_return outcome;
  // A server that refuses a body unread may end the connection: its answer still waits to be read.
  const error_code unwritten = outcome.error;
  http::response_parser<http::string_body> parser;
  parser.body_limit(boost::none);
  outcome.error = {};
  tally.bytes_received += co_await http::async_read(link.stream, link.buffer, parser,
                                                    asio::redirect_error(asio::use_awaitable, outcome.error));
  outcome.heard = parser.got_some();
  if (outcome.error && unwritten) outcome.error = unwritten;
  if (!outcome.error) {
    outcome.answer = parser.release();
    if (unwritten) outcome.answer.keep_alive(false);
  }
  co_return outcome;
}

void Worker::lose(Lost lost) {
  ++tally.lost[static_cast<std::size_t>(lost)];
}

void Worker::wrong(const std::string& what) {
  ++tally.wrong;
  if (tally.examples.size() >= kExamples) return;
  std::string line = printable(what);
  if (std::find(tally.examples.begin(), tally.examples.end(), line) == tally.examples.end())
    tally.examples.push_back(std::move(line));
}

void Worker::count(const Outgoing& request, const Outcome& outcome, Planned planned, Clock::time_point sent) {
  const auto now = Clock::now();
  const auto status = static_cast<int>(outcome.answer.result_int());
  const std::string& body = outcome.answer.body();
  ++tally.answered;
  ++tally.statuses[status];
  ++setup_.answered;
  if (status == 429 || status == 503) {
    ++tally.refused;
    return;
  }
  const bool refusal = request.expect == Expect::refusal;
  if (refusal) {
    if (status < 400 || status > 499 || status == 408)
      return wrong(cat("a corrupt picture was answered ", status, ": ", body.substr(0, 200)));
    ++tally.right_refusals;
  } else {
    if (status != 200) return wrong(cat("answered ", status, ": ", body.substr(0, 200)));
    if (options_.check && request.items > 0) {
      const auto type = outcome.answer[http::field::content_type];
      const std::string problem = check_vectors({type.data(), type.size()}, body, request.items);
      if (!problem.empty()) return wrong(problem);
    }
    tally.right_items += static_cast<std::uint64_t>(request.items);
  }
  ++tally.right;
  // A rate is of the answers that came while it was measured, whenever they were asked for: what was sent in the
  // warm-up, and the emptying queue after the end, would make a steady rate look lower.
  const double at = std::chrono::duration<double>(now - setup_.begin).count();
  tally.last_answer = std::max(tally.last_answer, at);
  if (at >= options_.warmup && (requests_ > 0 || at <= options_.seconds)) {
    ++tally.measured_right;
    if (!refusal) tally.measured_items += static_cast<std::uint64_t>(request.items);
  }
  if (refusal || planned.intended < setup_.begin + seconds_of(options_.warmup)) return;
  tally.samples.push_back({milliseconds(now - planned.intended), milliseconds(now - sent), request.kind});
}

}  // namespace tandem::loadtest
