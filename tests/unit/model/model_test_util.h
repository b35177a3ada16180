// What the tests of the readers share: files made in memory, a folder that goes away, errors as values.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "model/files.h"
#include "tandem/error.h"

namespace tandem::model::test {

using Json = nlohmann::json;
namespace fs = std::filesystem;

inline fs::path golden(const std::string& name) {
  return fs::path(TANDEM_SOURCE_DIR) / "tests" / "golden" / name;
}

inline Json load_json(const fs::path& file) {
  std::ifstream in(file);
  EXPECT_TRUE(in) << file;
  return Json::parse(in);
}

inline std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

inline std::string read_file(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  EXPECT_TRUE(in) << file;
  return {std::istreambuf_iterator<char>(in), {}};
}

/// A folder of its own for each test, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(info->test_suite_name()) + "_" + info->name() + "_" + std::to_string(getpid());
    for (char& c : name) c = c == '/' ? '_' : c;
    path_ = fs::temp_directory_path() / ("tandem_" + name);
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TempFolder() { fs::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }

 private:
  fs::path path_;
};

/// The error that `call` throws, as "code: message"; empty when it throws none.
inline std::string error_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return std::string(code_name(e.code())) + ": " + e.what();
  }
  return "";
}

/// Expects an error of this code whose message holds every part.
inline void expect_error(const std::function<void()>& call, std::string_view code,
                         const std::vector<std::string>& parts) {
  const std::string error = error_of(call);
  EXPECT_TRUE(error.starts_with(code)) << "expected " << code << ", got: " << error;
  for (const std::string& part : parts)
    EXPECT_NE(error.find(part), std::string::npos) << part << " is not in: " << error;
  EXPECT_EQ(error.find('\n'), std::string::npos) << "more than one line: " << error;
}

/// A safetensors file: a header as given, padded as asked, and data.
inline std::string safetensors(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(out.data(), &size, 8);
  return out + header + data;
}

/// Tensors in memory under any names.
class MapSource final : public WeightSource {
 public:
  void add(const std::string& name, const Shape& shape, const std::vector<float>& values) {
    Tensor tensor = host_tensor(DType::f32, shape);
    ASSERT_EQ(static_cast<std::size_t>(shape.elements()), values.size());
    std::memcpy(tensor.view().data, values.data(), values.size() * 4);
    tensors_[name] = std::move(tensor);
  }
  void fill(const std::string& name, const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.elements()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
    add(name, shape, values);
  }
  void remove(const std::string& name) { tensors_.erase(name); }
  Tensor& at(const std::string& name) { return tensors_.at(name); }

  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    for (const auto& [name, tensor] : tensors_) out.push_back(name);
    return out;
  }
  std::optional<Info> find(std::string_view name) const override {
    const auto found = tensors_.find(std::string(name));
    if (found == tensors_.end()) return std::nullopt;
    return Info{found->second.dtype(), found->second.shape()};
  }
  ConstView get(std::string_view name) override { return tensors_.at(std::string(name)).view(); }
  void release(std::string_view name) override { released.emplace_back(name); }
  std::string hash() const override { return "0"; }

  std::vector<std::string> released;

 private:
  std::map<std::string, Tensor> tensors_;
};

}  // namespace tandem::model::test
