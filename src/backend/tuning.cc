#include "backend/tuning.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::backend {
namespace {

/// What a line is for; empty where it says nothing, as a comment does not.
std::string subject(const std::string& line) {
  const auto last = line.find_last_of(' ');
  return line.empty() || line.front() == '#' || last == std::string::npos ? std::string() : line.substr(0, last);
}

}  // namespace

std::string merge_tuning(const std::string& old, const std::string& found) {
  std::vector<std::string> lines;
  std::map<std::string, std::size_t> places;
  const auto add = [&](const std::string& text) {
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) {
      const std::string what = subject(line);
      const auto [place, is_new] = what.empty() ? std::pair(places.end(), true) : places.emplace(what, lines.size());
      if (is_new) {
        lines.push_back(line);
      } else {
        lines[place->second] = line;
      }
    }
  };
  add(old), add(found);
  std::string out;
  for (const std::string& line : lines) out += line + '\n';
  return out;
}

std::string add_tuning(const std::string& path, const std::string& found) {
  std::ostringstream old;
  if (std::filesystem::exists(path)) {
    std::ifstream file(path);
    if (!(old << file.rdbuf()) && file.peek() != std::ifstream::traits_type::eof()) {
      throw Error(Code::io_error, cat(path, " cannot be read: give another file for what was measured"));
    }
  }
  std::string text = merge_tuning(old.str(), found);
  const std::string beside = path + ".new";
  std::error_code error;
  {
    std::ofstream file(beside, std::ios::binary);
    file << text;
    if (!file.flush()) error = std::make_error_code(std::errc::io_error);
  }
  if (!error) std::filesystem::rename(beside, path, error);
  if (error) {
    std::error_code ignored;
    std::filesystem::remove(beside, ignored);
    throw Error(Code::io_error, cat(path, " cannot be written: give a file in a folder that can"));
  }
  return text;
}

}  // namespace tandem::backend
