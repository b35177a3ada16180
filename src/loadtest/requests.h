// From the corpus to the bytes of a request, made without copying pictures: a request is a list of pieces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loadtest/corpus.h"
#include "loadtest/random.h"

namespace tandem::loadtest {

enum class Body : std::uint8_t {
  json,    ///< POST in OpenAI's shape: texts, and pictures as data URIs; vectors come back as base64
  raw,     ///< the picture's file itself, with its own content type; texts as json
  pixels,  ///< an .npy of uint8 [items, side, side, 3]; texts as json
  custom,  ///< the same bytes every time
  get      ///< GET without a body
};

/// Throws invalid_argument for another word than json, raw, pixels.
Body parse_body(std::string_view name);

struct MixOptions {
  CorpusOptions corpus;
  Body body = Body::json;
  double texts = 0;     ///< share of the requests that hold texts, the others hold pictures
  double corrupt = 0;   ///< share of the pictures that are no pictures; a request with one must be refused with a 4xx
  int items = 1;        ///< of a request
  bool repeat = false;  ///< the same inputs again and again, so that caches answer; otherwise no two are alike
  std::string model;    ///< the `model` field; empty: none
  std::string custom, custom_type = "application/json";      ///< body and content type of Body::custom
  std::vector<std::pair<std::string, std::string>> headers;  ///< more of them
};

enum class Kind : std::uint8_t { image, text, other };
enum class Expect : std::uint8_t { answer, refusal };

/// A request ready to be written. Its pieces point into it and into the mix: both must live until it is sent.
struct Outgoing {
  std::string head;
  std::vector<std::string_view> body;  ///< in order
  std::size_t body_bytes = 0;
  Kind kind = Kind::other;
  Expect expect = Expect::answer;
  int items = 0;  ///< vectors that the answer must hold; 0: its content is not looked at

  std::string own;  ///< what `body` has of its own
};

/// Everything that can be made before the first request. Immutable, shared by threads.
class Mix {
 public:
  /// Throws invalid_argument (options that do not go together), not_found, io_error (the folder).
  Mix(MixOptions options, std::string path, std::string authority);

  const MixOptions& options() const noexcept { return options_; }
  /// Pictures in it, and their mean size in bytes.
  std::size_t pictures() const noexcept { return pictures_.size(); }
  double picture_bytes() const noexcept { return picture_bytes_; }

  /// The next request; `random` decides everything. The result must stay where it is (it points into itself).
  std::unique_ptr<Outgoing> next(Random& random) const;

 private:
  // An item as it is sent; `fresh_size` characters at `fresh_at` may be any letters and digits.
  struct Wire {
    std::string bytes, type;
    std::size_t fresh_at = 0, fresh_size = 0;
  };
  struct Building;

  Wire wire_of(const Picture& picture, bool fresh) const;
  void add_item(Building& building, const Wire& wire, Random& random) const;
  void add_pictures(Building& building, Random& random) const;
  void add_texts(Building& building, Random& random) const;

  MixOptions options_;
  std::string path_, authority_;
  std::vector<Wire> pictures_, corrupt_;
  std::vector<std::string> texts_;
  std::string npy_head_;
  double picture_bytes_ = 0;
};

}  // namespace tandem::loadtest
