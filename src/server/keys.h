// API keys: who may ask, and how often. Only their SHA-256 is kept.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/telemetry.h"

namespace tandem::server {

using Digest = std::array<unsigned char, 32>;

/// SHA-256 of some bytes. Throws internal where the library fails.
Digest sha256(std::string_view bytes);

/// So many requests a minute: a bucket that is full at first and fills evenly. Thread-safe.
class Quota {
 public:
  explicit Quota(int per_minute) : per_minute_(per_minute), left_(per_minute) {}
  /// Takes one; else how many seconds until there is one again.
  std::optional<double> take(std::chrono::steady_clock::time_point now);
  int per_minute() const noexcept { return per_minute_; }

 private:
  const int per_minute_;
  std::mutex mutex_;
  double left_;
  std::chrono::steady_clock::time_point filled_{};
};

class ApiKey {
 public:
  std::string name;
  Digest digest{};
  std::shared_ptr<Quota> quota;  ///< null: without limit
  std::shared_ptr<telemetry::KeyCounters> counters;
};

/// A key file as it was read. Immutable.
class KeyRing {
 public:
  /// Lines "NAME SHA256-IN-HEX [REQUESTS-A-MINUTE]", "#" begins a comment. Throws io_error, or bad_data naming the
  /// line. A key that `before` has with the same digest and quota keeps what it has left.
  static std::shared_ptr<const KeyRing> read(const std::string& path, telemetry::Telemetry& telemetry,
                                             const KeyRing* before = nullptr);

  /// The key with this secret. Every key is compared, each in constant time.
  std::shared_ptr<const ApiKey> find(std::string_view secret) const;
  std::size_t size() const noexcept { return keys_.size(); }

 private:
  std::vector<std::shared_ptr<const ApiKey>> keys_;
};

}  // namespace tandem::server
