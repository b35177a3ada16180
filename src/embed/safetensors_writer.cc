#include "embed/safetensors_writer.h"

#include <numeric>

#include "base/strings.h"
#include "embed/json_text.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

constexpr std::size_t kMaxDigits = 20;  // of a 64-bit number

std::uint64_t bytes_of(std::string_view dtype) {
  if (dtype == "U8" || dtype == "I8" || dtype == "F8_E4M3") return 1;
  if (dtype == "F16" || dtype == "BF16" || dtype == "I16") return 2;
  if (dtype == "F32" || dtype == "I32") return 4;
  if (dtype == "F64" || dtype == "I64") return 8;
  throw Error(Code::internal, cat("no safetensors type ", dtype));
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::map<std::string, std::string>& metadata,
                                     std::size_t room)
    : file_(path), header_("{\"__metadata__\":{") {
  bool first = true;
  for (const auto& [key, value] : metadata) {
    if (!first) header_ += ',';
    first = false;
    append_json(header_, key);
    header_ += ':';
    append_json(header_, value);
  }
  header_ += '}';
  // A multiple of 8, so that the tensors that follow are aligned when the file is mapped.
  room_ = (header_.size() + room + 1 + 7) / 8 * 8;
  file_.append(std::string(8 + room_, ' '));
}

std::size_t SafetensorsWriter::entry_room(std::string_view name, std::size_t rank) {
  std::string quoted;
  append_json(quoted, name);
  return quoted.size() + std::string_view(R"(,:{"dtype":"BF16","shape":[],"data_offsets":[,]})").size() +
         (rank + 2) * (kMaxDigits + 1);
}

void SafetensorsWriter::describe(std::string_view name, std::string_view dtype,
                                 const std::vector<std::uint64_t>& shape) {
  if (name == kReservedName) throw Error(Code::internal, cat("no tensor can be named ", name));
  const std::uint64_t end = file_.size() - 8 - room_;
  const std::uint64_t expected =
      std::accumulate(shape.begin(), shape.end(), bytes_of(dtype), [](auto a, auto b) { return a * b; });
  if (end - begin_ != expected) {
    throw Error(Code::internal, cat("tensor ", name, ": ", end - begin_, " bytes written, ", expected, " described"));
  }
  header_ += ',';
  append_json(header_, name);
  header_ += cat(":{\"dtype\":\"", dtype, "\",\"shape\":[");
  for (std::size_t i = 0; i < shape.size(); ++i) header_ += cat(i > 0 ? "," : "", shape[i]);
  header_ += cat("],\"data_offsets\":[", begin_, ",", end, "]}");
  begin_ = end;
}

void SafetensorsWriter::close() {
  header_ += '}';
  if (header_.size() > room_) throw Error(Code::internal, cat("the header of ", file_.path(), " outgrew its room"));
  header_.resize(room_, ' ');
  std::string length(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(static_cast<std::uint64_t>(room_) >> (8 * i));
  file_.patch(0, length + header_);
  file_.sync();
}

}  // namespace tandem::embed
