#include "cli/flags.h"

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>

#include "base/strings.h"
#include "cli/console.h"

namespace tandem::cli {
namespace {

constexpr char kMark = '\x01';

template <class T>
T parse_number(const std::string& name, const std::string& word, T least, T most, const char* kind) {
  T value{};
  const char* end = word.data() + word.size();
  const auto [stop, problem] = std::from_chars(word.data(), end, value);
  const bool fits = value >= least && value <= most;  // false for NaN
  if (problem == std::errc::invalid_argument || stop != end || word.empty()) {
    throw UsageError(cat(name, " '", word, "' is not a ", kind, ": give one from ", least, " to ", most));
  }
  if (problem != std::errc{} || !fits) {
    throw UsageError(cat(name, " ", word, " is out of range: give a ", kind, " from ", least, " to ", most));
  }
  return value;
}

// What a flag refuses, with the variable's name where the word came from there.
void take_word(const std::string& name, const std::string& word, const std::function<void(const std::string&)>& take) {
  try {
    take(unmark(word));
  } catch (const Error& e) {
    if (word.starts_with(kMark) || !name.starts_with("--")) throw;
    const std::string variable = variable_name(name);
    const char* value = std::getenv(variable.c_str());
    if (value == nullptr || word != value) throw;
    throw UsageError(cat(variable, ": ", e.what()));
  }
}

}  // namespace

std::vector<std::string> mark_arguments(int argc, const char* const* argv) {
  std::vector<std::string> out;
  bool only_words = false;  // after "--"
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    if (i == 1 || (!only_words && word.size() > 1 && word.front() == '-')) {
      only_words = only_words || word == "--";
      out.push_back(std::move(word));
    } else {
      out.push_back(kMark + word);
    }
  }
  return out;
}

std::string unmark(std::string argument) {
  if (argument.starts_with(kMark)) argument.erase(0, 1);
  return argument;
}

std::string variable_name(std::string_view flag) {
  std::string name = "TANDEM_";
  for (const char c : flag.substr(2)) name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  return name;
}

CLI::Option* Flags::with_variable(CLI::Option* option, const std::string& name) {
  if (name.starts_with("--")) option->envname(variable_name(name));
  return option;
}

CLI::Option* Flags::single(const std::string& name, std::function<void(const std::string&)> take,
                           const std::string& help) {
  CLI::Option* option = app_.add_option(
      name,
      [name, take = std::move(take)](const CLI::results_t& words) {
        take_word(name, words.back(), take);
        return true;
      },
      help);
  option->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  option->type_name("");
  return with_variable(option, name);
}

CLI::Option* Flags::text(const std::string& name, std::string& into, const std::string& help) {
  CLI::Option* option = single(
      name, [&into](const std::string& word) { into = word; }, help);
  if (!into.empty()) option->default_str(into);
  return option;
}

CLI::Option* Flags::list(const std::string& name, std::vector<std::string>& into, const std::string& help) {
  CLI::Option* option = repeated(name, into, help);
  option->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args(true);
  return option;
}

CLI::Option* Flags::repeated(const std::string& name, std::vector<std::string>& into, const std::string& help) {
  CLI::Option* option = app_.add_option(
      name,
      [&into](const CLI::results_t& words) {
        for (const auto& word : words) into.push_back(unmark(word));
        return true;
      },
      help);
  option->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  option->type_name("");
  return with_variable(option, name);
}

CLI::Option* Flags::number(const std::string& name, int& into, int least, int most, const std::string& help) {
  const auto take = [=, &into](const std::string& word) {
    into = parse_number(name, word, least, most, "whole number");
  };
  return single(name, take, help);
}

CLI::Option* Flags::real(const std::string& name, double& into, double least, double most, const std::string& help) {
  const auto take = [=, &into](const std::string& word) { into = parse_number(name, word, least, most, "number"); };
  return single(name, take, help);
}

CLI::Option* Flags::seconds(const std::string& name, double& into, const std::string& help) {
  return real(name, into, 0, 86400, help);
}

CLI::Option* Flags::flag(const std::string& name, bool& into, const std::string& help) {
  CLI::Option* option = app_.add_flag(name, into, help);
  const auto check = [name](const std::string& word) {  // what CLI11 knows
    static const std::set<std::string_view> kKnown = {"true", "false", "on", "off", "yes", "no", "1", "0"};
    if (!kKnown.contains(word)) throw UsageError(cat(name, " '", word, "' is neither true nor false"));
  };
  option->transform([name, check](std::string word) {
    take_word(name, word, check);
    return word;
  });
  return with_variable(option, name);
}

}  // namespace tandem::cli
