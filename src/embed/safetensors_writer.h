// A safetensors file written from front to back, while how many tensors or rows it will have is not known yet.
// Format: https://github.com/huggingface/safetensors (8 bytes length, JSON header, tensors without gaps).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "embed/output_file.h"

namespace tandem::embed {

/// Room for the header is kept at the front and filled in at the end; what is left of it is spaces, as the format
/// allows. Tensors' bytes are appended in the order in which they are described.
class SafetensorsWriter {
 public:
  /// No tensor can have this name: the format's own.
  static constexpr std::string_view kReservedName = "__metadata__";

  /// metadata: strings for __metadata__. room: bytes that the entries may take together, see entry_room().
  SafetensorsWriter(const std::string& path, const std::map<std::string, std::string>& metadata, std::size_t room);

  /// The most bytes that the header's entry of a tensor with this name and rank takes.
  static std::size_t entry_room(std::string_view name, std::size_t rank);

  /// Bytes of the tensor that describe() will name next; may be called many times.
  void append(std::span<const std::byte> bytes) { file_.append(bytes); }
  /// Ends a tensor: dtype "F32", "I32", "U8", …; shape's product times the type's size must be the bytes appended
  /// since the last call, and the name not kReservedName. Throws internal otherwise, or when the room does not suffice.
  void describe(std::string_view name, std::string_view dtype, const std::vector<std::uint64_t>& shape);
  /// Writes the header; nothing can be added afterwards.
  void close();
  /// Moves the closed file to its name.
  void commit() { file_.commit(); }

 private:
  OutputFile file_;
  std::string header_;       // without the closing brace
  std::size_t room_ = 0;     // bytes of the header on disk
  std::uint64_t begin_ = 0;  // of the tensor being appended, from the first tensor's first byte
};

}  // namespace tandem::embed
