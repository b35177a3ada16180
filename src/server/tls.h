// Certificates: read when the server starts, and again when it is told that they are new.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>
#include <mutex>
#include <string>

namespace tandem::server {

/// Thread-safe.
class Tls {
 public:
  /// PEM files: the certificate with its chain, and the key. Throws bad_data naming the file that cannot be used.
  Tls(std::string certificate, std::string key);

  /// For a new connection; those that are open keep theirs.
  std::shared_ptr<boost::asio::ssl::context> context() const;
  /// Reads both files again. Throws as the constructor; the old ones are used on.
  void reload();

 private:
  std::shared_ptr<boost::asio::ssl::context> read() const;

  const std::string certificate_, key_;
  mutable std::mutex mutex_;
  std::shared_ptr<boost::asio::ssl::context> context_;
};

}  // namespace tandem::server
