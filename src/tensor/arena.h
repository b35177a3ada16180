// A bump allocator over one buffer, for the activations of one batch. A forward pass takes from it and allocates
// nothing. Made without memory it only measures: the same code that takes plans the size.
#pragma once

#include <algorithm>
#include <cstddef>

#include "base/strings.h"
#include "tandem/error.h"
#include "tensor/tensor.h"

namespace tandem {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 256;

  /// Measures only: views taken from it have no memory and must not be used.
  Arena() = default;
  explicit Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

  /// The next free bytes for a tensor. Throws internal when the plan was too small: a bug in the planner.
  View take(DType type, Shape shape) {
    const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * size_of(type);
    const std::size_t begin = used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    peak_ = std::max(peak_, used_);
    if (buffer_.data() == nullptr) return {nullptr, type, shape};
    if (used_ > buffer_.bytes()) {
      throw Error(Code::internal, cat("arena of ", buffer_.bytes(), " bytes is too small for ", used_));
    }
    return {buffer_.data() + begin, type, shape};
  }

  std::size_t peak() const noexcept { return peak_; }
  std::size_t capacity() const noexcept { return buffer_.bytes(); }

  /// Gives back, on leaving a block, what was taken inside it.
  class Scope {
   public:
    explicit Scope(Arena& arena) : arena_(arena), mark_(arena.used_) {}
    ~Scope() { arena_.used_ = mark_; }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t mark_;
  };

 private:
  Buffer buffer_;
  std::size_t used_ = 0, peak_ = 0;
};

}  // namespace tandem
