// A client's bytes, over TCP as they are or through TLS: the two look alike from here on.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <memory>
#include <optional>
#include <utility>

namespace tandem::server {

/// What Beast calls an AsyncStream, with a tcp_stream's time limits.
class Stream {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;

  /// tls: null for plain TCP.
  Stream(boost::asio::ip::tcp::socket socket, std::shared_ptr<boost::asio::ssl::context> tls)
      : tcp_(std::move(socket)), context_(std::move(tls)) {
    if (context_) tls_.emplace(tcp_, *context_);
  }

  executor_type get_executor() noexcept { return tcp_.get_executor(); }
  auto& socket() { return tcp_.socket(); }
  bool is_tls() const noexcept { return tls_.has_value(); }

  template <class Time>
  void expires_after(Time time) {
    tcp_.expires_after(time);
  }
  template <class Time>
  void expires_at(Time time) {
    tcp_.expires_at(time);
  }
  void expires_never() { tcp_.expires_never(); }
  void close() { tcp_.close(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    return tls_ ? tls_->async_read_some(buffers, std::forward<Token>(token))
                : tcp_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    return tls_ ? tls_->async_write_some(buffers, std::forward<Token>(token))
                : tcp_.async_write_some(buffers, std::forward<Token>(token));
  }

  /// TLS's beginning; false where the client does not speak it. Nothing on plain TCP.
  boost::asio::awaitable<bool> begin() {
    boost::system::error_code error;
    if (tls_) {
      co_await tls_->async_handshake(boost::asio::ssl::stream_base::server,
                                     boost::asio::redirect_error(boost::asio::use_awaitable, error));
    }
    co_return !error;
  }
  /// TLS's end, so that the client knows that nothing was cut off.
  boost::asio::awaitable<void> end() {
    boost::system::error_code ignored;
    if (tls_ && tcp_.socket().is_open()) {
      co_await tls_->async_shutdown(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    }
  }

 private:
  boost::beast::tcp_stream tcp_;
  std::shared_ptr<boost::asio::ssl::context> context_;
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
};

}  // namespace tandem::server
