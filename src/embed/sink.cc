#include "embed/sink.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <optional>

#include "base/strings.h"
#include "embed/json_text.h"
#include "embed/output_file.h"
#include "embed/safetensors_writer.h"
#include "tandem/error.h"

namespace tandem::embed {
namespace {

static_assert(std::endian::native == std::endian::little, "vectors are written as they lie in memory");

void open_line(std::string& line, const Item& item) {
  line += "{\"input\":";
  append_json(line, item.input);
  line += ",\"kind\":\"";
  line += kind_name(item.kind);
  line += '"';
}

void close_line(std::string& line, const std::string& provenance) {
  line += provenance;
  line += "}\n";
}

class JsonlSink : public Sink {
 public:
  JsonlSink(const std::string& path, const Provenance* provenance)
      : provenance_(provenance != nullptr ? provenance->json_fields() : "") {
    if (!path.empty()) file_.emplace(path);
  }

  void take(const Item& item, const Embedding& vector) override {
    open_line(lines_, item);
    if (vector.error) {
      lines_ += ",\"error\":";
      append_json(lines_, *vector.error);
    } else {
      lines_ += ",\"embedding\":";
      append_json(lines_, std::span<const float>(vector.values));
      if (vector.truncated) lines_ += ",\"truncated\":true";
    }
    close_line(lines_, provenance_);
    if (lines_.size() > kFlushBytes) flush();
  }

  void flush() override {
    if (file_) {
      file_->append(lines_);
    } else {
      write_all(STDOUT_FILENO, lines_);
    }
    lines_.clear();
  }

  void finish() override {
    flush();
    if (file_) file_->commit();
  }

 private:
  static constexpr std::size_t kFlushBytes = std::size_t{1} << 18;
  std::string provenance_, lines_;
  std::optional<OutputFile> file_;
};

// NumPy's format 1.0: magic, version, header length, a Python dictionary padded with spaces and a newline so that the
// data starts at a multiple of 64. The number of rows is patched in at the end.
class NpyFile {
 public:
  NpyFile(const std::string& path, std::size_t dim) : file_(path), dim_(dim) { file_.append(header(0)); }
  void append(std::span<const float> row) { file_.append(std::as_bytes(row)); }
  void close(std::size_t rows) {
    file_.patch(0, header(rows));
    file_.sync();
  }
  void commit() { file_.commit(); }

 private:
  std::string header(std::size_t rows) const {
    constexpr std::size_t kBytes = 128;
    std::string text("\x93NUMPY\x01\x00", 8);
    text += static_cast<char>(kBytes - 10);
    text += '\0';
    text += cat("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", dim_, "), }");
    text.resize(kBytes - 1, ' ');
    return text + '\n';
  }

  OutputFile file_;
  std::size_t dim_;
};

class SafetensorsFile {
 public:
  SafetensorsFile(const std::string& path, std::size_t dim, const Provenance& provenance)
      : writer_(path, metadata(provenance), SafetensorsWriter::entry_room(kName, 2)), dim_(dim) {}
  void append(std::span<const float> row) { writer_.append(std::as_bytes(row)); }
  void close(std::size_t rows) {
    writer_.describe(kName, "F32", {rows, dim_});
    writer_.close();
  }
  void commit() { writer_.commit(); }

 private:
  static constexpr const char* kName = "embeddings";
  static std::map<std::string, std::string> metadata(const Provenance& provenance) {
    std::map<std::string, std::string> all(provenance.fields.begin(), provenance.fields.end());
    all["normalized"] = provenance.normalized ? "true" : "false";
    return all;
  }

  SafetensorsWriter writer_;
  std::size_t dim_;
};

template <class File>
class MatrixSink : public Sink {
 public:
  template <class... Arguments>
  MatrixSink(const std::string& path, std::size_t dim, const Provenance& provenance, const Arguments&... arguments)
      : dim_(dim),
        provenance_(provenance.json_fields()),
        file_(path, dim, arguments...),
        items_(path + ".items.jsonl") {}

  void take(const Item& item, const Embedding& vector) override {
    line_.clear();
    open_line(line_, item);
    if (vector.error) {
      line_ += ",\"error\":";
      append_json(line_, *vector.error);
    } else {
      if (vector.values.size() != dim_) {
        throw Error(Code::internal, cat("a vector of ", vector.values.size(), " values for a matrix of ", dim_));
      }
      file_.append(std::span<const float>(vector.values));
      line_ += cat(",\"row\":", rows_++);
      if (vector.truncated) line_ += ",\"truncated\":true";
    }
    close_line(line_, provenance_);
    items_.append(line_);
  }

  void finish() override {
    // What may fail (a full disk) before either name appears; then the list first: where the matrix exists, what its
    // rows mean is known.
    file_.close(rows_);
    items_.commit();
    file_.commit();
  }

 private:
  std::size_t dim_, rows_ = 0;
  std::string provenance_, line_;
  File file_;
  OutputFile items_;
};

}  // namespace

std::string Provenance::json_fields() const {
  std::string out;
  for (const auto& [key, value] : fields) {
    out += ',';
    append_json(out, key);
    out += ':';
    append_json(out, value);
  }
  out += normalized ? ",\"normalized\":true" : ",\"normalized\":false";
  return out;
}

OutputFormat output_format(const std::string& path) {
  std::string extension = std::filesystem::path(path).extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  if (extension == ".jsonl") return OutputFormat::jsonl;
  if (extension == ".npy") return OutputFormat::npy;
  if (extension == ".safetensors") return OutputFormat::safetensors;
  throw Error(Code::invalid_argument,
              cat("the output ", path, " ends in none of .jsonl, .npy, .safetensors: choose one of them"));
}

std::unique_ptr<Sink> make_jsonl_sink(const std::string& path, const Provenance* provenance) {
  return std::make_unique<JsonlSink>(path, provenance);
}

std::unique_ptr<Sink> make_matrix_sink(const std::string& path, OutputFormat format, std::size_t dim,
                                       const Provenance& provenance) {
  if (format == OutputFormat::npy) return std::make_unique<MatrixSink<NpyFile>>(path, dim, provenance);
  return std::make_unique<MatrixSink<SafetensorsFile>>(path, dim, provenance, provenance);
}

}  // namespace tandem::embed
