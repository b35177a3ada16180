// Any bytes as a tokenizer's files. The first byte chooses the format; a zero byte separates files that belong
// together.
#include <cstdint>
#include <string>
#include <vector>

#include "tandem/error.h"
#include "text/vocabulary.h"

using namespace tandem::text;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::vector<std::string> files(1);
  for (std::size_t i = 1; i < size; ++i) {
    if (data[i] == 0)
      files.emplace_back();
    else
      files.back() += static_cast<char>(data[i]);
  }
  files.resize(5);
  try {
    switch (data[0] % 3) {
      case 0: parse_tokenizer_json(files[0], {files[1], files[2], files[3]}, "tokenizer.json"); break;
      case 1:
        parse_vocab_and_merges(files[0], files[1], {files[2], files[3], files[4]}, "vocab.json", "merges.txt");
        break;
      default: parse_openai_merges(files[0], "merges.gz");
    }
  } catch (const tandem::Error&) {
    // The one exception that callers are promised; any other ends the run.
  }
  return 0;
}
