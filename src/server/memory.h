// The bytes that all requests together may take: bodies, what parsing them needs, and answers until they are written.
#pragma once

#include <atomic>
#include <cstddef>

namespace tandem::server {

/// Counts; allocates nothing. Thread-safe.
class MemoryLimit {
 public:
  explicit MemoryLimit(std::size_t bytes) : limit_(bytes) {}

  /// False, and nothing is taken, when less is left.
  bool take(std::size_t bytes) noexcept;
  /// Takes what exists already, beyond the limit if need be: the next take() is then refused.
  void take_anyway(std::size_t bytes) noexcept { used_ += bytes; }
  void give_back(std::size_t bytes) noexcept { used_ -= bytes; }

  std::size_t limit() const noexcept { return limit_; }
  std::size_t used() const noexcept { return used_; }

 private:
  const std::size_t limit_;
  std::atomic<std::size_t> used_{0};
};

/// The part of one request, given back when it ends. Thread-safe.
class Reservation {
 public:
  explicit Reservation(MemoryLimit& limit) noexcept : limit_(limit) {}
  ~Reservation() { limit_.give_back(held_); }
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  /// Holds `bytes` more. Throws overloaded when others hold too much just now, too_large when the limit itself is
  /// smaller; `what` begins the message: "the body".
  void add(std::size_t bytes, const char* what);
  /// Holds at least `bytes` in all; throws as add() does.
  void hold(std::size_t bytes, const char* what);
  /// Holds exactly `bytes`, which exist already: never refused.
  void set(std::size_t bytes) noexcept;
  void give_back(std::size_t bytes) noexcept;

 private:
  MemoryLimit& limit_;
  std::atomic<std::size_t> held_{0};
};

/// Holds more for as long as it lives.
class Extra {
 public:
  Extra(Reservation& reservation, std::size_t bytes, const char* what) : reservation_(reservation), bytes_(bytes) {
    reservation_.add(bytes, what);
  }
  ~Extra() { reservation_.give_back(bytes_); }
  Extra(const Extra&) = delete;
  Extra& operator=(const Extra&) = delete;

 private:
  Reservation& reservation_;
  const std::size_t bytes_;
};

}  // namespace tandem::server
