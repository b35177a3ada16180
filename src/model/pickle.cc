// Opcodes after Lib/pickletools.py of CPython; the calls after torch/_utils.py and torch/serialization.py.
#include "model/pickle.h"

#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::model::pickle {
namespace {

using Kind = Node::Kind;

/// A state dict of a thousand tensors takes 0.2 MB; every byte may cost a node in memory.
constexpr std::size_t kMaxBytes = std::size_t{16} << 20;

/// Names that may stand in a pickle: called below, or as the type of a storage or a tensor.
constexpr std::array kCalls = {std::string_view("collections OrderedDict"),
                               std::string_view("torch._utils _rebuild_tensor_v2"),
                               std::string_view("torch._utils _rebuild_tensor_v3"),
                               std::string_view("torch._utils _rebuild_parameter"), std::string_view("torch Size")};
constexpr std::array kTypes = {std::string_view("torch FloatStorage"),
                               std::string_view("torch HalfStorage"),
                               std::string_view("torch BFloat16Storage"),
                               std::string_view("torch DoubleStorage"),
                               std::string_view("torch LongStorage"),
                               std::string_view("torch IntStorage"),
                               std::string_view("torch ShortStorage"),
                               std::string_view("torch CharStorage"),
                               std::string_view("torch ByteStorage"),
                               std::string_view("torch BoolStorage"),
                               std::string_view("torch.storage UntypedStorage"),
                               std::string_view("torch float32"),
                               std::string_view("torch float16"),
                               std::string_view("torch bfloat16"),
                               std::string_view("torch float64"),
                               std::string_view("torch int64"),
                               std::string_view("torch int32"),
                               std::string_view("torch int16"),
                               std::string_view("torch int8"),
                               std::string_view("torch uint8"),
                               std::string_view("torch bool"),
                               std::string_view("torch float8_e4m3fn"),
                               std::string_view("torch float8_e5m2")};

template <class List>
bool contains(const List& list, std::string_view name) {
  for (const std::string_view one : list) {
    if (one == name) return true;
  }
  return false;
}

std::string dotted(std::string_view global) {
  std::string out(global);
  if (const auto space = out.find(' '); space != std::string::npos) out[space] = '.';
  return out;
}

class Machine {
 public:
  Machine(std::span<const std::byte> bytes, std::string_view file, Document& out)
      : bytes_(bytes), file_(file), out_(out) {}

  void run() {
    for (;;) {
      const auto op = number<std::uint8_t>();
      if (op == '.') break;  // STOP
      step(op);
    }
    out_.root = pop();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Code::bad_data, cat(file_, ": broken pickle at byte ", at_, ": ", what));
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(Code::unsupported, cat(file_, ": ", what, " is not read from checkpoints, which may hold tensors and ",
                                       "plain containers only; save the state dict alone, best as safetensors"));
  }

  // The bytes.
  std::span<const std::byte> take(std::uint64_t size) {
    if (size > bytes_.size() - at_) fail(cat("truncated: ", size, " bytes wanted, ", bytes_.size() - at_, " left"));
    at_ += size;
    return bytes_.subspan(at_ - size, size);
  }
  template <class T>
  T number() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view text(std::uint64_t size) {
    const auto part = take(size);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::string_view line() {
    const std::size_t begin = at_;
    while (number<char>() != '\n') {
    }
    return {reinterpret_cast<const char*>(bytes_.data()) + begin, at_ - begin - 1};
  }

  // The stack.
  Node* push(Node* node) {
    stack_.push_back(node);
    return node;
  }
  Node* make(Kind kind) { return push(out_.make(kind)); }
  Node* pop() {
    if (stack_.empty()) fail("the stack is empty");
    Node* node = stack_.back();
    stack_.pop_back();
    if (node->kind == Kind::mark) fail("a mark where an object should be");
    return node;
  }
  Node* top(Kind kind, std::string_view what) {
    if (stack_.empty() || stack_.back()->kind != kind) fail(cat("expected ", what));
    return stack_.back();
  }
  std::vector<Node*> pop_to_mark() {
    std::size_t i = stack_.size();
    while (i > 0 && stack_[i - 1]->kind != Kind::mark) --i;
    if (i == 0) fail("no mark on the stack");
    std::vector<Node*> out(stack_.begin() + static_cast<std::ptrdiff_t>(i), stack_.end());
    stack_.resize(i - 1);
    return out;
  }
  void tuple(std::size_t count) {
    std::vector<Node*> items(count);
    for (std::size_t i = count; i-- > 0;) items[i] = pop();
    make(Kind::tuple)->items = std::move(items);
  }
  void set(Node* dict, const std::vector<Node*>& pairs) {
    if (pairs.size() % 2 != 0) fail("a key without a value");
    for (std::size_t i = 0; i < pairs.size(); i += 2) dict->members.emplace_back(pairs[i], pairs[i + 1]);
  }
  void integer(std::int64_t value, Kind kind = Kind::integer) { make(kind)->integer = value; }
  void long_integer(std::uint64_t size) {  // little-endian two's complement
    const auto part = take(size);
    if (size > 8) refuse(cat("an integer of ", size, " bytes"));
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint64_t>(part[i]) << (8 * i);
    if (size > 0 && size < 8 && (std::to_integer<unsigned>(part[size - 1]) & 0x80u) != 0)
      value |= ~std::uint64_t{0} << (8 * size);
    integer(static_cast<std::int64_t>(value));
  }
  void remember(std::uint64_t key) {
    if (stack_.empty()) fail("nothing to remember");
    memo_[key] = stack_.back();
  }
  void recall(std::uint64_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) fail(cat("memo ", key, " was never stored"));
    push(found->second);
  }
  void global(std::string_view module, std::string_view name) {
    const std::string full = cat(module, " ", name);
    if (!contains(kCalls, full) && !contains(kTypes, full)) refuse(cat("the object ", dotted(full)));
    make(Kind::global)->text = out_.keep(full);
  }

  void step(std::uint8_t op);
  void persistent();
  void reduce();
  void build();
  void rebuild_tensor(const std::vector<Node*>& args, bool typed);
  std::vector<std::int64_t> integers(const Node& node, std::string_view what);

  std::span<const std::byte> bytes_;
  std::string_view file_;
  Document& out_;
  std::size_t at_ = 0;
  std::vector<Node*> stack_;
  std::unordered_map<std::uint64_t, Node*> memo_;
};

void Machine::step(std::uint8_t op) {
  switch (op) {
    case 0x80:  // PROTO
      if (const auto version = number<std::uint8_t>(); version > 5) refuse(cat("pickle protocol ", int{version}));
      break;
    case 0x95: number<std::uint64_t>(); break;  // FRAME: only a hint for readers of streams
    case '(': make(Kind::mark); break;
    case '0': pop(); break;
    case 'N': make(Kind::none); break;
    case 0x88: integer(1, Kind::boolean); break;  // NEWTRUE
    case 0x89: integer(0, Kind::boolean); break;  // NEWFALSE
    case 'J': integer(number<std::int32_t>()); break;
    case 'K': integer(number<std::uint8_t>()); break;
    case 'M': integer(number<std::uint16_t>()); break;
    case 0x8a: long_integer(number<std::uint8_t>()); break;
    case 'G': {  // BINFLOAT is big-endian
      const auto bits = __builtin_bswap64(number<std::uint64_t>());
      make(Kind::real)->real = std::bit_cast<double>(bits);
      break;
    }
    case 'X': make(Kind::text)->text = text(number<std::uint32_t>()); break;
    case 0x8c: make(Kind::text)->text = text(number<std::uint8_t>()); break;
    case 0x8d: make(Kind::text)->text = text(number<std::uint64_t>()); break;
    case 'U': make(Kind::text)->text = text(number<std::uint8_t>()); break;  // SHORT_BINSTRING, from Python 2
    case ')': make(Kind::tuple); break;
    case 0x85: tuple(1); break;
    case 0x86: tuple(2); break;
    case 0x87: tuple(3); break;
    case 't': {
      auto items = pop_to_mark();
      make(Kind::tuple)->items = std::move(items);
      break;
    }
    case ']': make(Kind::list); break;
    case 'a': {
      Node* item = pop();
      top(Kind::list, "a list")->items.push_back(item);
      break;
    }
    case 'e': {
      const auto items = pop_to_mark();
      auto& list = top(Kind::list, "a list")->items;
      list.insert(list.end(), items.begin(), items.end());
      break;
    }
    case '}': make(Kind::dict); break;
    case 's': {
      Node* value = pop();
      Node* key = pop();
      set(top(Kind::dict, "a dict"), {key, value});
      break;
    }
    case 'u': {
      const auto pairs = pop_to_mark();
      set(top(Kind::dict, "a dict"), pairs);
      break;
    }
    case 'q': remember(number<std::uint8_t>()); break;
    case 'r': remember(number<std::uint32_t>()); break;
    case 0x94: remember(memo_.size()); break;
    case 'h': recall(number<std::uint8_t>()); break;
    case 'j': recall(number<std::uint32_t>()); break;
    case 'c': {
      const std::string_view module = line();
      global(module, line());
      break;
    }
    case 0x93: {  // STACK_GLOBAL
      const Node* name = pop();
      const Node* module = pop();
      if (name->kind != Kind::text || module->kind != Kind::text) fail("a global without a name");
      global(module->text, name->text);
      break;
    }
    case 'Q': persistent(); break;
    case 'R': reduce(); break;
    case 'b': build(); break;
    default: refuse(cat("pickle opcode ", int{op}, op > 32 && op < 127 ? cat(" ('", static_cast<char>(op), "')") : ""));
  }
}

/// A storage: ("storage", type, key, device, elements).
void Machine::persistent() {
  const Node* id = pop();
  const auto& items = id->items;
  if (id->kind != Kind::tuple || items.size() != 5 || items[0]->kind != Kind::text || items[0]->text != "storage" ||
      items[1]->kind != Kind::global || items[2]->kind != Kind::text || items[4]->kind != Kind::integer) {
    refuse("a persistent object that is not a storage");
  }
  if (!contains(kTypes, items[1]->text)) refuse(cat("a storage of type ", dotted(items[1]->text)));
  Node* storage = make(Kind::storage);
  storage->type = items[1]->text.substr(items[1]->text.rfind(' ') + 1);
  storage->text = items[2]->text;
  storage->integer = items[4]->integer;
}

void Machine::reduce() {
  const Node* args = pop();
  const Node* callee = pop();
  if (callee->kind != Kind::global || args->kind != Kind::tuple) fail("a call of something that is not a name");
  const std::string_view name = callee->text;
  const auto& a = args->items;
  if (name == "collections OrderedDict") {
    if (!a.empty()) refuse("an OrderedDict made from arguments");
    make(Kind::dict);
  } else if (name == "torch._utils _rebuild_tensor_v2") {
    if (a.size() < 6) fail("_rebuild_tensor_v2 with too few arguments");
    rebuild_tensor(a, false);
  } else if (name == "torch._utils _rebuild_tensor_v3") {
    if (a.size() < 7) fail("_rebuild_tensor_v3 with too few arguments");
    rebuild_tensor(a, true);
  } else if (name == "torch._utils _rebuild_parameter") {
    if (a.empty() || a[0]->kind != Kind::tensor) fail("_rebuild_parameter without a tensor");
    push(a[0]);
  } else if (name == "torch Size") {
    if (a.size() != 1 || (a[0]->kind != Kind::tuple && a[0]->kind != Kind::list)) fail("torch.Size without sizes");
    push(a[0]);
  } else {
    refuse(cat("a call of ", dotted(name)));
  }
}

/// State that torch hangs on containers (_metadata) has no bearing on tensors.
void Machine::build() {
  const Node* state = pop();
  if (state->kind != Kind::dict) refuse("an object's state that is not a dict");
  if (stack_.empty() || stack_.back()->kind != Kind::dict) refuse("state set on something else than an OrderedDict");
}

std::vector<std::int64_t> Machine::integers(const Node& node, std::string_view what) {
  if (node.kind != Kind::tuple && node.kind != Kind::list) fail(cat(what, " are not a tuple"));
  std::vector<std::int64_t> out;
  for (const Node* item : node.items) {
    if (item->kind != Kind::integer || item->integer < 0) fail(cat(what, " are not all integers from 0 on"));
    out.push_back(item->integer);
  }
  return out;
}

/// (storage, storage_offset, size, stride, requires_grad, backward_hooks[, dtype, metadata]).
void Machine::rebuild_tensor(const std::vector<Node*>& args, bool typed) {
  if (args[0]->kind != Kind::storage) fail("a tensor without a storage");
  if (args[1]->kind != Kind::integer || args[1]->integer < 0) fail("a tensor without an offset");
  constexpr std::size_t kMaxRank = 8;
  if (args[2]->items.size() > kMaxRank) fail(cat("a tensor of ", args[2]->items.size(), " dimensions"));
  Node* tensor = make(Kind::tensor);
  tensor->storage = args[0];
  tensor->integer = args[1]->integer;
  tensor->sizes = integers(*args[2], "a tensor's sizes");
  tensor->strides = integers(*args[3], "a tensor's strides");
  if (tensor->sizes.size() != tensor->strides.size()) fail("a tensor with other sizes than strides");
  if (typed) {
    if (args[6]->kind != Kind::global || !contains(kTypes, args[6]->text)) fail("a tensor without a type");
    tensor->type = args[6]->text.substr(args[6]->text.rfind(' ') + 1);
  }
}

}  // namespace

void read(std::span<const std::byte> bytes, std::string_view file, Document& out) {
  if (bytes.size() > kMaxBytes) {
    throw Error(Code::too_large,
                cat(file, ": its pickle has ", bytes.size(), " bytes; up to ", kMaxBytes, " are read"));
  }
  Machine(bytes, file, out).run();
}

}  // namespace tandem::model::pickle
