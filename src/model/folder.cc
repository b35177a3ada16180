// A model's folder: which layout it has, which files hold its weights, where its tokenizer is.
#include <algorithm>
#include <set>

#include "base/strings.h"
#include "model/files.h"
#include "model/readers.h"
#include "tandem/error.h"
#include "text/tokenizer.h"

namespace tandem::model {
namespace {

namespace fs = std::filesystem;

bool is_file(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored);
}

/// The files that an index names, and a source over all of them. Every tensor of the index must be there.
std::unique_ptr<WeightSource> open_sharded(const fs::path& index) {
  const Json json = read_json_object(index);
  const auto map = json.find("weight_map");
  if (map == json.end() || !map->is_object() || map->empty()) {
    throw Error(Code::bad_data, cat(index.string(), ": no weight_map; expected {\"weight_map\": {TENSOR: FILE}}"));
  }
  std::set<fs::path> files;
  bool safetensors = true;
  for (const auto& [tensor, file] : map->items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos) {
      throw Error(Code::bad_data, cat(index.string(), ": tensor ", tensor, " is in ", show(file),
                                      "; expected a file beside the index"));
    }
    safetensors = safetensors && name.ends_with(".safetensors");
    files.insert(index.parent_path() / name);
  }
  for (const fs::path& file : files) {
    if (!is_file(file))
      throw Error(Code::not_found, cat("the shard ", file.string(), " is missing; ", index.string(), " names it"));
  }
  const std::vector<fs::path> list(files.begin(), files.end());
  auto source = safetensors ? open_safetensors(list) : open_torch_archive(list);
  const std::vector<std::string> names = source->names();  // sorted
  for (const auto& [tensor, file] : map->items()) {
    if (!std::ranges::binary_search(names, tensor)) {
      throw Error(Code::bad_data,
                  cat("tensor ", tensor, " is missing from ", show(file), ", where ", index.string(), " has it"));
    }
  }
  return source;
}

std::unique_ptr<WeightSource> open_file(const fs::path& file) {
  if (file.extension() == ".json") return open_sharded(file);
  if (file.extension() == ".safetensors") return open_safetensors({file});
  return open_torch_archive({file});
}

// The order in which transformers and open_clip look.
constexpr std::string_view kHuggingFaceWeights[] = {"model.safetensors", "model.safetensors.index.json",
                                                    "pytorch_model.bin", "pytorch_model.bin.index.json"};
constexpr std::string_view kOpenClipWeights[] = {"open_clip_model.safetensors", "open_clip_pytorch_model.safetensors",
                                                 "open_clip_pytorch_model.bin", "open_clip_pytorch_model.pth",
                                                 "model.safetensors",           "pytorch_model.bin",
                                                 "pytorch_model.pth",           "model.pth"};

template <class List>
fs::path first_of(const fs::path& folder, const List& names) {
  for (const std::string_view name : names) {
    if (is_file(folder / name)) return folder / name;
  }
  return {};
}

/// open_clip falls back to any checkpoint, safetensors before others, each in the order of their names.
fs::path any_checkpoint(const fs::path& folder) {
  std::vector<std::pair<int, fs::path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path extension = entry.path().extension();
    if (extension == ".safetensors") found.emplace_back(0, entry.path());
    if (extension == ".bin" || extension == ".pth") found.emplace_back(1, entry.path());
  }
  return found.empty() ? fs::path{} : std::ranges::min(found).second;
}

template <class List>
[[noreturn]] void no_weights(const fs::path& folder, const List& names) {
  std::string list;
  for (const std::string_view name : names) list += cat(list.empty() ? "" : ", ", name);
  std::string other;
  for (const std::string_view name : {"tf_model.h5", "flax_model.msgpack"}) {
    if (is_file(folder / name)) other = cat("; ", name, " is not read");
  }
  throw Error(Code::not_found, cat("no weights in ", folder.string(), ": looked for ", list, other,
                                   "; fetch the rest of the model (`hf download ORG/NAME`) or give another folder"));
}

void find_tokenizer(ModelFiles& files) {
  if (text::has_tokenizer(files.folder)) {
    files.tokenizer = files.folder;
    return;
  }
  files.tokenizer_help =
      cat("no tokenizer in ", files.folder.string(), ": put vocab.json and merges.txt, tokenizer.json or ",
          "bpe_simple_vocab_16e6.txt.gz there, or name them with --vocab");
}

/// config.json's own processor file, as transformers looks for it.
PreprocessConfig find_preprocess(const fs::path& folder, int image_size) {
  if (const fs::path nested = folder / "processor_config.json"; is_file(nested)) {
    const Json json = read_json_object(nested);
    if (const auto found = json.find("image_processor"); found != json.end()) {
      if (!found->is_object()) {
        throw Error(Code::bad_data,
                    cat(nested.string(), ": image_processor is ", show(*found), "; expected an object"));
      }
      return read_preprocess_config(*found, nested.string() + ": image_processor", image_size);
    }
  }
  if (const fs::path plain = folder / "preprocessor_config.json"; is_file(plain)) {
    return read_preprocess_config(read_json_object(plain), plain.string(), image_size);
  }
  return default_preprocess(image_size);
}

ModelFiles open_huggingface(const fs::path& folder, const Json& json) {
  ModelFiles files;
  files.folder = folder;
  files.config = read_huggingface_config(json, (folder / "config.json").string());
  files.config.preprocess = find_preprocess(folder, files.config.vision.image_size);
  files.reference = Reference::hf_fast;
  files.cleaning = Cleaning::hf;
  files.open_weights = [folder] {
    const fs::path file = first_of(folder, kHuggingFaceWeights);
    if (file.empty()) no_weights(folder, kHuggingFaceWeights);
    return open_file(file);
  };
  return files;
}

ModelFiles open_openclip(const fs::path& folder) {
  ModelFiles files;
  files.folder = folder;
  const fs::path config = folder / "open_clip_config.json";
  files.config = read_openclip_config(read_json_object(config), config.string());
  files.reference = Reference::openai;
  files.cleaning = Cleaning::openai;
  files.open_weights = [folder] {
    fs::path file = first_of(folder, kOpenClipWeights);
    if (file.empty()) file = any_checkpoint(folder);
    if (file.empty()) no_weights(folder, kOpenClipWeights);
    return open_file(file);
  };
  return files;
}

bool is_clip(const Json& config) {
  return config.contains("model_type") && config["model_type"] == "clip";
}

}  // namespace

ModelFiles open_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw Error(Code::not_found, cat(folder.string(), " is not a folder; give the folder that holds config.json"));
  }
  const bool openclip = is_file(folder / "open_clip_config.json");
  ModelFiles files;
  if (is_file(folder / "config.json")) {
    const Json json = read_json_object(folder / "config.json");
    // Some repositories carry both layouts; what was fetched of them may hold the weights of one only.
    const bool prefer_openclip = openclip && (!is_clip(json) || first_of(folder, kHuggingFaceWeights).empty());
    files = prefer_openclip ? open_openclip(folder) : open_huggingface(folder, json);
  } else if (openclip) {
    files = open_openclip(folder);
  } else {
    throw Error(Code::not_found, cat("no model in ", folder.string(),
                                     ": expected config.json (Hugging Face) or open_clip_config.json (OpenCLIP)"));
  }
  files.config.name = folder.string();
  find_tokenizer(files);
  return files;
}

}  // namespace tandem::model
