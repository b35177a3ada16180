// One client: requests in, answers out, within the limits and time limits of ServerOptions.
#pragma once

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <memory>
#include <optional>
#include <string>

#include "server/operation.h"
#include "server/service.h"
#include "server/stream.h"
#include "server/tls.h"

namespace tandem::server {

/// What all connections have in common.
struct Shared {
  const ServerOptions& options;
  Service& service;
  std::unique_ptr<Tls> tls = {};  ///< null: plain HTTP
  std::atomic<bool> draining{false};
};

/// Everything runs on the socket's strand. Whoever spawns talk() or turn_away() holds the connection until it ends.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(boost::asio::ip::tcp::socket socket, Shared& shared)
      : stream_(std::move(socket), shared.tls ? shared.tls->context() : nullptr), shared_(shared) {}

  auto executor() { return stream_.get_executor(); }

  /// Request after request, until the client leaves, is too slow, or the server drains.
  boost::asio::awaitable<void> talk();
  /// Says that there are too many connections.
  boost::asio::awaitable<void> turn_away();

  void close();
  void close_if_resting();  ///< between two requests
  void withdraw();          ///< sets the cancel flag of the request being answered

 private:
  static constexpr std::size_t kBufferBytes = 64 << 10;  // of what arrives ahead, and of chunks
  static constexpr std::size_t kSlowestBytesPerSecond = 16 << 10;
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;
  using Buffer = boost::beast::flat_buffer;
  struct Pending;

  boost::asio::awaitable<bool> exchange(Buffer& buffer);
  boost::asio::awaitable<std::optional<Answer>> read_body(Buffer& buffer, Parser& parser, Call& call, bool& whole);
  boost::asio::awaitable<bool> receive(Buffer& buffer, Parser& parser);
  boost::asio::awaitable<std::optional<Answer>> receive_chunks(Buffer& buffer, Parser& parser, Call& call);
  /// Gives the next bytes time, for all that it is since `begin` and for those that moved.
  void expect_bytes(std::chrono::steady_clock::time_point begin, std::size_t moved);
  boost::asio::awaitable<Answer> answer_of(CallPtr call);
  boost::asio::awaitable<bool> write(std::string head, std::string_view body);
  boost::asio::awaitable<void> linger(Buffer& buffer);
  void watch(const std::shared_ptr<Pending>& pending, const CancelFlag& cancel);
  void watch_reset(const std::shared_ptr<Pending>& pending, const CancelFlag& cancel);
  int state();
  void watch_tls(const std::shared_ptr<Pending>& pending, const CancelFlag& cancel);
  boost::asio::awaitable<void> talk_on(Buffer& buffer);

  Stream stream_;
  Shared& shared_;
  bool resting_ = false;
  std::size_t ahead_ = 0;  // letters of the answer that were sent before the rest was known
  CancelFlag cancel_;      // of the request being answered
  std::string client_;     // its address
};

}  // namespace tandem::server
