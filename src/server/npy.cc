#include "server/npy.h"

#include <charconv>
#include <limits>

#include "base/strings.h"
#include "server/message.h"

namespace tandem::server {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
constexpr std::size_t kMaxHead = 4096;

[[noreturn]] void broken(const std::string& why) {
  throw Error(Code::bad_data, cat("npy body: ", why, "; send numpy.save() of an array uint8 N x height x width x 3"));
}

std::size_t byte_of(std::string_view text, std::size_t at) {
  return static_cast<unsigned char>(text[at]);
}

/// What stands behind 'name': in the head's dictionary, up to the comma that ends it; brackets hold commas together.
std::string_view entry(std::string_view head, std::string_view name) {
  std::size_t at = head.find(cat("'", name, "'"));
  if (at == std::string_view::npos) at = head.find(cat("\"", name, "\""));
  if (at == std::string_view::npos) broken(cat("its head has no \"", name, "\""));
  at = head.find(':', at);
  if (at == std::string_view::npos) broken("its head is cut off");
  std::size_t end = ++at;
  for (bool inside = false; end < head.size() && (inside || (head[end] != ',' && head[end] != '}')); ++end) {
    if (head[end] == '(') inside = true;
    if (head[end] == ')') inside = false;
  }
  std::string_view value = head.substr(at, end - at);
  while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
  while (!value.empty() && value.back() == ' ') value.remove_suffix(1);
  return value;
}

std::vector<std::size_t> shape_of(std::string_view text) {
  std::vector<std::size_t> shape;
  if (text.size() < 2 || text.front() != '(' || text.back() != ')') broken("its shape is no list of numbers");
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    while (!text.empty() && (text.front() == ' ' || text.front() == ',')) text.remove_prefix(1);
    if (text.empty()) break;
    std::size_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number > std::numeric_limits<int>::max()) broken("its shape is no list of numbers");
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    shape.push_back(number);
  }
  return shape;
}

}  // namespace

std::vector<HostPixels> pixels_of_npy(const std::shared_ptr<const std::string>& body, int max_items) {
  const std::string_view text = *body;
  if (text.size() < 10 || !text.starts_with(kMagic)) broken("it does not begin as one");
  const std::size_t version = byte_of(text, 6), wide = version == 1 ? 2 : 4;
  if (version < 1 || version > 3 || text.size() < 8 + wide) broken(cat("version ", version, " is not known"));
  std::size_t length = 0;
  for (std::size_t i = wide; i-- > 0;) length = length << 8 | byte_of(text, 8 + i);
  if (length > kMaxHead || text.size() < 8 + wide + length) broken(cat("its head has ", length, " bytes"));
  const std::string_view head = text.substr(8 + wide, length), pixels = text.substr(8 + wide + length);

  const std::string_view type = entry(head, "descr");
  // Of one byte each, so that no order of bytes matters.
  const bool quoted = type.size() > 2 && (type.front() == '\'' || type.front() == '"') && type.back() == type.front();
  std::string_view plain = quoted ? type.substr(1, type.size() - 2) : std::string_view();
  if (!plain.empty() && std::string_view("|<>=").find(plain.front()) != std::string_view::npos) plain.remove_prefix(1);
  if (plain != "u1") {
    throw Error(Code::unsupported, cat("npy body: its values are ", type.substr(0, 32),
                                       ", and only uint8 is read: send pixels.astype(numpy.uint8)"));
  }
  std::vector<std::size_t> shape = shape_of(entry(head, "shape"));
  if (entry(head, "fortran_order") != "False") {
    throw Error(Code::unsupported, "npy body: it is in Fortran order: send numpy.ascontiguousarray(pixels)");
  }
  if (shape.size() == 3) shape.insert(shape.begin(), 1);
  if (shape.size() != 4 || shape[3] != 3 || shape[0] == 0 || shape[1] == 0 || shape[2] == 0) {
    throw Error(Code::invalid_argument,
                cat("npy body: its shape is ", entry(head, "shape").substr(0, 64), ", not N x height x width x 3"));
  }
  if (shape[0] > static_cast<std::size_t>(max_items)) {
    throw Error(Code::too_large, cat(shape[0], " images; the limit is ", max_items, " in one request"));
  }
  const std::size_t row = shape[2] * 3;
  if (shape[1] > pixels.size() / row || pixels.size() / (shape[1] * row) < shape[0] ||
      pixels.size() != shape[0] * shape[1] * row) {
    broken(cat("its shape ", entry(head, "shape").substr(0, 64), " does not fit its ", pixels.size(), " bytes"));
  }
  const std::size_t each = shape[1] * row;
  const auto* first = reinterpret_cast<const std::uint8_t*>(pixels.data());
  std::vector<HostPixels> out(shape[0]);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i].shared = std::shared_ptr<const std::uint8_t>(body, first + i * each);
    out[i].width = static_cast<int>(shape[2]);
    out[i].height = static_cast<int>(shape[1]);
  }
  return out;
}

std::string npy_head(std::size_t rows, std::size_t columns, bool half) {
  std::string dictionary =
      cat("{'descr': '", half ? "<f2" : "<f4", "', 'fortran_order': False, 'shape': (", rows, ", ", columns, "), }");
  constexpr std::size_t kAlign = 64, kBefore = 10;
  dictionary.append(kAlign - (kBefore + dictionary.size() + 1) % kAlign, ' ');
  dictionary += '\n';
  std::string head(kMagic);
  head += '\1';
  head += '\0';
  head += static_cast<char>(dictionary.size() & 0xff);
  head += static_cast<char>(dictionary.size() >> 8);
  return head + dictionary;
}

}  // namespace tandem::server
