// Finding and reading a model's files. `open_model` reads configuration only; weights are opened when asked for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "tensor/tensor.h"

namespace tandem::model {

/// Tensors by name, from a checkpoint file (or several), mapped, or generated. Thread-safe.
class WeightSource {
 public:
  virtual ~WeightSource() = default;
  struct Info {
    DType dtype;
    Shape shape;
  };
  virtual std::vector<std::string> names() const = 0;
  virtual std::optional<Info> find(std::string_view name) const = 0;
  /// A dense host view, valid until release(name) or the source's end. Throws bad_data (named) when it is missing.
  virtual ConstView get(std::string_view name) = 0;
  /// The tensor will not be read again: its pages may leave memory.
  virtual void release(std::string_view name) = 0;
  /// A short hex digest that identifies the contents (headers, sizes and sampled bytes: cheap for large files).
  virtual std::string hash() const = 0;
};

/// Maps safetensors files (several: shards). Throws not_found, bad_data.
std::unique_ptr<WeightSource> open_safetensors(const std::vector<std::filesystem::path>& files);
/// A restricted reader of torch's zip archives: rebuilds tensors, refuses every other object by name, executes nothing.
std::unique_ptr<WeightSource> open_torch_archive(const std::vector<std::filesystem::path>& files);

/// A model that was found: its configuration, and how to get at its weights and tokenizer.
struct ModelFiles {
  Config config;
  std::filesystem::path folder;              ///< empty for random models
  std::filesystem::path tokenizer;           ///< folder or file for text::load_tokenizer; empty when none was found
  std::string tokenizer_help;                ///< when empty: what to put where
  Reference reference = Reference::hf_fast;  ///< this layout's default
  Cleaning cleaning = Cleaning::hf;
  bool knows_photographs = true;  ///< false for the bundled demo model
  std::function<std::unique_ptr<WeightSource>()> open_weights;
};

/// folder: Hugging Face or OpenCLIP layout, already resolved from a name. Throws not_found, bad_data, unsupported.
ModelFiles open_folder(const std::filesystem::path& folder);
/// "ViT-B-32", …: published shapes with seeded random weights, made in memory, in parallel.
ModelFiles open_random(std::string_view architecture, std::uint64_t seed);
std::vector<std::string_view> random_architectures();

/// What text::load_tokenizer() needs to know about a model. `automatic` cleaning is the layout's default.
text::TokenizerOptions tokenizer_options(const ModelFiles& files, Cleaning cleaning);

}  // namespace tandem::model
