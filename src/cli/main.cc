// The program: one command line in, one exit code out.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "base/strings.h"
#include "cli/commands.h"
#include "cli/signals.h"
#include "embed/output_file.h"

namespace tandem::cli {
namespace {

constexpr const char* kNoCommand = "no command given";

// Before the flags are parsed, so that even their mistakes are told in the form that was asked for.
bool wants_json(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--") break;
    if (word == "--json" || word == "--json=true") return true;
  }
  const char* variable = std::getenv("TANDEM_JSON");
  if (variable == nullptr) return false;
  const std::string_view value = variable;
  return value == "1" || value == "true" || value == "on" || value == "yes";
}

int report(Console& console, bool json, const std::string& where, Code code, std::string_view message, int exit_code) {
  try {
    console.flush();
    if (json) embed::write_all(STDOUT_FILENO, json_error(code, message));
  } catch (const Error&) {
    // Standard output is gone; standard error still gets its line.
  }
  const std::string line =
      cat("tandem", where.empty() ? "" : " ", where, ": ", printable(message), "\n",
          exit_code == kUsage ? cat("see: tandem ", where, where.empty() ? "" : " ", "--help\n") : "");
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
  return exit_code;
}

std::string parse_mistake(const CLI::ParseError& error, const CLI::App& app) {
  const auto* extra = dynamic_cast<const CLI::ExtrasError*>(&error);
  if (extra == nullptr) return error.what();
  auto rest = app.remaining(true);
  if (rest.empty()) return error.what();
  const bool is_flag = rest.front().size() > 1 && rest.front().front() == '-';
  if (is_flag) return cat("unknown flag ", rest.front());
  return cat("unexpected argument '", unmark(rest.front()), "'");
}

int main_with(int argc, char** argv) {
  CLI::App app("CLIP inference: images and texts into one vector space.", "tandem");
  app.require_subcommand(1);
  app.get_formatter()->column_width(28);
  app.footer("tandem COMMAND --help shows a command's flags; every flag has a variable TANDEM_<FLAG>.");
  bool version = false;
  app.add_flag("--version", version, "version, commit, backends");

  std::vector<Command> commands;
  for (const auto declare :
       {declare_info, declare_tokenize, declare_preprocess, declare_embed, declare_classify, declare_search,
        declare_bench, declare_verify, declare_calibrate, declare_serve, declare_stop, declare_loadtest}) {
    commands.push_back(declare(app));
  }
  const bool json = wants_json(argc, argv);
  Console console;
  const std::string_view first = argc > 1 ? argv[1] : "";
  if (first == "--version") {
    console.print(version_text(json));
    console.flush();
    return kOk;
  }
  std::string names;
  const Command* chosen = nullptr;
  for (const Command& command : commands) {
    names += cat(names.empty() ? "" : ", ", command.app->get_name());
    if (command.app->get_name() == first) chosen = &command;
  }
  if (chosen == nullptr && first != "--help" && first != "-h") {
    return report(console, json, "", Code::invalid_argument,
                  first.empty() ? cat(kNoCommand, ": choose one of ", names)
                                : cat(first.starts_with('-') ? "unknown flag " : "unknown command ", first,
                                      ": choose a command: ", names),
                  kUsage);
  }
  const std::string where = chosen != nullptr ? chosen->app->get_name() : "";
  try {
    auto words = mark_arguments(argc, argv);
    std::reverse(words.begin(), words.end());  // CLI11 takes them from the back
    app.parse(words);
  } catch (const CLI::CallForHelp&) {
    console.print(app.help());
    console.flush();
    return kOk;
  } catch (const CLI::ParseError& e) {
    return report(console, json, where, Code::invalid_argument, parse_mistake(e, app), kUsage);
  } catch (const Error& e) {
    return report(console, json, where, e.code(), e.what(), kUsage);
  }

  console.json = chosen->common->json;
  console.quiet = chosen->common->quiet;
  console.verbosity = chosen->common->verbosity;
  try {
    const int code = chosen->run(console);
    console.flush();
    return code;
  } catch (const UsageError& e) {
    return report(console, console.json, where, e.code(), e.what(), kUsage);
  } catch (const Error& e) {
    return report(console, console.json, where, e.code(), e.what(), kFailed);
  } catch (const std::bad_alloc&) {
    return report(console, console.json, where, Code::out_of_memory,
                  "host memory is exhausted: use a smaller model, --batch or picture", kFailed);
  } catch (const std::exception& e) {
    return report(console, console.json, where, Code::internal, e.what(), kFailed);
  }
}

}  // namespace
}  // namespace tandem::cli

int main(int argc, char** argv) {
  tandem::cli::install_signal_handlers();
  try {
    return tandem::cli::main_with(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tandem: %s\n", tandem::printable(e.what()).c_str());
    return tandem::cli::kFailed;
  }
}
