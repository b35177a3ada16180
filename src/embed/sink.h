// Where vectors go: JSON Lines, NumPy or safetensors.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "embed/item.h"

namespace tandem::embed {

/// Takes results in the order of the items. One thread.
class Sink {
 public:
  virtual ~Sink() = default;
  /// vector.error says why there is none; the sink records that too.
  virtual void take(const Item& item, const Embedding& vector) = 0;
  /// Results so far become visible, where that makes sense (a stream); called now and then.
  virtual void flush() {}
  /// All items were taken: files get their names. A sink destroyed without it leaves no file behind.
  virtual void finish() = 0;
};

/// How the vectors came to be; written beside them.
struct Provenance {
  std::vector<std::pair<std::string, std::string>> fields;  ///< "model_hash", "precision", … in this order
  bool normalized = true;

  /// ,"model_hash":"…",…,"normalized":true: to be put before a JSON object's closing brace.
  std::string json_fields() const;
};

enum class OutputFormat : std::uint8_t { jsonl, npy, safetensors };

/// By the name's extension; throws invalid_argument naming the choices.
OutputFormat output_format(const std::string& path);

/// {"input","kind","embedding"} or {"input","kind","error"} a line. path "": standard output. provenance may be null.
std::unique_ptr<Sink> make_jsonl_sink(const std::string& path, const Provenance* provenance);

/// A float32 matrix [rows that succeeded, dim] (.npy version 1.0, or tensor "embeddings" with the provenance in
/// __metadata__), and PATH.items.jsonl, which says of every item its row or its error, with the provenance.
std::unique_ptr<Sink> make_matrix_sink(const std::string& path, OutputFormat format, std::size_t dim,
                                       const Provenance& provenance);

}  // namespace tandem::embed
