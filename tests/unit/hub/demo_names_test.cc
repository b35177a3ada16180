#include "hub/demo_names.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tandem/error.h"

namespace tandem::hub {
namespace {

namespace fs = std::filesystem;

class DemoNamesTest : public testing::Test {
 protected:
  DemoNamesTest() { fs::create_directories(folder); }
  ~DemoNamesTest() override { fs::remove_all(folder); }
  std::string failure(const std::string& content) const {
    std::ofstream(folder / "names.json", std::ios::binary) << content;
    try {
      read_demo_names(folder);
    } catch (const Error& error) {
      return error.what();
    }
    return "read";
  }
  const fs::path folder = fs::temp_directory_path() / ("tandem_demo_names_" + std::to_string(::getpid()));
};

TEST_F(DemoNamesTest, ReadsNamesAndSigns) {
  std::ofstream(folder / "names.json", std::ios::binary)
      << R"({"sheet":"x","emoji":[{"emoji":"❤️","name":"red heart","class":0},{"name":"rain"}]})";
  const DemoNames demo = read_demo_names(folder);
  EXPECT_EQ(demo.names, (std::vector<std::string>{"red heart", "rain"}));
  EXPECT_EQ(demo.signs, (std::vector<std::string>{"❤️", ""}));
}

TEST_F(DemoNamesTest, SaysWhatIsWrongInItsOwnWords) {
  const std::string path = (folder / "names.json").string();
  EXPECT_EQ(failure("{"), path + " is not valid JSON near byte 2");
  for (const char* content : {R"({"emoji":[1]})", "{}", "[]", R"({"emoji":[{"name":5}]})"}) {
    EXPECT_EQ(failure(content), path + " must hold a list \"emoji\" of objects with a string \"name\"") << content;
  }
  EXPECT_THROW(read_demo_names(folder / "below"), Error);
}

}  // namespace
}  // namespace tandem::hub
