// torch.save's zip archives (torch 1.6 and later): NAME/data.pkl describes, NAME/data/KEY holds each storage's bytes.
#include <algorithm>
#include <cstring>

#include "base/strings.h"
#include "model/file_source.h"
#include "model/pickle.h"
#include "model/zip.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

using pickle::Node;

struct ElementType {
  std::string_view storage, torch_dtype, name;
  std::size_t size;
  std::optional<DType> dtype;
};
constexpr ElementType kTypes[] = {{"FloatStorage", "float32", "F32", 4, DType::f32},
                                  {"HalfStorage", "float16", "F16", 2, DType::f16},
                                  {"BFloat16Storage", "bfloat16", "BF16", 2, DType::bf16},
                                  {"DoubleStorage", "float64", "F64", 8, std::nullopt},
                                  {"LongStorage", "int64", "I64", 8, DType::i64},
                                  {"IntStorage", "int32", "I32", 4, DType::i32},
                                  {"ShortStorage", "int16", "I16", 2, std::nullopt},
                                  {"CharStorage", "int8", "I8", 1, DType::i8},
                                  {"ByteStorage", "uint8", "U8", 1, DType::u8},
                                  {"BoolStorage", "bool", "BOOL", 1, std::nullopt},
                                  {"", "float8_e4m3fn", "F8_E4M3", 1, DType::f8e4m3},
                                  {"", "float8_e5m2", "F8_E5M2", 1, std::nullopt}};

const ElementType* element_type(const Node& tensor) {
  for (const ElementType& t : kTypes) {
    if (tensor.type.empty() ? t.storage == tensor.storage->type : t.torch_dtype == tensor.type) return &t;
  }
  return nullptr;
}

bool dense(const Node& tensor) {
  std::int64_t expected = 1;
  for (std::size_t d = tensor.sizes.size(); d-- > 0;) {
    if (tensor.sizes[d] != 1 && tensor.strides[d] != expected) return false;
    expected *= tensor.sizes[d];
  }
  return true;
}

void refuse_packed(const ZipArchive& archive, const std::string& name, std::string_view file) {
  if (archive.packed.contains(name)) {
    throw Error(Code::unsupported,
                cat(file, ": entry ", name, " is compressed or encrypted; torch.save stores plainly"));
  }
}

bool describes(std::string_view name) {
  return name == "data.pkl" || (name.ends_with("/data.pkl") && std::ranges::count(name, '/') == 1);
}

StoredTensor place(const std::string& name, const Node& tensor, const ZipArchive& archive, const std::string& folder,
                   std::string_view file) {
  const std::string what = cat(file, ": tensor ", name);
  const ElementType* type = element_type(tensor);
  if (type == nullptr) {
    throw Error(Code::unsupported,
                cat(what, ": elements of type ", tensor.type.empty() ? tensor.storage->type : tensor.type));
  }
  const std::string storage = cat(folder, "data/", tensor.storage->text);
  refuse_packed(archive, storage, file);
  const auto entry = archive.entries.find(storage);
  if (entry == archive.entries.end()) {
    throw Error(Code::bad_data, cat(what, ": its storage ", tensor.storage->text, " is missing from the archive"));
  }
  StoredTensor out;
  out.name = name;
  out.dtype_name = type->name;
  out.dtype = type->dtype;
  out.shape = tensor.sizes;
  const std::size_t bytes = checked_bytes(what, tensor.sizes, type->size);
  const std::size_t available = entry->second.size();
  // The last element that is touched: offset + sum((size - 1) * stride).
  std::uint64_t last = static_cast<std::uint64_t>(tensor.integer);
  bool fits = true;
  for (std::size_t d = 0; bytes > 0 && d < tensor.sizes.size(); ++d) {
    std::uint64_t reach = 0;
    fits = fits &&
           !__builtin_mul_overflow(static_cast<std::uint64_t>(tensor.sizes[d] - 1),
                                   static_cast<std::uint64_t>(tensor.strides[d]), &reach) &&
           !__builtin_add_overflow(last, reach, &last);
  }
  fits = fits && (bytes == 0 || last < available / type->size);
  if (!fits) {
    throw Error(Code::bad_data, cat(what, ": ", describe(out), " from element ", tensor.integer,
                                    " on reaches beyond its ", "storage of ", available, " bytes"));
  }
  if (bytes == 0) return out;
  out.bytes = entry->second.subspan(static_cast<std::size_t>(tensor.integer) * type->size);
  if (dense(tensor)) {
    out.bytes = out.bytes.first(bytes);
  } else {
    // A tensor that is bigger than what it is made of repeats elements; no checkpoint needs more than a few times.
    if (bytes / 64 > available) {
      throw Error(Code::bad_data,
                  cat(what, ": ", describe(out), " is spread from a storage of only ", available, " bytes"));
    }
    out.strides = tensor.strides;
  }
  return out;
}

const Node* member(const Node& dict, std::string_view key) {
  for (const auto& [k, v] : dict.members) {
    if (k->kind == Node::Kind::text && k->text == key) return v;
  }
  return nullptr;
}

/// Files of other kinds that people have under the same names.
void refuse_other_formats(std::span<const std::byte> bytes, std::string_view file) {
  constexpr std::string_view kRemedy =
      "; convert it: python3 -c \"import torch, sys; torch.save(torch.load(sys.argv[1], map_location='cpu', "
      "weights_only=True), sys.argv[2])\" OLD NEW";
  const auto begins = [&](std::string_view magic, std::size_t at = 0) {
    return bytes.size() >= at + magic.size() && std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
  };
  if (begins("PK")) return;
  if (begins("version https://git-lfs")) {
    throw Error(Code::bad_data, cat(file, ": a git-lfs pointer, not the file itself: fetch it with `git lfs pull`"));
  }
  // Before 1.6 torch wrote bare pickles that begin with this magic number, and before 0.1.10 tar files.
  if (begins(std::string_view("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 14)) ||
      begins("ustar", 257)) {
    throw Error(Code::unsupported, cat(file, ": written by torch before 1.6, which is not read", kRemedy));
  }
  throw Error(Code::bad_data, cat(file, ": not a torch archive (no zip file), or damaged"));
}

}  // namespace

std::vector<StoredTensor> read_torch_archive(std::span<const std::byte> bytes, std::string_view file) {
  refuse_other_formats(bytes, file);
  const ZipArchive archive = read_zip(bytes, file);
  const auto& entries = archive.entries;
  for (const std::string& name : archive.packed) {
    if (describes(name)) refuse_packed(archive, name, file);
  }
  const auto described = std::ranges::find_if(entries, [](const auto& e) { return describes(e.first); });
  if (described == entries.end())
    throw Error(Code::bad_data, cat(file, ": a zip archive, but not torch's: no data.pkl"));
  const std::string folder = described->first.substr(0, described->first.size() - std::string_view("data.pkl").size());
  if (entries.contains(folder + "constants.pkl")) {
    throw Error(Code::unsupported, cat(file, ": a TorchScript program; save its state dict instead: ",
                                       "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), NEW)"));
  }
  if (const auto order = entries.find(folder + "byteorder"); order != entries.end()) {
    const std::string_view text(reinterpret_cast<const char*>(order->second.data()), order->second.size());
    if (text != "little") throw Error(Code::unsupported, cat(file, ": byte order \"", text.substr(0, 16), "\""));
  }

  pickle::Document document;
  pickle::read(described->second, file, document);
  const Node* state = document.root;
  if (state->kind == Node::Kind::dict) {
    const Node* nested = member(*state, "state_dict");
    if (nested != nullptr && nested->kind == Node::Kind::dict) state = nested;
  }
  if (state->kind != Node::Kind::dict) throw Error(Code::bad_data, cat(file, ": holds no state dict"));

  std::map<std::string_view, const Node*> tensors;
  for (const auto& [key, value] : state->members) {
    if (key->kind == Node::Kind::text && value->kind == Node::Kind::tensor) tensors[key->text] = value;
  }
  std::vector<StoredTensor> out;
  out.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) out.push_back(place(std::string(name), *tensor, archive, folder, file));
  return out;
}

std::unique_ptr<WeightSource> open_torch_archive(const std::vector<std::filesystem::path>& files) {
  return open_mapped(files, read_torch_archive);
}

}  // namespace tandem::model
