// Which files a path stands for, and their bytes. Formats are vocabulary.cc's business.
#include <zlib.h>

#include <array>
#include <memory>

#include "base/mapped_file.h"
#include "base/strings.h"
#include "tandem/error.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace tandem::text {
namespace {

namespace fs = std::filesystem;

constexpr const char* kVocab = "vocab.json";
constexpr const char* kMerges = "merges.txt";
constexpr const char* kTokenizer = "tokenizer.json";
constexpr const char* kOpenAi = "bpe_simple_vocab_16e6.txt.gz";
constexpr std::size_t kLargestFile = std::size_t{256} << 20;

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

std::string read_file(const fs::path& path) {
  const MappedFile file(path);
  if (file.bytes().size() > kLargestFile)
    throw Error(Code::too_large,
                cat(path.string(), ": ", file.bytes().size(), " bytes; tokenizer files have at most ", kLargestFile));
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string read_if_there(const fs::path& path) {
  return is_file(path) ? read_file(path) : std::string();
}

std::string read_gzip(const fs::path& path) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) throw Error(Code::io_error, cat(path.string(), ": cannot be opened"));
  std::string out;
  std::array<char, 1 << 16> buffer;
  for (;;) {
    const int n = gzread(file.get(), buffer.data(), buffer.size());
    int status = Z_OK;
    const char* message = gzerror(file.get(), &status);
    // zlib reports a file that stops early only here, after giving what it could.
    if (n < 0 || status == Z_BUF_ERROR)
      throw Error(Code::bad_data, cat(path.string(), ": not a whole gzip file: ", message));
    if (gzdirect(file.get()) != 0) throw Error(Code::bad_data, cat(path.string(), ": not a gzip file"));
    if (n == 0) return out;
    out.append(buffer.data(), static_cast<std::size_t>(n));
    if (out.size() > kLargestFile)
      throw Error(Code::too_large, cat(path.string(), ": unpacks to more than ", kLargestFile, " bytes"));
  }
}

SpecialTokenFiles special_files(const fs::path& folder) {
  return {read_if_there(folder / "tokenizer_config.json"), read_if_there(folder / "special_tokens_map.json"),
          read_if_there(folder / "added_tokens.json")};
}

Vocabulary read_tokenizer_json(const fs::path& file) {
  return parse_tokenizer_json(read_file(file), special_files(file.parent_path()), file.string());
}

Vocabulary read_vocab_and_merges(const fs::path& folder) {
  for (const auto& [wanted, other] : {std::pair{kVocab, kMerges}, std::pair{kMerges, kVocab}})
    if (!is_file(folder / wanted))
      throw Error(Code::not_found,
                  cat((folder / wanted).string(), ": missing; it belongs to the ", other, " beside it"));
  return parse_vocab_and_merges(read_file(folder / kVocab), read_file(folder / kMerges), special_files(folder),
                                (folder / kVocab).string(), (folder / kMerges).string());
}

Vocabulary read_openai(const fs::path& file) {
  return parse_openai_merges(read_gzip(file), file.string());
}

}  // namespace

Vocabulary read_vocabulary(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (is_file(path / kTokenizer)) return read_tokenizer_json(path / kTokenizer);
    if (is_file(path / kVocab) || is_file(path / kMerges)) return read_vocab_and_merges(path);
    if (is_file(path / kOpenAi)) return read_openai(path / kOpenAi);
    throw Error(Code::not_found, cat(path.string(), ": no tokenizer here; put ", kTokenizer, ", or ", kVocab, " and ",
                                     kMerges, ", or ", kOpenAi, " there"));
  }
  if (!is_file(path)) throw Error(Code::not_found, cat(path.string(), ": no such file or folder"));
  if (path.extension() == ".gz") return read_openai(path);
  if (path.filename() == kVocab || path.filename() == kMerges) return read_vocab_and_merges(path.parent_path());
  if (path.extension() == ".json") return read_tokenizer_json(path);
  throw Error(Code::unsupported, cat(path.string(), ": not a tokenizer file by its name; known are ", kTokenizer, ", ",
                                     kVocab, ", ", kMerges, " and ", kOpenAi));
}

bool has_tokenizer(const fs::path& folder) {
  return is_file(folder / kTokenizer) || (is_file(folder / kVocab) && is_file(folder / kMerges)) ||
         is_file(folder / kOpenAi);
}

}  // namespace tandem::text
