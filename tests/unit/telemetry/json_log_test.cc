#include "telemetry/json_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tandem/error.h"

namespace tandem::telemetry {
namespace {

class JsonLogTest : public ::testing::Test {
 protected:
  JsonLogTest() : folder(std::filesystem::temp_directory_path() / ("json_log_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder);
  }
  ~JsonLogTest() override { std::filesystem::remove_all(folder); }
  static std::string read(const std::filesystem::path& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  const std::filesystem::path folder;
  std::atomic<std::uint64_t> dropped{0};
};

TEST_F(JsonLogTest, AppendsLines) {
  const auto path = folder / "log";
  std::ofstream(path) << "before\n";
  {
    JsonLog log(path, dropped);
    log.write("one");
    log.flush();
    EXPECT_EQ(read(path), "before\none\n");
    log.write("two");
  }
  EXPECT_EQ(read(path), "before\none\ntwo\n");
  EXPECT_EQ(dropped, 0u);
}

TEST_F(JsonLogTest, OpensAnewWhenTheFileWasRenamed) {
  const auto path = folder / "log";
  JsonLog log(path, dropped);
  log.write("one");
  log.flush();
  std::filesystem::rename(path, folder / "old");
  log.reopen();
  log.flush();
  log.write("two");
  log.flush();
  EXPECT_EQ(read(folder / "old"), "one\n");
  EXPECT_EQ(read(path), "two\n");
}

TEST_F(JsonLogTest, AFullDiskCostsLinesOnly) {
  JsonLog log("/dev/full", dropped);
  for (int i = 0; i < 100; ++i) log.write("a line");
  log.flush();
  EXPECT_EQ(dropped, 100u);
}

TEST_F(JsonLogTest, ADiskThatNeverAnswersCostsLinesOnly) {
  const auto path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  {
    JsonLog log(path, dropped);
    const std::string line(1 << 20, 'x');
    for (int i = 0; i < 40; ++i) log.write(line);
    EXPECT_GT(dropped, 0u);
    ::close(reader);  // its end: what waits is dropped, nothing ends the process
  }
  EXPECT_EQ(dropped, 40u);
}

TEST_F(JsonLogTest, AReaderThatSleepsDoesNotHoldTheEnd) {
  const auto path = folder / "pipe";
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  const auto begin = std::chrono::steady_clock::now();
  {
    JsonLog log(path, dropped);
    for (int i = 0; i < 300; ++i) log.write(std::string(1023, 'x'));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
  EXPECT_GT(dropped, 100u);
  ::close(reader);
}

TEST_F(JsonLogTest, AFileThatCannotBeOpenedIsSaid) {
  EXPECT_THROW(JsonLog((folder / "no" / "log").string(), dropped), Error);
}

}  // namespace
}  // namespace tandem::telemetry
