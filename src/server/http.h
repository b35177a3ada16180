// Connections: HTTP/1.1 over TCP, from bytes to Calls and from Answers to bytes. The only user of Boost.
#pragma once

#include <memory>

#include "server/service.h"

namespace tandem::server {

/// Reads requests within the limits and time limits of ServerOptions, hands them to dispatch() and writes the
/// answers. One coroutine a connection; the I/O threads only move bytes and parse small bodies.
class Http {
 public:
  /// `service` must outlive this.
  Http(const ServerOptions& options, Service& service);
  ~Http();  ///< stop()

  /// Listens and starts the I/O threads. Throws invalid_argument or io_error.
  void start();
  int port() const noexcept;
  /// Takes no new connection, closes the resting ones, and the others after their answer.
  void drain();
  /// Waits until no connection is left; false when it took longer.
  bool wait(double seconds);
  /// Withdraws the work of every connection.
  void withdraw();
  /// Reads the certificates again. Throws bad_data where they cannot be used: the old ones stay.
  void reload();
  /// Closes everything and ends the threads. No reply may be outstanding.
  void stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::server
