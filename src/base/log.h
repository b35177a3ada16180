// Log lines of the library go to a sink that the program sets; without one they vanish. The library never prints.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace tandem {

enum class LogLevel : std::uint8_t { debug, info, warning, error };

using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Where a Context and what lives on it log. Copyable; safe to call from several threads if the sink is.
class Logger {
 public:
  Logger() = default;
  explicit Logger(LogSink sink) : sink_(std::make_shared<LogSink>(std::move(sink))) {}
  void log(LogLevel level, std::string_view message) const noexcept;

 private:
  std::shared_ptr<LogSink> sink_;
};

}  // namespace tandem
