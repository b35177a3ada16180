#include "model/file_source.h"

#include <cstring>

#include "base/strings.h"
#include "model/digest.h"
#include "tandem/error.h"

namespace tandem::model {
namespace {

Shape to_shape(const StoredTensor& tensor) {
  const auto& s = tensor.shape;
  switch (s.size()) {
    case 0: return {};
    case 1: return {s[0]};
    case 2: return {s[0], s[1]};
    case 3: return {s[0], s[1], s[2]};
    case 4: return {s[0], s[1], s[2], s[3]};
    default:
      throw Error(Code::unsupported, cat("tensor ", tensor.name, " has ", s.size(), " dimensions; at most 4 are read"));
  }
}

DType dtype_of(const StoredTensor& tensor) {
  if (tensor.dtype) return *tensor.dtype;
  throw Error(Code::unsupported, cat("tensor ", tensor.name, " is stored as ", tensor.dtype_name,
                                     "; convert the checkpoint to F32, F16 or BF16"));
}

/// Copies a strided tensor element by element; strides were checked against the bytes.
Tensor gather(const StoredTensor& tensor) {
  const DType dtype = dtype_of(tensor);
  const Shape shape = to_shape(tensor);
  Tensor out = host_tensor(dtype, shape);
  const std::size_t size = size_of(dtype);
  std::vector<std::int64_t> index(tensor.shape.size(), 0);
  std::byte* to = out.view().data;
  std::int64_t offset = 0;
  for (std::int64_t n = shape.elements(); n > 0; --n) {
    std::memcpy(to, tensor.bytes.data() + static_cast<std::size_t>(offset) * size, size);
    to += size;
    for (std::size_t d = index.size(); d-- > 0;) {  // the next index, and its offset, without multiplying anew
      offset += tensor.strides[d];
      if (++index[d] < tensor.shape[d]) break;
      offset -= index[d] * tensor.strides[d];
      index[d] = 0;
    }
  }
  return out;
}

}  // namespace

std::size_t checked_bytes(const std::string& name, std::span<const std::int64_t> shape, std::size_t element_size) {
  std::size_t bytes = element_size;
  bool empty = false;
  for (const std::int64_t d : shape) {
    if (d < 0) throw Error(Code::bad_data, cat("tensor ", name, " has the dimension ", d));
    if (d == 0) empty = true;
  }
  if (empty) return 0;
  for (const std::int64_t d : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(d), &bytes) || bytes > (std::size_t{1} << 62)) {
      throw Error(Code::bad_data, cat("tensor ", name, " has more elements than memory can hold"));
    }
  }
  return bytes;
}

std::string describe(const StoredTensor& tensor) {
  std::string out = tensor.dtype_name + " [";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) out += cat(i == 0 ? "" : ", ", tensor.shape[i]);
  return out + "]";
}

FileSource::FileSource(std::vector<MappedFile> files, std::vector<StoredTensor> tensors) : files_(std::move(files)) {
  for (StoredTensor& tensor : tensors) {
    const std::string name = tensor.name;
    const std::size_t file = tensor.file;
    const auto [at, added] = tensors_.emplace(name, std::move(tensor));
    if (!added) {
      throw Error(Code::bad_data, cat("tensor ", name, " is in both ", files_[at->second.file].path().string(), " and ",
                                      files_[file].path().string()));
    }
  }
}

std::vector<std::string> FileSource::names() const {
  std::vector<std::string> out;
  out.reserve(tensors_.size());
  for (const auto& [name, tensor] : tensors_) out.push_back(name);
  return out;
}

std::optional<WeightSource::Info> FileSource::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return std::nullopt;
  return Info{dtype_of(found->second), to_shape(found->second)};
}

const StoredTensor& FileSource::at(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw Error(Code::bad_data, cat("tensor ", name, " is not in the checkpoint"));
  return found->second;
}

ConstView FileSource::get(std::string_view name) {
  const StoredTensor& tensor = at(name);
  const DType dtype = dtype_of(tensor);
  const Shape shape = to_shape(tensor);
  const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % size_of(dtype) == 0;
  if (tensor.strides.empty() && aligned) return {tensor.bytes.data(), dtype, shape};

  const std::scoped_lock lock(mutex_);
  const auto kept = copies_.find(name);
  if (kept != copies_.end()) return kept->second.view();
  Tensor copy;
  if (tensor.strides.empty()) {  // safetensors does not promise that tensors begin where their type wants
    copy = host_tensor(dtype, shape);
    if (!tensor.bytes.empty()) std::memcpy(copy.view().data, tensor.bytes.data(), tensor.bytes.size());
  } else {
    copy = gather(tensor);
  }
  return copies_.emplace(tensor.name, std::move(copy)).first->second.view();
}

void FileSource::release(std::string_view name) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return;
  files_[found->second.file].release(found->second.bytes);
  const std::scoped_lock lock(mutex_);
  const auto kept = copies_.find(name);
  if (kept != copies_.end()) copies_.erase(kept);
}

std::string FileSource::hash() const {
  Digest digest;
  for (const auto& [name, tensor] : tensors_) {
    digest.add(std::as_bytes(std::span(name)));
    digest.add(std::as_bytes(std::span(tensor.dtype_name)));
    for (const std::int64_t d : tensor.shape) digest.add(static_cast<std::uint64_t>(d));
  }
  for (const MappedFile& file : files_) {
    digest.add_sampled(file.bytes());
    file.release(file.bytes());
  }
  return digest.hex();
}

std::unique_ptr<WeightSource> open_mapped(const std::vector<std::filesystem::path>& files,
                                          std::vector<StoredTensor> (*read)(std::span<const std::byte> bytes,
                                                                            std::string_view file)) {
  std::vector<MappedFile> mapped;
  std::vector<StoredTensor> tensors;
  for (const std::filesystem::path& file : files) {
    mapped.emplace_back(file);
    for (StoredTensor& tensor : read(mapped.back().bytes(), file.string())) {
      tensor.file = mapped.size() - 1;
      tensors.push_back(std::move(tensor));
    }
  }
  return std::make_unique<FileSource>(std::move(mapped), std::move(tensors));
}

}  // namespace tandem::model
