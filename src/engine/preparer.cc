#include "engine/preparer.h"

#include <algorithm>

#include "base/strings.h"

namespace tandem::engine {
namespace {

image::Reference to_image(Reference r) {
  switch (r) {
    case Reference::hf: return image::Reference::hf;
    case Reference::openai: return image::Reference::openai;
    case Reference::hf_fast:
    case Reference::automatic: return image::Reference::hf_fast;
  }
  return image::Reference::hf_fast;
}

}  // namespace

PrepareOptions prepare_options(const EngineOptions& options, const model::ModelFiles& files) {
  PrepareOptions prepare;
  prepare.reference = options.reference == Reference::automatic ? files.reference : options.reference;
  prepare.cleaning = options.cleaning == Cleaning::automatic ? files.cleaning : options.cleaning;
  prepare.exif = options.exif;
  prepare.fast_decode = options.fast_decode;
  prepare.max_pixels = options.max_pixels;
  return prepare;
}

Preparer::Preparer(const model::ModelFiles& files, const PrepareOptions& options)
    : config_(files.config),
      fit_(files.config.preprocess.fit),
      decoder_(std::make_unique<image::CpuDecoder>()),
      tokenizer_help_(files.tokenizer_help) {
  fit_.reference = to_image(options.reference);
  decode_.exif = options.exif == Exif::apply ? image::Exif::apply : image::Exif::ignore;
  decode_.limits.max_pixels = options.max_pixels;
  decode_.dct_scaled = options.fast_decode;
  decode_.target_side = std::max(fit_.resize_height, fit_.resize_width);
  if (!files.tokenizer.empty()) {
    tokenizer_ = text::load_tokenizer(files.tokenizer, model::tokenizer_options(files, options.cleaning));
  }
}

bool Preparer::is_cheap(const ImageInput& image) const noexcept {
  if (std::holds_alternative<DevicePixels>(image)) return true;
  const auto* pixels = std::get_if<HostPixels>(&image);
  return pixels != nullptr && pixels->width == input_size() && pixels->height == input_size();
}

bool Preparer::is_cheap(const TextInput& text) noexcept {
  constexpr std::size_t kBytes = 4096;
  const auto* words = std::get_if<std::string>(&text);
  return words == nullptr || words->size() <= kBytes;
}

void Preparer::check(const DevicePixels& given) const {
  if (given.device.kind == DeviceId::Kind::automatic || given.device != device_) {
    throw Error(Code::unsupported, cat("pixels in the memory of the device ", to_string(given.device),
                                       " are not read by an engine on ", to_string(device_), ": pass HostPixels"));
  }
  if (given.pixels == nullptr || given.width != input_size() || given.height != input_size()) {
    throw Error(Code::invalid_argument,
                cat("pixels on a device must be ", input_size(), " x ", input_size(), ", got ",
                    given.pixels == nullptr ? "none" : cat(given.width, " x ", given.height), ": fit them first"));
  }
}

Prepared Preparer::prepare(const ImageInput& input) const {
  Prepared out;
  if (const auto* there = std::get_if<DevicePixels>(&input)) {
    check(*there);
    out.device_pixels = static_cast<const std::byte*>(there->pixels);
    return out;
  }
  const auto side = static_cast<std::size_t>(input_size());
  if (const auto* given = std::get_if<HostPixels>(&input)) {
    const std::size_t bytes =
        static_cast<std::size_t>(std::max(given->width, 0)) * static_cast<std::size_t>(std::max(given->height, 0)) * 3;
    const std::size_t there = given->shared ? bytes : given->pixels ? given->pixels->size() : 0;
    if (bytes == 0 || there != bytes) {
      throw Error(Code::invalid_argument, cat("pixels of a ", given->width, " x ", given->height,
                                              " picture must be width x height x 3 bytes, got ", there));
    }
    std::shared_ptr<const std::uint8_t> pixels = given->shared;
    if (!pixels) pixels = std::shared_ptr<const std::uint8_t>(given->pixels, given->pixels->data());
    out.given = {given->width, given->height};
    if (is_cheap(input)) {
      out.shared_pixels = std::move(pixels);
      return out;
    }
    out.owned_pixels.resize(side * side * 3);
    const image::HostPixels view(pixels.get(), given->width, given->height, std::int64_t{3} * given->width);
    out.fit_seconds = decoder_->decode(view, decode_, fit_, out.owned_pixels).fit_seconds;
    return out;
  }
  const auto& encoded = std::get<EncodedImage>(input);
  if (!encoded.bytes) throw Error(Code::invalid_argument, "the picture has no bytes");
  out.owned_pixels.resize(side * side * 3);
  const image::Decoded decoded = decoder_->decode(image::EncodedImage{*encoded.bytes}, decode_, fit_, out.owned_pixels);
  out.given = decoded.given, out.fit_seconds = decoded.fit_seconds;
  return out;
}

std::vector<Token> Preparer::tokenize(std::string_view text) const {
  if (!tokenizer_) throw Error(Code::not_found, tokenizer_help_);
  std::vector<Token> out;
  for (const std::int32_t id : tokenizer_->encode(text).ids) {
    const bool special = id == tokenizer_->start_id() || id == tokenizer_->end_id();
    out.push_back({id, std::string(tokenizer_->text_of(id)), special});
  }
  return out;
}

Prepared Preparer::prepare(const TextInput& input) const {
  Prepared out;
  if (const auto* words = std::get_if<std::string>(&input)) {
    if (!tokenizer_) throw Error(Code::not_found, tokenizer_help_);
    auto tokens = tokenizer_->encode(*words);
    out.ids = std::move(tokens.ids);
    out.truncated = tokens.truncated;
  } else {
    out.ids = std::get<std::vector<std::int32_t>>(input);
    if (out.ids.empty())
      throw Error(Code::invalid_argument, "a list of token ids is empty: give at least start and end");
    if (out.ids.size() > static_cast<std::size_t>(config_.text.context_length)) {
      throw Error(Code::too_large, cat(out.ids.size(), " token ids are more than the model's context of ",
                                       config_.text.context_length, ": shorten the text"));
    }
  }
  for (const auto id : out.ids) {
    if (id < 0 || id >= config_.text.vocab_size) {
      throw Error(Code::invalid_argument,
                  cat("token id ", id, " is outside the model's vocabulary of ", config_.text.vocab_size,
                      ": use the tokenizer that belongs to the model"));
    }
  }
  return out;
}

}  // namespace tandem::engine
