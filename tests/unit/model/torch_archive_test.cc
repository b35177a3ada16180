#include "model/file_source.h"
#include "model/pickle.h"
#include "model/zip.h"
#include "unit/model/model_test_util.h"

namespace tandem::model {
namespace {

using namespace std::string_literals;
using test::expect_error;
using test::golden;

std::unique_ptr<WeightSource> open(const std::string& name) {
  return open_torch_archive({golden("torch/" + name)});
}

TEST(TorchArchive, EveryKindOfViewHoldsWhatTorchSays) {
  const auto got = open("views.bin");
  const auto want = open_safetensors({golden("torch/views.safetensors")});
  EXPECT_EQ(got->names(), want->names());
  for (const std::string& name : want->names()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(got->find(name)->dtype, want->find(name)->dtype);
    EXPECT_EQ(got->find(name)->shape, want->find(name)->shape);
    const ConstView g = got->get(name), w = want->get(name);
    ASSERT_EQ(g.bytes(), w.bytes());
    if (w.bytes() == 0) continue;
    EXPECT_EQ(std::memcmp(g.data, w.data, w.bytes()), 0);
    got->release(name);
    EXPECT_EQ(std::memcmp(got->get(name).data, w.data, w.bytes()), 0) << "after release";
  }
}

TEST(TorchArchive, TrainingCheckpointsAndOtherProtocols) {
  for (const char* file : {"training.bin", "protocol4.bin", "plain.bin"}) {
    const auto source = open(file);
    EXPECT_EQ(source->names(), std::vector<std::string>{"a"}) << file;
    EXPECT_EQ(source->get("a").as<float>()[5], 5.0F) << file;
  }
  EXPECT_EQ(open("metadata.bin")->names(), (std::vector<std::string>{"bias", "weight"}));
  expect_error([] { open("double.bin")->find("a"); }, "unsupported", {"tensor a", "F64"});
}

TEST(TorchArchive, WhatIsNotATensorIsRefusedByName) {
  expect_error([] { open("refused_system.bin"); }, "unsupported", {"posix.system"});
  expect_error([] { open("refused_namespace.bin"); }, "unsupported", {"argparse.Namespace"});
  expect_error([] { open("refused_list.bin"); }, "bad_data", {"no state dict"});
  expect_error([] { open("refused_legacy.bin"); }, "unsupported", {"before 1.6", "convert"});
  expect_error([] { open("refused_script.bin"); }, "unsupported", {"TorchScript"});
  expect_error([] { open("refused_deflated.bin"); }, "unsupported", {"compressed"});
  expect_error([] { open("refused_big_endian.bin"); }, "unsupported", {"byte order", "big"});
}

TEST(TorchArchive, BrokenArchives) {
  expect_error([] { open("broken_no_storage.bin"); }, "bad_data", {"tensor a", "storage 0"});
  expect_error([] { open("broken_short_storage.bin"); }, "bad_data", {"tensor a", "20 bytes"});
  expect_error([] { open("broken_no_pickle.bin"); }, "bad_data", {"no data.pkl"});
  expect_error([] { open("broken_pickle.bin"); }, "bad_data", {"broken pickle"});
  expect_error([] { open("broken_truncated.bin"); }, "bad_data", {"truncated"});
  const auto read = [](const std::string& bytes) { read_torch_archive(test::bytes_of(bytes), "x.bin"); };
  expect_error([&] { read(""); }, "bad_data", {"not a torch archive"});
  expect_error([&] { read("version https://git-lfs.github.com/spec/v1\n"); }, "bad_data", {"git-lfs"});
}

TEST(TorchArchive, NoTruncationOrFlippedByteCrashes) {
  const std::string whole = test::read_file(golden("torch/plain.bin"));
  const auto read = [](const std::string& bytes) {
    return test::error_of([&] {
      for (const StoredTensor& t : read_torch_archive(test::bytes_of(bytes), "x.bin")) {
        ASSERT_GE(bytes.data() + bytes.size(), reinterpret_cast<const char*>(t.bytes.data() + t.bytes.size()));
      }
    });
  };
  EXPECT_EQ(read(whole), "");
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_NE(read(whole.substr(0, size)), "") << size;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    for (const char flip : {'\x01', '\x80', '\xff'}) {
      std::string changed = whole;
      changed[i] = static_cast<char>(changed[i] ^ flip);
      read(changed);
    }
  }
}

pickle::Document unpickle(const std::string& bytes) {
  pickle::Document out;
  pickle::read(test::bytes_of(bytes), "x.pkl", out);
  return out;
}

TEST(Pickle, Values) {
  using Kind = pickle::Node::Kind;
  EXPECT_EQ(unpickle("\x80\x02J\xff\xff\xff\xff."s).root->integer, -1);
  EXPECT_EQ(unpickle("\x80\x02\x8a\x02\x00\xff."s).root->integer, -256);
  EXPECT_EQ(unpickle("\x80\x02G\x3f\xf8\x00\x00\x00\x00\x00\x00."s).root->real, 1.5);
  EXPECT_EQ(unpickle("\x80\x02X\x02\x00\x00\x00hi."s).root->text, "hi");
  EXPECT_EQ(unpickle("\x80\x02(K\x01K\x02t."s).root->items.size(), 2u);
  EXPECT_EQ(unpickle("\x80\x02}q\x00X\x01\x00\x00\x00kNs."s).root->members.size(), 1u);
  EXPECT_EQ(unpickle("\x80\x02]q\x00h\x00\x61."s).root->kind, Kind::list);  // a list that holds itself
}

TEST(Pickle, BrokenAndForbidden) {
  const auto fails = [](const std::string& bytes, std::string_view code, const std::vector<std::string>& parts) {
    expect_error([&] { unpickle(bytes); }, code, parts);
  };
  fails("", "bad_data", {"truncated"});
  fails("\x80\x09.", "unsupported", {"protocol 9"});
  fails(".", "bad_data", {"stack is empty"});
  fails("(.", "bad_data", {"mark"});
  fails("t.", "bad_data", {"no mark"});
  fails("h\x05.", "bad_data", {"memo 5"});
  fails("X\xff\xff\xff\x7f.", "bad_data", {"truncated"});
  fails("K\x01K\x02s.", "bad_data", {"expected a dict"});
  fails("}(K\x01u.", "bad_data", {"key without a value"});
  fails("cos\nsystem\n.", "unsupported", {"os.system"});
  fails("cbuiltins\neval\n.", "unsupported", {"builtins.eval"});
  fails("X\x02\x00\x00\x00osX\x06\x00\x00\x00system\x93."s, "unsupported", {"os.system"});
  fails("ios\nsystem\n.", "unsupported", {"opcode 105", "'i'"});  // INST
  fails("ctorch\nFloatStorage\n)R.", "unsupported", {"torch.FloatStorage"});
  fails("ccollections\nOrderedDict\nN\x85R.", "unsupported", {"OrderedDict"});
  fails("NQ.", "unsupported", {"not a storage"});
  fails("]}b.", "unsupported", {"OrderedDict"});
  fails(
      "\x8a\x09"
      "123456789.",
      "unsupported", {"integer of 9 bytes"});
}

TEST(Zip, StoredEntriesAndComments) {
  const std::string plain = test::read_file(golden("torch/plain.bin"));
  const auto entries = read_zip(test::bytes_of(plain), "x").entries;
  EXPECT_TRUE(entries.contains("plain/data.pkl"));
  EXPECT_EQ(entries.at("plain/data/0").size(), 24u);
  std::string commented = plain;
  commented[commented.size() - 2] = 4;
  commented += "note";
  EXPECT_EQ(read_zip(test::bytes_of(commented), "x").entries.size(), entries.size());
}

}  // namespace
}  // namespace tandem::model
