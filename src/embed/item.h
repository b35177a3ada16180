// One thing to embed, and where things to embed come from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "tandem/engine.h"

namespace tandem::embed {

enum class Kind : std::uint8_t { image, text };

/// "image" or "text".
constexpr const char* kind_name(Kind kind) noexcept {
  return kind == Kind::image ? "image" : "text";
}

struct Item {
  Kind kind = Kind::image;
  std::string input;               ///< a picture's path as it is to be named in the output, or the text itself
  std::optional<ItemError> error;  ///< known to be unusable already: it is reported, not computed
};

/// Items one after the other, in the order of the output. Pulled by one thread; holds no more than it must.
class ItemSource {
 public:
  virtual ~ItemSource() = default;

  /// False at the end. An item that cannot be had is given with its error; throws only what ends the whole job.
  virtual bool next(Item& item) = 0;

  /// How many items there are in all, if that is known without reading ahead.
  virtual std::optional<std::size_t> total() const { return std::nullopt; }
};

}  // namespace tandem::embed
