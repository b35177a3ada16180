// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of header length, a JSON header
// {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {…}}, then the tensors without gaps.
#include <algorithm>
#include <bit>
#include <cstring>

#include "base/strings.h"
#include "model/file_source.h"
#include "model/json.h"
#include "tandem/error.h"

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian and read in place");

namespace tandem::model {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the reference implementation's own limit

struct StoredType {
  std::string_view name;
  std::size_t size;
  std::optional<DType> dtype;
};
constexpr StoredType kTypes[] = {
    {"F32", 4, DType::f32},      {"F16", 2, DType::f16},    {"BF16", 2, DType::bf16},     {"F8_E4M3", 1, DType::f8e4m3},
    {"I8", 1, DType::i8},        {"U8", 1, DType::u8},      {"I32", 4, DType::i32},       {"I64", 8, DType::i64},
    {"F64", 8, std::nullopt},    {"U16", 2, std::nullopt},  {"I16", 2, std::nullopt},     {"U32", 4, std::nullopt},
    {"U64", 8, std::nullopt},    {"BOOL", 1, std::nullopt}, {"F8_E5M2", 1, std::nullopt}, {"C64", 8, std::nullopt},
    {"F8_E8M0", 1, std::nullopt}};

const StoredType* find_type(std::string_view name) {
  const auto* found = std::ranges::find(kTypes, name, &StoredType::name);
  return found == std::end(kTypes) ? nullptr : found;
}

std::uint64_t offset(const Json& value, const std::string& what) {
  if (!value.is_number_unsigned()) throw Error(Code::bad_data, cat(what, ": ", show(value), " is not an offset"));
  return value.get<std::uint64_t>();
}

}  // namespace

std::vector<StoredTensor> read_safetensors(std::span<const std::byte> bytes, std::string_view file) {
  if (bytes.size() < 8) {
    throw Error(Code::bad_data, cat(file, ": ", bytes.size(), " bytes, too short for a safetensors file"));
  }
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), 8);
  if (header_size > kMaxHeader) {
    throw Error(Code::bad_data, cat(file, ": the header claims ", header_size, " bytes: not a safetensors file"));
  }
  if (header_size > bytes.size() - 8) {
    throw Error(Code::bad_data, cat(file, ": truncated: the header has ", header_size, " bytes, the file only ",
                                    bytes.size() - 8, " after its length"));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_size);
  const std::span<const std::byte> data = bytes.subspan(8 + header_size);
  const Json header = parse_json_object(text, cat(file, " (header)"));

  struct Placed {
    std::uint64_t begin, end;
    std::string_view name;
  };
  std::vector<Placed> placed;
  std::vector<StoredTensor> out;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const std::string what = cat(file, ": tensor ", name);
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets") ||
        !entry["dtype"].is_string() || !entry["shape"].is_array() || !entry["data_offsets"].is_array() ||
        entry["data_offsets"].size() != 2) {
      throw Error(Code::bad_data, cat(what, ": expected dtype, shape and data_offsets, found ", show(entry)));
    }
    StoredTensor tensor;
    tensor.name = name;
    tensor.dtype_name = entry["dtype"].get<std::string>();
    const StoredType* type = find_type(tensor.dtype_name);
    if (type == nullptr) throw Error(Code::bad_data, cat(what, ": unknown type ", show(entry["dtype"])));
    tensor.dtype = type->dtype;
    for (const Json& d : entry["shape"]) {
      if (!d.is_number_unsigned() || d.get<std::uint64_t>() > (std::uint64_t{1} << 62)) {
        throw Error(Code::bad_data, cat(what, ": ", show(entry["shape"]), " is not a shape"));
      }
      tensor.shape.push_back(static_cast<std::int64_t>(d.get<std::uint64_t>()));
    }
    const std::uint64_t begin = offset(entry["data_offsets"][0], what), end = offset(entry["data_offsets"][1], what);
    const std::size_t wanted = checked_bytes(what, tensor.shape, type->size);
    if (end < begin || end - begin != wanted) {
      throw Error(Code::bad_data, cat(what, ": ", describe(tensor), " needs ", wanted, " bytes, its offsets ", begin,
                                      " to ", end, " say otherwise"));
    }
    if (end > data.size()) {
      throw Error(Code::bad_data, cat(what, ": truncated file: the tensor ends at byte ", end, " of the data, the file",
                                      " has ", data.size()));
    }
    tensor.bytes = data.subspan(begin, wanted);
    placed.push_back({begin, end, header.find(name).key()});
    out.push_back(std::move(tensor));
  }
  std::ranges::sort(
      placed, [](const Placed& a, const Placed& b) { return std::tie(a.begin, a.end) < std::tie(b.begin, b.end); });
  std::uint64_t expected = 0;
  for (const Placed& p : placed) {
    if (p.begin != expected) {
      throw Error(Code::bad_data, cat(file, ": tensor ", p.name, " begins at byte ", p.begin, " of the data, expected ",
                                      expected, ": tensors overlap or leave a gap"));
    }
    expected = p.end;
  }
  if (expected != data.size()) {
    throw Error(Code::bad_data, cat(file, ": ", data.size() - expected, " bytes after the last tensor"));
  }
  return out;
}

std::unique_ptr<WeightSource> open_safetensors(const std::vector<std::filesystem::path>& files) {
  return open_mapped(files, read_safetensors);
}

}  // namespace tandem::model
