// Files of measured choices: what is measured again replaces its line, everything else stays.
#include "backend/tuning.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tandem/error.h"

namespace tandem::backend {
namespace {

namespace fs = std::filesystem;

TEST(Tuning, MergeReplacesWhatIsForTheSame) {
  const std::string old = "# measured by hand\ncublasLt 1 96 64 aa\ncublasLt 1 96 65 bb\ncublasLt 2 96 64 cc\n";
  EXPECT_EQ(merge_tuning(old, "cublasLt 1 96 65 dd\ncublasLt 1 8 8 ee\n"),
            "# measured by hand\ncublasLt 1 96 64 aa\ncublasLt 1 96 65 dd\ncublasLt 2 96 64 cc\ncublasLt 1 8 8 ee\n");
  EXPECT_EQ(merge_tuning("", "a b\n"), "a b\n");
  EXPECT_EQ(merge_tuning("a b\n", ""), "a b\n");
  EXPECT_EQ(merge_tuning("a b", "c d"), "a b\nc d\n") << "a last line without its end is a line";
}

class TuningFile : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directory(folder); }
  void TearDown() override { fs::remove_all(folder); }
  std::string read(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  const fs::path folder = fs::temp_directory_path() / ("tandem_tuning_" + std::to_string(getpid()));
};

TEST_F(TuningFile, IsMadeAndAddedTo) {
  const fs::path file = folder / "gpu.tuning";
  EXPECT_EQ(add_tuning(file.string(), "a 1\n"), "a 1\n");
  add_tuning(file.string(), "b 2\na 3\n");
  EXPECT_EQ(read(file), "a 3\nb 2\n");
  add_tuning(file.string(), "");
  EXPECT_EQ(read(file), "a 3\nb 2\n");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1) << "nothing else is left";
}

TEST_F(TuningFile, ThatCannotBeWrittenIsNamed) {
  for (const fs::path& path : {folder / "none" / "gpu.tuning", folder}) {
    try {
      add_tuning(path.string(), "a 1\n");
      ADD_FAILURE() << path << " was written";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::io_error);
      EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos) << error.what();
    }
  }
  EXPECT_FALSE(fs::exists(folder.string() + ".new"));
}

}  // namespace
}  // namespace tandem::backend
