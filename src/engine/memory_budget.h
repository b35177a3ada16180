// The bytes that all Engines of one Context may take together for weights and arenas.
#pragma once

#include <cstddef>
#include <limits>
#include <mutex>
#include <string_view>
#include <utility>

namespace tandem::engine {

/// Thread-safe. It counts what is told to it and owns no memory; it must outlive its reservations.
class MemoryBudget {
 public:
  /// allowed 0: no limit; what is taken is counted all the same.
  explicit MemoryBudget(std::size_t allowed) : allowed_(allowed) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  /// Bytes taken, given back when it dies. Move-only.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept
        : budget_(std::exchange(other.budget_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Reservation& operator=(Reservation&& other) noexcept {
      std::swap(budget_, other.budget_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Reservation() {
      if (budget_ != nullptr) budget_->give_back(bytes_);
    }
    std::size_t bytes() const noexcept { return bytes_; }
    /// Takes more or gives some back. Throws as reserve(), and then keeps what it had.
    void resize(std::size_t bytes, std::string_view what);

   private:
    friend class MemoryBudget;
    Reservation(MemoryBudget* budget, std::size_t bytes) : budget_(budget), bytes_(bytes) {}
    MemoryBudget* budget_ = nullptr;
    std::size_t bytes_ = 0;
  };

  /// what: "the weights of emoji", for the message. Throws out_of_memory naming the bytes wanted, used and allowed.
  Reservation reserve(std::size_t bytes, std::string_view what);

  std::size_t allowed() const noexcept { return allowed_; }
  std::size_t used() const;
  /// What could be reserved now; without a limit, the largest number there is.
  std::size_t left() const;

 private:
  void take(std::size_t bytes, std::string_view what);
  void give_back(std::size_t bytes) noexcept;

  const std::size_t allowed_;
  mutable std::mutex mutex_;
  std::size_t used_ = 0;
};

}  // namespace tandem::engine
