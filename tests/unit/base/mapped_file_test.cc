#include "base/mapped_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tandem/error.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

class MappedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::temp_directory_path() / ("tandem_mapped_" + std::to_string(::getpid()) + "_" + test->name());
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path write(const std::string& name, const std::string& content) const {
    std::ofstream(folder_ / name, std::ios::binary) << content;
    return folder_ / name;
  }
  fs::path folder_;
};

std::string text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

Code failure(const fs::path& path) {
  try {
    MappedFile file(path);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos) << error.what();
    return error.code();
  }
  ADD_FAILURE() << path << " was mapped";
  return Code::internal;
}

TEST_F(MappedFileTest, HoldsTheBytes) {
  std::string content;
  for (int i = 0; i < 100'000; ++i) content += static_cast<char>(i * 7);
  const MappedFile file(write("a", content));
  EXPECT_EQ(text_of(file), content);
  EXPECT_EQ(file.path(), folder_ / "a");
  EXPECT_TRUE(MappedFile(write("empty", "")).bytes().empty());
}

TEST_F(MappedFileTest, SaysWhatCannotBeMapped) {
  EXPECT_EQ(failure(folder_ / "nothing"), Code::not_found);
  EXPECT_EQ(failure(write("file", "x") / "below"), Code::not_found);
  EXPECT_EQ(failure(folder_), Code::io_error);
  EXPECT_EQ(failure("/dev/null"), Code::io_error);
}

TEST_F(MappedFileTest, MovesAndOutlivesItsName) {
  const fs::path path = write("a", "content");
  MappedFile first(path);
  const std::byte* place = first.bytes().data();
  MappedFile second(std::move(first));
  EXPECT_EQ(second.bytes().data(), place);
  EXPECT_TRUE(first.bytes().empty());  // NOLINT: what is left behind is empty
  MappedFile third(write("b", "other"));
  third = std::move(second);
  EXPECT_EQ(text_of(third), "content");
  fs::remove(path);
  EXPECT_EQ(text_of(third), "content");
}

TEST_F(MappedFileTest, ReleasedPartsCanBeReadAgain) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::string content(5 * page + 100, 'a');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>('a' + i / page);
  const MappedFile file(write("a", content));
  EXPECT_EQ(text_of(file), content);
  file.release(file.bytes().subspan(10, 3 * page));
  file.release(file.bytes().subspan(5, 7));  // less than a page: nothing to give back
  file.release({});
  file.release(file.bytes());
  EXPECT_EQ(text_of(file), content);
}

}  // namespace
}  // namespace tandem
