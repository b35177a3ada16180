// Texts from a file or standard input: plain lines, or JSON Lines.
#pragma once

#include <string>
#include <string_view>

#include "embed/item.h"
#include "embed/line_reader.h"

namespace tandem::embed {

enum class TextFormat : std::uint8_t {
  automatic,  ///< by the name; where that says nothing (standard input, no extension) by the first line
  lines,      ///< every line is a text, empty ones too
  jsonl,      ///< every line is an object with a string "text"; blank lines are skipped
};

/// "auto", "txt", "jsonl"; throws invalid_argument naming the choices.
TextFormat parse_text_format(std::string_view name);

/// Lines end with "\n" or "\r\n"; the last needs no end. A line that is not such an object is an item with its error
/// (its input is the line as it was read), and the lines after it are read all the same.
class TextInputs : public ItemSource {
 public:
  /// path "-": standard input. Throws not_found, io_error, and invalid_argument for a name whose extension is neither
  /// .txt nor .jsonl (.ndjson) while the format is automatic.
  explicit TextInputs(const std::string& path, TextFormat format = TextFormat::automatic, StopFlag stop = nullptr);

  bool next(Item& item) override;

 private:
  TextFormat format_;  // before the file: a name that cannot be meant is refused before it is opened
  LineReader lines_;
};

}  // namespace tandem::embed
