// tandem stop: ends a server that was started with --background or --pid-file.
#include <poll.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): POSIX's part, which <csignal> does not promise
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/strings.h"
#include "cli/background.h"
#include "cli/commands.h"

namespace tandem::cli {
namespace {

struct Options {
  CommonOptions common;
  int port = 7860;
  std::string pid_file;
  double seconds = 60;
};

int run(const Options& options, Console& console) {
  const std::string path = options.pid_file.empty() ? default_pid_file(options.port) : options.pid_file;
  const int pid = running_pid(path);
  if (pid == 0) {
    throw Error(Code::not_found, cat("no server holds ", path, ": name its --port or its --pid-file"));
  }
  if (::kill(pid, SIGTERM) != 0) {
    throw Error(Code::io_error, cat("cannot stop process ", pid, " of ", path, ": ", std::strerror(errno)));
  }
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.seconds);
  // By a handle of the process itself where the system gives one: the file goes a moment before the process does.
  const int handle = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  const auto runs = [&] {
    pollfd ended{handle, POLLIN, 0};
    return handle >= 0 ? ::poll(&ended, 1, 0) == 0 : running_pid(path) == pid;
  };
  while (runs()) {
    if (std::chrono::steady_clock::now() > end) {
      throw Error(Code::deadline_exceeded, cat("process ", pid, " still finishes its requests after ", options.seconds,
                                               " s: wait, or ask again with a larger --wait-seconds"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  console.note(cat("stopped process ", pid));
  return kOk;
}

}  // namespace

Command declare_stop(CLI::App& root) {
  CLI::App* app = root.add_subcommand("stop", "end a server that runs in the background");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  flags.number("--port", options->port, 0, 65535, "of the server")->default_str("7860");
  flags.text("--pid-file", options->pid_file, "the same file as the server's; default: by the port");
  flags.seconds("--wait-seconds", options->seconds, "for it to finish its requests")->default_str("60");
  flags.flag("--json", options->common.json, "errors as JSON on standard output");
  flags.flag("--quiet", options->common.quiet, "only errors");
  app->footer("Example:\n  tandem stop --port 7860");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
