// Tensors that lie in mapped files: what the safetensors and the torch reader find, served through one WeightSource.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "model/files.h"

namespace tandem::model {

/// A tensor as a checkpoint describes it. Its bytes were checked to lie inside the file.
struct StoredTensor {
  std::string name;
  std::string dtype_name;             ///< as the file writes it, for messages
  std::optional<DType> dtype;         ///< none: a type that no model here uses
  std::vector<std::int64_t> shape;    ///< may have more dimensions than a Shape
  std::vector<std::int64_t> strides;  ///< in elements; empty: dense
  std::span<const std::byte> bytes;   ///< dense: exactly the elements; strided: from the first element on
  std::size_t file = 0;               ///< index into the source's files
};

/// The number of bytes of a dense tensor. Throws bad_data naming the tensor for negative dimensions and overflow.
std::size_t checked_bytes(const std::string& name, std::span<const std::int64_t> shape, std::size_t element_size);

/// "F32 [3, 4]", for messages.
std::string describe(const StoredTensor& tensor);

class FileSource final : public WeightSource {
 public:
  /// Throws bad_data when two files hold a tensor of the same name.
  FileSource(std::vector<MappedFile> files, std::vector<StoredTensor> tensors);

  std::vector<std::string> names() const override;
  std::optional<Info> find(std::string_view name) const override;
  ConstView get(std::string_view name) override;
  void release(std::string_view name) override;
  std::string hash() const override;

 private:
  const StoredTensor& at(std::string_view name) const;

  std::vector<MappedFile> files_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::mutex mutex_;
  std::map<std::string, Tensor, std::less<>> copies_;  ///< of tensors that cannot be viewed where they lie
};

/// The tensors of one safetensors file's bytes. `file` names it in messages. Throws bad_data.
std::vector<StoredTensor> read_safetensors(std::span<const std::byte> bytes, std::string_view file);

/// The tensors of one torch zip archive's bytes (the state dict, or what stands under "state_dict"). Throws bad_data,
/// and unsupported for objects that are not tensors or plain containers, by name.
std::vector<StoredTensor> read_torch_archive(std::span<const std::byte> bytes, std::string_view file);

/// All tensors of these files, as one of the readers above finds them in each. Throws what it throws, not_found and
/// io_error.
std::unique_ptr<WeightSource> open_mapped(const std::vector<std::filesystem::path>& files,
                                          std::vector<StoredTensor> (*read)(std::span<const std::byte> bytes,
                                                                            std::string_view file));

}  // namespace tandem::model
