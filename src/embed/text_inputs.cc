#include "embed/text_inputs.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

TextFormat format_of(const std::string& path) {
  std::string extension = path == "-" ? "" : std::filesystem::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (extension.empty()) return TextFormat::automatic;
  if (extension == ".txt") return TextFormat::lines;
  if (extension == ".jsonl" || extension == ".ndjson") return TextFormat::jsonl;
  throw Error(Code::invalid_argument, cat("texts in ", path, ": the extension ", extension,
                                          " is unknown: use .txt (a text a line) or .jsonl, or say --text-format"));
}

// The text of a JSON Lines object, or why there is none.
bool read_object(std::string_view line, std::string& text, std::string& problem) {
  try {
    const auto object = nlohmann::json::parse(line);
    if (!object.is_object()) {
      problem = cat("a JSON ", object.type_name(), " where an object with \"text\" was expected");
      return false;
    }
    const auto found = object.find("text");
    if (found == object.end()) {
      problem = "the object has no \"text\"";
      return false;
    }
    if (!found->is_string()) {
      problem = cat("\"text\" is a JSON ", found->type_name(), ", not a string");
      return false;
    }
    text = found->get<std::string>();
    return true;
  } catch (const nlohmann::json::parse_error& e) {
    problem = cat("not valid JSON near byte ", e.byte);
  } catch (const nlohmann::json::out_of_range&) {
    problem = "a number in it is out of range";
  } catch (const nlohmann::json::exception&) {
    problem = "not valid JSON";
  }
  return false;
}

}  // namespace

TextFormat parse_text_format(std::string_view name) {
  if (name == "auto") return TextFormat::automatic;
  if (name == "txt") return TextFormat::lines;
  if (name == "jsonl") return TextFormat::jsonl;
  throw Error(Code::invalid_argument, cat("text format '", name, "' is unknown: choose one of auto, txt, jsonl"));
}

TextInputs::TextInputs(const std::string& path, TextFormat format, StopFlag stop)
    : format_(format == TextFormat::automatic ? format_of(path) : format), lines_(path, stop) {}

bool TextInputs::next(Item& item) {
  item.kind = Kind::text;
  item.error.reset();
  std::string_view line;
  while (lines_.next(line)) {
    if (lines_.cut()) {
      item.input.assign(line.substr(0, 200));
      item.error = ItemError{Code::too_large, cat(lines_.name(), " line ", lines_.number(), ": longer than 64 MiB")};
      return true;
    }
    std::string problem;
    if (format_ == TextFormat::automatic) {
      format_ = read_object(line, item.input, problem) ? TextFormat::jsonl : TextFormat::lines;
    }
    if (format_ == TextFormat::lines) {
      item.input.assign(line);
      return true;
    }
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    if (!read_object(line, item.input, problem)) {
      item.input.assign(line);
      item.error = ItemError{Code::bad_data, cat(lines_.name(), " line ", lines_.number(), ": ", problem)};
    }
    return true;
  }
  return false;
}

}  // namespace tandem::embed
