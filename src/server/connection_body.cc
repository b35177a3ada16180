// How a connection reads the body of a request.
#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/read.hpp>

#include "server/connection.h"
#include "server/http_text.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kStepBytes = 256 << 10;  // of a body: what a core's own cache holds beside its work
constexpr std::size_t kPadding = 64;           // behind a body, for the JSON parser

}  // namespace

/// The rest of a body; an answer when it is refused. When the client leaves or is too slow, no answer comes and the
/// body is not `whole`.
asio::awaitable<std::optional<Answer>> Connection::read_body(Buffer& buffer, Parser& parser, Call& call, bool& whole) {
  const auto length = parser.content_length();
  try {
    if (length) call.memory.hold(static_cast<std::size_t>(*length), "the body");
    if (parser.get().count(http::field::expect) > 0 && parser.get().version() == 11)
      co_await write("HTTP/1.1 100 Continue\r\n\r\n", {});
    if (length) {
      whole = co_await receive(buffer, parser);
      co_return std::nullopt;
    }
    const auto refused = co_await receive_chunks(buffer, parser, call);
    whole = parser.is_done();
    co_return refused;
  } catch (...) {  // no room for it
    co_return answer_to_current_exception();
  }
}

/// A body of known length, read to where it stays: Beast's parser would take it in pieces of its buffer and copy it.
asio::awaitable<bool> Connection::receive(Buffer& buffer, Parser& parser) {
  std::string& body = parser.get().body();
  const auto length = static_cast<std::size_t>(*parser.content_length());
  body = shared_.service.bodies()->take(length + kPadding);
  std::size_t received = std::min(length, buffer.size());
  body.assign(static_cast<const char*>(buffer.data().data()), received);
  buffer.consume(received);
  const auto begin = Clock::now();
  error_code error;
  while (received < length) {
    // Making room writes zeros, which are still in the cache when the bytes come.
    if (received == body.size()) body.resize(received + std::min(kStepBytes, length - received));
    expect_bytes(begin, received);
    received += co_await stream_.async_read_some(asio::buffer(body.data() + received, body.size() - received),
                                                 asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;
  }
  co_return true;
}

/// A body whose length only its end tells.
asio::awaitable<std::optional<Answer>> Connection::receive_chunks(Buffer& buffer, Parser& parser, Call& call) {
  std::string& body = parser.get().body();
  parser.eager(true);
  buffer.reserve(kBufferBytes);  // which is also as much as is read at a time
  const auto begin = Clock::now();
  error_code error;
  while (!parser.is_done()) {
    expect_bytes(begin, body.size());
    co_await http::async_read_some(stream_, buffer, parser, asio::redirect_error(asio::use_awaitable, error));
    if (error == http::error::need_more) error = {};
    if (error && error.category() == http::make_error_code(http::error::body_limit).category() &&
        error != http::error::partial_message && error != http::error::end_of_stream) {
      co_return answer_to_bad_request(error, shared_.options.max_body_bytes);
    }
    if (error) co_return std::nullopt;
    call.memory.hold(body.size(), "the body");
  }
  if (body.capacity() - body.size() < kPadding) body.reserve(body.size() + kPadding);
  co_return std::nullopt;
}

}  // namespace tandem::server
