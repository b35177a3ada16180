#include "model/file_source.h"
#include "unit/model/model_test_util.h"

namespace tandem::model {
namespace {

using test::expect_error;
using test::safetensors;

std::vector<StoredTensor> read(const std::string& file) {
  return read_safetensors(test::bytes_of(file), "x.safetensors");
}

void broken(const std::string& header, const std::string& data, const std::vector<std::string>& parts) {
  expect_error([&] { read(safetensors(header, data)); }, "bad_data", parts);
}

TEST(Safetensors, ReadsTypesShapesAndMetadata) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[2,1],"data_offsets":[8,12]},)"
      R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"none":{"dtype":"I64","shape":[0,3],"data_offsets":[8,8]},)"
      R"("scalar":{"dtype":"BF16","shape":[],"data_offsets":[12,14]}})";
  std::string data(14, '\0');
  const float values[] = {1.5F, -2.0F};
  std::memcpy(data.data(), values, 8);
  const test::TempFolder folder;
  const auto source = open_safetensors({folder.write("m.safetensors", safetensors(header, data))});
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a", "b", "none", "scalar"}));
  EXPECT_EQ(source->get("a").as<float>()[1], -2.0F);
  EXPECT_EQ(source->find("b")->shape, (Shape{2, 1}));
  EXPECT_EQ(source->find("b")->dtype, DType::f16);
  EXPECT_EQ(source->find("none")->shape.elements(), 0);
  EXPECT_EQ(source->get("scalar").shape.rank(), 0);
  EXPECT_FALSE(source->find("c"));
  expect_error([&] { source->get("c"); }, "bad_data", {"tensor c"});
}

TEST(Safetensors, TensorsNeedNotBeAligned) {
  // The header has 61 bytes, so that the float begins at an odd address.
  std::string header = R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  while (header.size() % 4 != 1) header += ' ';
  const float value = 3.25F;
  std::string data(4, '\0');
  std::memcpy(data.data(), &value, 4);
  const test::TempFolder folder;
  const auto source = open_safetensors({folder.write("m.safetensors", safetensors(header, data))});
  const ConstView view = source->get("a");
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(view.data) % 4, 0u);
  EXPECT_EQ(view.as<float>()[0], 3.25F);
  source->release("a");
  EXPECT_EQ(source->get("a").as<float>()[0], 3.25F);
}

TEST(Safetensors, ReleasedTensorsCanBeReadAgain) {
  const auto source = open_safetensors({test::golden("tiny/hf_quickgelu/model.safetensors")});
  const std::string name = "vision_model.encoder.layers.0.mlp.fc1.weight";
  const ConstView view = source->get(name);
  const std::vector<std::byte> before(view.data, view.data + view.bytes());
  source->release(name);
  EXPECT_EQ(std::memcmp(source->get(name).data, before.data(), before.size()), 0);
}

TEST(Safetensors, BrokenHeaders) {
  expect_error([] { read("abc"); }, "bad_data", {"3 bytes", "too short"});
  expect_error([] { read(std::string(8, '\xff') + "{}"); }, "bad_data", {"not a safetensors file"});
  expect_error([] { read(safetensors("{}", "").substr(0, 9)); }, "bad_data", {"truncated"});
  broken("[1]", "", {"array"});
  broken("{", "", {"not valid JSON"});
  broken(
      R"({"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})",
      "", {"\"a\"", "twice"});
  broken(R"({"a":1})", "", {"tensor a", "found 1"});
  broken(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}})", "1234", {"tensor a", "F31"});
  broken(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234", {"tensor a", "[-1]"});
  broken(R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", "1234", {"tensor a", "[1.5]"});
  broken(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,"4"]}})", "1234", {"tensor a", "\"4\""});
  broken(std::string(200, '[') + std::string(200, ']'), "", {"nested"});
}

TEST(Safetensors, SizesMustAgree) {
  broken(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234", {"tensor a", "F32 [2]", "8 bytes"});
  broken(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234", {"tensor a"});
  broken(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}})", "",
         {"tensor", "more elements"});
  broken(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "1234", {"tensor a", "truncated", "8", "4"});
  broken(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,18446744073709551616]}})", "1234",
         {"tensor a"});
  broken(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
         "123", {"tensor b", "overlap"});
  broken(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", "12", {"tensor a", "gap"});
  broken(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "12", {"1 bytes after"});
}

TEST(Safetensors, TypesAndRanksOutsideTheModelsAreRefusedWhenAskedFor) {
  const std::string header =
      R"({"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1,1,1,1,2],"data_offsets":[8,10]}})";
  const test::TempFolder folder;
  const auto source = open_safetensors({folder.write("m.safetensors", safetensors(header, "1234567890"))});
  expect_error([&] { source->find("a"); }, "unsupported", {"tensor a", "F64", "convert"});
  expect_error([&] { source->get("b"); }, "unsupported", {"tensor b", "5 dimensions"});
}

TEST(Safetensors, FilesThatAreMissingOrDoubled) {
  expect_error([] { open_safetensors({"/nowhere/m.safetensors"}); }, "not_found", {"/nowhere/m.safetensors"});
  const test::TempFolder folder;
  const std::string one = safetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1");
  const auto first = folder.write("1.safetensors", one), second = folder.write("2.safetensors", one);
  expect_error([&] { open_safetensors({first, second}); }, "bad_data", {"tensor a", "1.safetensors", "2.safetensors"});
}

TEST(Safetensors, HashTellsContentsApart) {
  const test::TempFolder folder;
  const std::string header = R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  const auto a = folder.write("a.safetensors", safetensors(header, "1"));
  const auto b = folder.write("b.safetensors", safetensors(header, "2"));
  EXPECT_EQ(open_safetensors({a})->hash(), open_safetensors({a})->hash());
  EXPECT_NE(open_safetensors({a})->hash(), open_safetensors({b})->hash());
  EXPECT_EQ(open_safetensors({a})->hash().size(), 16u);
}

}  // namespace
}  // namespace tandem::model
