// Memory of large request bodies, kept for the next ones: the system hands out fresh memory page by page, zeroed, which
// costs more than receiving the bytes.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

namespace tandem::server {

/// Thread-safe.
class Bodies {
 public:
  /// most: bytes kept in all.
  explicit Bodies(std::size_t most) : most_(most) { kept_.reserve(kMost); }

  /// Empty, with room for `bytes` at least.
  std::string take(std::size_t bytes);
  /// Of a body that nobody reads any more. Small ones are freed, and so is what is more than is kept.
  void give(std::string body) noexcept;
  /// Frees what was not wanted since the last call.
  void age() noexcept;

  std::size_t bytes() const;  ///< kept just now

 private:
  static constexpr std::size_t kMost = 64;                       ///< bodies
  static constexpr std::size_t kLeast = std::size_t{256} << 10;  ///< smaller ones the allocator keeps by itself
  static constexpr std::size_t kWaste = 4;  ///< a body gets memory of at most so many times its size

  const std::size_t most_;
  mutable std::mutex mutex_;
  std::vector<std::string> kept_;  ///< those given last are at the end, and taken first
  std::size_t bytes_ = 0;
  std::size_t idle_ = 0;  ///< at the beginning: not taken since the last age()
};

}  // namespace tandem::server
