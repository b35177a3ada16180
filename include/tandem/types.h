// Small value types of the public API and their names on the command line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {

/// Type in which the linear layers compute. LayerNorm statistics, softmax, final norm, projection and logits are
/// float32 in every precision. `automatic` is the device's choice, and never gives up accuracy unasked: fp32 on a
/// processor.
enum class Precision : std::uint8_t { automatic, fp32, tf32, fp16, bf16, int8, fp8 };

/// Which vector of a tower is wanted: `projected` lies in the joint space that CLIP compares (embed_dim values),
/// `pooled` is the tower's own normalised state before the projection (vision or text width).
enum class Feature : std::uint8_t { projected, pooled };

/// Whose image arithmetic is reproduced bit for bit. `automatic`: hf_fast for Hugging Face folders, openai for
/// OpenCLIP.
enum class Reference : std::uint8_t {
  automatic,
  hf,       ///< Pillow's resize, crop offset rounded down (transformers' PIL image processor)
  openai,   ///< Pillow's resize, torchvision's rounded crop offset (open_clip)
  hf_fast,  ///< torchvision's uint8 resize with antialias (transformers' default since version 5)
};

/// Whether the EXIF orientation of a picture turns it before anything else.
enum class Exif : std::uint8_t { apply, ignore };

/// How a text is cleaned before byte-pair encoding. `automatic`: hf for Hugging Face folders, openai for OpenCLIP.
enum class Cleaning : std::uint8_t {
  automatic,
  hf,      ///< transformers' CLIPTokenizer
  openai,  ///< open_clip's SimpleTokenizer with ftfy
};

/// Where a model runs.
struct DeviceId {
  enum class Kind : std::uint8_t { automatic, cpu, cuda, reference } kind = Kind::automatic;
  int index = 0;  ///< of the GPU; 0 otherwise
  friend bool operator==(const DeviceId&, const DeviceId&) = default;
};

/// "fp32", "bf16", … and back; parse_ functions throw invalid_argument naming the value and the choices.
std::string_view to_string(Precision) noexcept;
std::string_view to_string(Feature) noexcept;
std::string_view to_string(Reference) noexcept;
std::string_view to_string(Exif) noexcept;
std::string_view to_string(Cleaning) noexcept;
std::string to_string(DeviceId);
Precision parse_precision(std::string_view);
Feature parse_feature(std::string_view);
Reference parse_reference(std::string_view);
Exif parse_exif(std::string_view);
Cleaning parse_cleaning(std::string_view);
/// "auto", "cpu", "cuda", "cuda:N", "reference" (plain loops, for tests).
DeviceId parse_device(std::string_view);

}  // namespace tandem
