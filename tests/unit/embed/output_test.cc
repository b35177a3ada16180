#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "embed/output_file.h"
#include "embed/safetensors_writer.h"
#include "embed/sink.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class OutputTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("tandem_output_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string at(const std::string& name) const { return (folder_ / name).string(); }
  static std::string read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream content;
    content << file.rdbuf();
    return content.str();
  }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }

  fs::path folder_;
};

std::vector<Json> lines_of(const std::string& text) {
  std::vector<Json> out;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) out.push_back(Json::parse(line));
  return out;
}

Embedding vector_of(std::vector<float> values) {
  Embedding e;
  e.values = std::move(values);
  return e;
}

Embedding failure(Code code, std::string message) {
  Embedding e;
  e.error = ItemError{code, std::move(message)};
  return e;
}

void fill(Sink& sink) {
  sink.take({Kind::image, "a.png", {}}, vector_of({1, 2, 3}));
  sink.take({Kind::image, "b.png", {}}, failure(Code::bad_data, "broken \"file\""));
  sink.take({Kind::text, "words\n", {}}, vector_of({0.25F, -0.5F, 4}));
}

const Provenance kProvenance{{{"model_hash", "abc"}, {"precision", "fp32"}}, true};

TEST_F(OutputTest, ALinkIsWrittenThrough) {
  const auto write = [](const std::string& path, std::string_view content) {
    OutputFile file(path);
    file.append(content);
    file.commit();
  };
  fs::create_directory(at("data"));
  std::ofstream(at("data/real")) << "old";
  fs::create_symlink("data/real", at("relative"));
  fs::create_symlink(fs::path(at("relative")), at("link"));
  write(at("link"), "new");
  EXPECT_EQ(read(at("data/real")), "new");
  EXPECT_TRUE(fs::is_symlink(at("link")) && fs::is_symlink(at("relative")) && !fs::is_symlink(at("data/real")));
  // To nothing yet, and to a folder that is not there.
  fs::create_symlink("data/later", at("early"));
  write(at("early"), "now");
  EXPECT_EQ(read(at("data/later")), "now");
  fs::create_symlink("nowhere/file", at("lost"));
  EXPECT_THROW(OutputFile{at("lost")}, Error);
  fs::create_symlink("circle", at("circle"));
  EXPECT_THROW(OutputFile{at("circle")}, Error);
}

TEST_F(OutputTest, FilesAppearWholeOrNotAtAll) {
  {
    OutputFile file(at("x"));
    file.append(std::string_view("half"));
    EXPECT_FALSE(fs::exists(at("x")));
    EXPECT_EQ(files(), 1U);
  }
  EXPECT_EQ(files(), 0U);
  OutputFile file(at("x"));
  const std::string big(3 << 20, 'b');
  file.append(std::string_view("head"));
  file.append(std::string_view(big));
  file.append(std::string_view("tail"));
  file.patch(0, "HEAD");
  file.patch(4 + big.size(), "TA");
  EXPECT_THROW(file.patch(big.size() + 5, "none!"), Error);
  file.commit();
  EXPECT_EQ(read(at("x")), "HEAD" + big + "TAil");
  EXPECT_EQ(files(), 1U);
}

TEST_F(OutputTest, PathsThatCannotBeWrittenAreFoundEarly) {
  const auto code = [](const std::string& path) {
    try {
      check_output_path(path);
    } catch (const Error& e) {
      return e.code();
    }
    return Code::internal;
  };
  EXPECT_EQ(code(at("no/x.npy")), Code::not_found);
  EXPECT_EQ(code(folder_.string()), Code::io_error);
  EXPECT_EQ(code(""), Code::invalid_argument);
  std::ofstream(at("file")) << "x";
  EXPECT_EQ(code(at("file/x.npy")), Code::io_error);
  EXPECT_NO_THROW(check_output_path(at("x.npy")));
  EXPECT_THROW(OutputFile(at("no/x")), Error);
}

TEST_F(OutputTest, AFullDiskIsAnErrorNotAShortFile) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const int full = ::open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  EXPECT_THROW(write_all(full, "x"), Error);
  ::close(full);
}

TEST_F(OutputTest, JsonLines) {
  const auto sink = make_jsonl_sink(at("e.jsonl"), nullptr);
  fill(*sink);
  EXPECT_FALSE(fs::exists(at("e.jsonl")));
  sink->finish();
  EXPECT_EQ(
      read(at("e.jsonl")),
      "{\"input\":\"a.png\",\"kind\":\"image\",\"embedding\":[1,2,3]}\n"
      "{\"input\":\"b.png\",\"kind\":\"image\",\"error\":{\"code\":\"bad_data\",\"message\":\"broken \\\"file\\\"\"}}\n"
      "{\"input\":\"words\\n\",\"kind\":\"text\",\"embedding\":[0.25,-0.5,4]}\n");
  const auto told = make_jsonl_sink(at("p.jsonl"), &kProvenance);
  fill(*told);
  told->finish();
  for (const auto& line : lines_of(read(at("p.jsonl")))) {
    EXPECT_EQ(line["model_hash"], "abc");
    EXPECT_EQ(line["normalized"], true);
  }
}

TEST_F(OutputTest, NumpyMatrix) {
  const auto sink = make_matrix_sink(at("e.npy"), OutputFormat::npy, 3, kProvenance);
  fill(*sink);
  sink->finish();
  const std::string file = read(at("e.npy"));
  ASSERT_EQ(file.size(), 128U + 2 * 3 * 4);
  EXPECT_EQ(file.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_EQ(file.substr(10, 60), "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } ");
  EXPECT_EQ(file[127], '\n');
  float values[6];
  std::memcpy(values, file.data() + 128, sizeof values);
  EXPECT_EQ(values[2], 3.0F);
  EXPECT_EQ(values[4], -0.5F);
  const auto items = lines_of(read(at("e.npy.items.jsonl")));
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0], (Json{{"input", "a.png"},
                            {"kind", "image"},
                            {"row", 0},
                            {"model_hash", "abc"},
                            {"precision", "fp32"},
                            {"normalized", true}}));
  EXPECT_EQ(items[1]["error"]["code"], "bad_data");
  EXPECT_EQ(items[1]["precision"], "fp32");
  EXPECT_EQ(items[2]["row"], 1);
}

TEST_F(OutputTest, SafetensorsMatrix) {
  const auto sink = make_matrix_sink(at("e.safetensors"), OutputFormat::safetensors, 3, kProvenance);
  fill(*sink);
  sink->finish();
  const std::string file = read(at("e.safetensors"));
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  EXPECT_EQ(length % 8, 0U);
  const Json header = Json::parse(file.substr(8, length));
  EXPECT_EQ(header["embeddings"], (Json{{"dtype", "F32"}, {"shape", {2, 3}}, {"data_offsets", {0, 24}}}));
  EXPECT_EQ(header["__metadata__"], (Json{{"model_hash", "abc"}, {"precision", "fp32"}, {"normalized", "true"}}));
  ASSERT_EQ(file.size(), 8 + length + 24);
  float first = 0;
  std::memcpy(&first, file.data() + 8 + length, 4);
  EXPECT_EQ(first, 1.0F);
}

TEST_F(OutputTest, NothingIsLeftOfAMatrixThatWasNotFinished) {
  {
    const auto sink = make_matrix_sink(at("e.safetensors"), OutputFormat::safetensors, 3, kProvenance);
    fill(*sink);
    EXPECT_EQ(files(), 2U);
  }
  EXPECT_EQ(files(), 0U);
}

TEST_F(OutputTest, MatricesOfNoRowsAndRowsOfAnotherSize) {
  const auto empty = make_matrix_sink(at("n.npy"), OutputFormat::npy, 7, kProvenance);
  empty->finish();
  EXPECT_NE(read(at("n.npy")).find("'shape': (0, 7)"), std::string::npos);
  const auto sink = make_matrix_sink(at("x.npy"), OutputFormat::npy, 7, kProvenance);
  EXPECT_THROW(fill(*sink), Error);
}

TEST_F(OutputTest, SafetensorsOfManyTensors) {
  SafetensorsWriter writer(at("m.safetensors"), {},
                           SafetensorsWriter::entry_room("a\"b", 2) + SafetensorsWriter::entry_room("c", 0));
  const std::vector<std::uint8_t> bytes = {1, 2, 3, 4, 5, 6};
  writer.append(std::as_bytes(std::span(bytes)));
  writer.describe("a\"b", "U8", {2, 3});
  EXPECT_THROW(writer.describe("c", "F32", {}), Error);
  writer.append(std::as_bytes(std::span(bytes)).first(4));
  writer.describe("c", "F32", {});
  writer.close();
  writer.commit();
  const std::string file = read(at("m.safetensors"));
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  const Json header = Json::parse(file.substr(8, length));
  EXPECT_EQ(header["a\"b"]["data_offsets"], (Json{0, 6}));
  EXPECT_EQ(header["c"]["data_offsets"], (Json{6, 10}));
}

TEST_F(OutputTest, FormatsByName) {
  EXPECT_EQ(output_format("a/b.NPY"), OutputFormat::npy);
  EXPECT_EQ(output_format("x.safetensors"), OutputFormat::safetensors);
  EXPECT_EQ(output_format("x.jsonl"), OutputFormat::jsonl);
  EXPECT_THROW(output_format("x.json"), Error);
  EXPECT_THROW(output_format("npy"), Error);
}

}  // namespace
}  // namespace tandem::embed
