// Declaring flags: one call gives a flag, its environment variable, its check and its line in --help.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cli {

/// Arguments as CLI11 may see them. It would take some texts apart ("[a,b]", "{}", "", a text named like a command), so
/// every word after the command's name that is no flag, and every word after "--", is marked; flags take the mark off.
std::vector<std::string> mark_arguments(int argc, const char* const* argv);
std::string unmark(std::string argument);

/// Flags of one command. Names are given as "--name"; the variable is TANDEM_NAME with dashes as underscores and is
/// used where the flag is absent. A name without dashes is a positional argument. A flag given twice: the last counts,
/// except lists, which add up. What a flag refuses is thrown as UsageError while parsing.
class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}

  CLI::Option* text(const std::string& name, std::string& into, const std::string& help);
  /// One or more words.
  CLI::Option* list(const std::string& name, std::vector<std::string>& into, const std::string& help);
  /// One word each time it is given.
  CLI::Option* repeated(const std::string& name, std::vector<std::string>& into, const std::string& help);
  CLI::Option* number(const std::string& name, int& into, int least, int most, const std::string& help);
  /// A number between `least` and `most`.
  CLI::Option* real(const std::string& name, double& into, double least, double most, const std::string& help);
  CLI::Option* seconds(const std::string& name, double& into, const std::string& help);
  CLI::Option* flag(const std::string& name, bool& into, const std::string& help);
  /// parse throws Error for what it does not know. The default is shown, not parsed.
  template <class T>
  CLI::Option* choice(const std::string& name, T& into, T (*parse)(std::string_view), const std::string& help) {
    return single(
        name, [&into, parse](const std::string& word) { into = parse(word); }, help);
  }

  /// take gets the word, and throws Error for what it does not know.
  CLI::Option* single(const std::string& name, std::function<void(const std::string&)> take, const std::string& help);

 private:
  CLI::Option* with_variable(CLI::Option* option, const std::string& name);

  CLI::App& app_;
};

/// "--log-level" → "TANDEM_LOG_LEVEL".
std::string variable_name(std::string_view flag);

}  // namespace tandem::cli
