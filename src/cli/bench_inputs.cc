#include "cli/bench_inputs.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "base/strings.h"
#include "embed/safetensors_writer.h"
#include "model/files.h"

namespace tandem::cli {
namespace {

using Pixels = std::vector<std::uint8_t>;

std::string shape_text(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) text += cat(i > 0 ? ", " : "", shape[i]);
  return text + "]";
}

ImageInput as_image(std::shared_ptr<const Pixels> pixels, int side) {
  return HostPixels{std::move(pixels), side, side};
}

std::vector<ImageInput> read_images(const ConstView& view, int side) {
  const bool last = view.shape.rank() == 4 && view.shape[3] == 3 && view.shape[1] == side && view.shape[2] == side;
  const bool first = view.shape.rank() == 4 && view.shape[1] == 3 && view.shape[2] == side && view.shape[3] == side;
  if (view.dtype != DType::u8 || (!last && !first)) {
    throw Error(Code::bad_data, cat("pixels have shape ", shape_text(view.shape), ": uint8 [N, ", side, ", ", side,
                                    ", 3] or [N, 3, ", side, ", ", side, "] was expected"));
  }
  const auto area = static_cast<std::size_t>(side) * static_cast<std::size_t>(side);
  std::vector<ImageInput> out;
  for (std::int64_t n = 0; n < view.shape[0]; ++n) {
    const auto* source = reinterpret_cast<const std::uint8_t*>(view.data) + static_cast<std::size_t>(n) * area * 3;
    auto pixels = std::make_shared<Pixels>(source, source + area * 3);
    if (!last) {
      for (std::size_t i = 0; i < area; ++i) {
        for (std::size_t c = 0; c < 3; ++c) (*pixels)[i * 3 + c] = source[c * area + i];
      }
    }
    out.push_back(as_image(std::move(pixels), side));
  }
  return out;
}

// Integers of either width, range checked.
std::vector<std::int32_t> integers(const ConstView& view, const std::string& name, int rank) {
  if (view.shape.rank() != rank || (view.dtype != DType::i32 && view.dtype != DType::i64)) {
    throw Error(Code::bad_data,
                cat(name, " has shape ", shape_text(view.shape), ": int32 or int64 of rank ", rank, " was expected"));
  }
  std::vector<std::int32_t> out(static_cast<std::size_t>(view.shape.elements()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    std::int64_t value = 0;
    if (view.dtype == DType::i32) {
      std::int32_t narrow = 0;
      std::memcpy(&narrow, view.data + i * sizeof narrow, sizeof narrow);
      value = narrow;
    } else {
      std::memcpy(&value, view.data + i * sizeof value, sizeof value);
    }
    if (value < 0 || value > INT32_MAX)
      throw Error(Code::bad_data, cat(name, " holds ", value, ", which is no token id"));
    out[i] = static_cast<std::int32_t>(value);
  }
  return out;
}

std::vector<TextInput> read_texts(const ConstView& view, const std::vector<std::int32_t>& lengths,
                                  std::int32_t end_id) {
  const auto ids = integers(view, "input_ids", 2);
  const auto rows = static_cast<std::size_t>(view.shape[0]), columns = static_cast<std::size_t>(view.shape[1]);
  if (!lengths.empty() && lengths.size() != rows) {
    throw Error(Code::bad_data, cat("lengths holds ", lengths.size(), " values for ", rows, " rows of input_ids"));
  }
  std::vector<TextInput> out;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(r * columns);
    auto end = begin + static_cast<std::ptrdiff_t>(columns);
    if (!lengths.empty()) {
      if (lengths[r] < 1 || static_cast<std::size_t>(lengths[r]) > columns) {
        throw Error(Code::bad_data, cat("length ", lengths[r], " of text ", r, " is not within 1 and ", columns));
      }
      end = begin + lengths[r];
    } else if (const auto found = std::find(begin + (columns > 0 ? 1 : 0), end, end_id); found != end) {
      end = found + 1;
    }
    out.emplace_back(std::vector<std::int32_t>(begin, end));
  }
  return out;
}

void write_vectors(embed::SafetensorsWriter& file, const char* name, const std::vector<Embedding>& vectors) {
  if (vectors.empty()) return;
  const std::size_t dim = vectors.front().values.size();
  for (const auto& v : vectors) file.append(std::as_bytes(std::span(v.values)));
  file.describe(name, "F32", {vectors.size(), dim});
}

void write_texts(embed::SafetensorsWriter& file, const std::vector<TextInput>& texts) {
  if (texts.empty()) return;
  std::size_t longest = 0;
  std::vector<std::int32_t> lengths;
  for (const auto& text : texts) {
    const auto& ids = std::get<std::vector<std::int32_t>>(text);
    longest = std::max(longest, ids.size());
    lengths.push_back(static_cast<std::int32_t>(ids.size()));
  }
  for (const auto& text : texts) {
    auto ids = std::get<std::vector<std::int32_t>>(text);
    ids.resize(longest, ids.back());
    file.append(std::as_bytes(std::span(ids)));
  }
  file.describe("input_ids", "I32", {texts.size(), longest});
  file.append(std::as_bytes(std::span(lengths)));
  file.describe("lengths", "I32", {texts.size()});
}

}  // namespace

std::vector<ImageInput> random_images(std::size_t count, int side) {
  std::mt19937_64 random(1);
  std::vector<ImageInput> out;
  for (std::size_t n = 0; n < count; ++n) {
    auto pixels = std::make_shared<Pixels>(static_cast<std::size_t>(side) * static_cast<std::size_t>(side) * 3);
    for (std::size_t i = 0; i < pixels->size(); i += 8) {
      const std::uint64_t bits = random();
      std::memcpy(pixels->data() + i, &bits, std::min<std::size_t>(8, pixels->size() - i));
    }
    out.push_back(as_image(std::move(pixels), side));
  }
  return out;
}

std::vector<TextInput> random_texts(std::size_t count, const std::vector<int>& lengths,
                                    const model::TextConfig& config) {
  std::mt19937 random(2);
  // Below both special ids where these are the last, as in CLIP's own vocabulary: the pooled row is then the last in
  // either rule.
  const std::int32_t below = std::min(config.start_id, config.end_id);
  std::uniform_int_distribution<std::int32_t> word(0, (below > 1 ? below : config.vocab_size) - 1);
  std::vector<TextInput> out;
  for (std::size_t n = 0; n < count; ++n) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(lengths[n % lengths.size()]));
    for (auto& id : ids) {
      do id = word(random);
      while (id == config.end_id || id == config.start_id);
    }
    ids.front() = config.start_id;
    ids.back() = config.end_id;
    out.emplace_back(std::move(ids));
  }
  return out;
}

BenchInputs read_inputs(const std::string& path, const model::Config& config) {
  const auto file = model::open_safetensors({path});
  BenchInputs inputs;
  if (file->find("pixels")) inputs.images = read_images(file->get("pixels"), config.vision.image_size);
  if (file->find("input_ids")) {
    std::vector<std::int32_t> lengths;
    if (file->find("lengths")) lengths = integers(file->get("lengths"), "lengths", 1);
    inputs.texts = read_texts(file->get("input_ids"), lengths, config.text.end_id);
  }
  if (inputs.images.empty() && inputs.texts.empty()) {
    throw Error(Code::bad_data, cat(path, " holds neither pixels nor input_ids with at least one row"));
  }
  return inputs;
}

void write_outputs(const std::string& path, const std::vector<Embedding>& images, const std::vector<Embedding>& texts,
                   const BenchInputs* inputs) {
  std::size_t room = 0;
  for (const char* name : {"image_embeds", "text_embeds", "input_ids", "lengths", "pixels"}) {
    room += embed::SafetensorsWriter::entry_room(name, 4);
  }
  embed::SafetensorsWriter file(path, {{"format", "pt"}}, room);
  write_vectors(file, "image_embeds", images);
  write_vectors(file, "text_embeds", texts);
  if (inputs != nullptr) {
    write_texts(file, inputs->texts);
    for (const auto& image : inputs->images) file.append(std::as_bytes(std::span(*std::get<HostPixels>(image).pixels)));
    if (!inputs->images.empty()) {
      const auto side = static_cast<std::uint64_t>(std::get<HostPixels>(inputs->images.front()).width);
      file.describe("pixels", "U8", {inputs->images.size(), side, side, 3});
    }
  }
  file.close();
  file.commit();
}

}  // namespace tandem::cli
