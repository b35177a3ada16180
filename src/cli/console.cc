#include "cli/console.h"

#include <unistd.h>

#include "base/strings.h"
#include "embed/json_text.h"
#include "embed/output_file.h"

namespace tandem::cli {
namespace {

constexpr std::size_t kFlushBytes = std::size_t{1} << 16;
// Beyond these the count says enough: every failed item stands in the output anyway.
constexpr std::size_t kNamedFailures = 20;

}  // namespace

void Console::print(std::string_view text) {
  out_ += text;
  if (out_.size() >= kFlushBytes) flush();
}

void Console::flush() {
  if (out_.empty()) return;
  const std::string pending = std::move(out_);
  out_.clear();
  embed::write_all(STDOUT_FILENO, pending);
}

void Console::write_line(std::string_view line) {
  const std::lock_guard lock(mutex_);
  const std::string whole = cat(drawn_ ? "\r\x1b[K" : "", "tandem: ", printable(line), "\n");
  drawn_ = false;
  // Standard error may be closed; there is nobody left to tell.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

void Console::say(Verbosity level, std::string_view message) {
  if (level >= verbosity && verbosity != Verbosity::off) write_line(message);
}

void Console::note(std::string_view message) {
  if (!json && !quiet && verbosity <= Verbosity::warn) write_line(message);
}

void Console::item_failed(std::string_view input, const ItemError& error) {
  ++failed_;
  if (failed_ > kNamedFailures || quiet) return;
  // Readers' messages name the file already.
  constexpr std::size_t kShown = 200;
  const bool named = error.message.find(input.substr(0, kShown)) != std::string::npos;
  say(Verbosity::error, named ? error.message : cat(input.substr(0, kShown), ": ", error.message));
}

int Console::end_items(std::size_t total) {
  if (failed_ == 0) return kOk;
  say(Verbosity::error, cat(failed_, " of ", total, total == 1 ? " item" : " items", " failed"));
  return kSomeFailed;
}

void Console::draw(std::string_view line) {
  const std::lock_guard lock(mutex_);
  const std::string whole = cat("\r\x1b[K", line);
  drawn_ = !line.empty();
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

std::function<void(int, std::string_view)> Console::log_sink() {
  return [this](int level, std::string_view message) { say(static_cast<Verbosity>(level), message); };
}

std::string json_error(Code code, std::string_view message) {
  std::string line = "{\"error\":";
  embed::append_json(line, ItemError{code, std::string(message)});
  return line + "}\n";
}

}  // namespace tandem::cli
