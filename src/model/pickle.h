// A restricted reader of Python pickles: enough for what torch.save writes for a state dict, and nothing that could run
// code. Globals are names that are compared, never looked up; only the calls listed in pickle.cc are understood, each
// rebuilt here as data. Everything else is refused by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tandem::model::pickle {

/// One object. Containers point at other nodes of the same Document, perhaps in circles: never walk them without bound.
struct Node {
  enum class Kind : std::uint8_t {
    none,
    boolean,
    integer,
    real,
    text,
    tuple,
    list,
    dict,
    global,
    storage,
    tensor,
    mark
  };
  Kind kind = Kind::none;
  std::int64_t integer = 0;  ///< boolean, integer; storage: elements; tensor: first element
  double real = 0;
  std::string_view text;                         ///< text; global: "torch._utils _rebuild_tensor_v2"; storage: its key
  std::string_view type;                         ///< storage: "FloatStorage"; tensor: the dtype's name, or empty
  std::vector<Node*> items;                      ///< tuple, list
  std::vector<std::pair<Node*, Node*>> members;  ///< dict, in the order of the file
  const Node* storage = nullptr;                 ///< tensor
  std::vector<std::int64_t> sizes, strides;      ///< tensor
};

/// What a pickle holds. Nodes view the pickle's bytes, which must outlive them.
class Document {
 public:
  Node* make(Node::Kind kind) {
    nodes_.emplace_back();
    nodes_.back().kind = kind;
    return &nodes_.back();
  }
  /// Text that is nowhere in the bytes as it is needed.
  std::string_view keep(std::string text) { return texts_.emplace_back(std::move(text)); }
  const Node* root = nullptr;

 private:
  std::deque<Node> nodes_;  // stable addresses
  std::deque<std::string> texts_;
};

/// Reads one pickle (protocols 2 to 5, no out-of-band buffers). `file` names it in messages. Throws bad_data, and
/// unsupported naming the opcode or the object that is not allowed. Memory is linear in bytes.size().
void read(std::span<const std::byte> bytes, std::string_view file, Document& out);

}  // namespace tandem::model::pickle
