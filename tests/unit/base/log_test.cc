#include "base/log.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace tandem {
namespace {

TEST(Logger, GivesEveryLineToItsSink) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  const Logger logger([&](LogLevel level, std::string_view line) { lines.emplace_back(level, line); });
  const Logger copy = logger;
  logger.log(LogLevel::info, "one");
  copy.log(LogLevel::error, "two");
  EXPECT_EQ(lines, (std::vector<std::pair<LogLevel, std::string>>{{LogLevel::info, "one"}, {LogLevel::error, "two"}}));
}

TEST(Logger, WithoutASinkLinesVanish) {
  Logger().log(LogLevel::error, "nobody hears this");
  Logger(LogSink()).log(LogLevel::error, "nor this");
}

TEST(Logger, ASinkThatFailsHarmsNobody) {
  int calls = 0;
  const Logger logger([&](LogLevel, std::string_view) {
    ++calls;
    throw std::runtime_error("the disk is full");
  });
  logger.log(LogLevel::warning, "one");
  logger.log(LogLevel::warning, "two");
  EXPECT_EQ(calls, 2);
}

}  // namespace
}  // namespace tandem
