#include "loadtest/requests.h"

#include <array>
#include <deque>

#include "base/base64.h"
#include "base/strings.h"
#include "tandem/error.h"

namespace tandem::loadtest {
namespace {

// A JPEG may hold a comment right behind its first marker. Twelve letters there make a file that is new to every cache
// and decodes to the same pixels. They begin at byte 6, which is character 8 of its base64.
constexpr std::size_t kComment = 12, kCommentAt = 6;

std::string with_comment(const std::string& jpeg) {
  std::string out = jpeg.substr(0, 2);
  out += {'\xff', '\xfe', '\0', static_cast<char>(kComment + 2)};
  return out.append(kComment, 'x').append(jpeg, 2);
}

void append_fresh(std::string& out, std::size_t count, Random& random) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  for (std::size_t i = 0; i < count; ++i) out += kLetters[random.below(kLetters.size())];
}

// NumPy's format 1.0: magic, version, length of the header, and the header padded to a multiple of 64 bytes.
std::string npy_head(int items, int side) {
  std::string header =
      cat("{'descr': '|u1', 'fortran_order': False, 'shape': (", items, ", ", side, ", ", side, ", 3), }");
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string out = "\x93NUMPY";
  out += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  return out + header;
}

// The begin of a body in OpenAI's shape, up to its inputs.
std::string json_head(const std::string& model) {
  return cat("{", model.empty() ? "" : cat(R"("model":")", model, R"(",)"), R"("encoding_format":"base64","input":[)");
}

}  // namespace

Body parse_body(std::string_view name) {
  if (name == "json") return Body::json;
  if (name == "raw") return Body::raw;
  if (name == "pixels") return Body::pixels;
  throw Error(Code::invalid_argument, cat("body '", name, "' is unknown: choose one of json, raw, pixels"));
}

// Pieces while `own` still grows: those of one's own are offsets until the end.
struct Mix::Building {
  struct Piece {
    const char* shared;
    std::size_t offset, size;
  };
  std::unique_ptr<Outgoing> request = std::make_unique<Outgoing>();
  std::deque<Piece> pieces;
  std::string type = "application/json", accept = "application/json";

  void share(std::string_view bytes) {
    if (!bytes.empty()) pieces.push_back({bytes.data(), 0, bytes.size()});
  }
  // What `append` adds to the request's own bytes.
  template <class Append>
  void add(Append append) {
    std::string& own = request->own;
    const std::size_t begin = own.size();
    append(own);
    pieces.push_back({nullptr, begin, own.size() - begin});
  }
  void add_text(std::string_view bytes) {
    add([&](std::string& out) { out += bytes; });
  }
};

Mix::Mix(MixOptions options, std::string path, std::string authority)
    : options_(std::move(options)), path_(std::move(path)), authority_(std::move(authority)) {
  const Body body = options_.body;
  if (options_.model.find_first_of("\"\\") != std::string::npos)
    throw Error(Code::invalid_argument, cat("the model's name '", options_.model, "' holds a quote or a backslash"));
  if (body == Body::custom || body == Body::get) return;
  if (body == Body::raw && options_.items != 1)
    throw Error(Code::invalid_argument,
                cat("a raw body holds one picture, not ", options_.items, ": use another body"));
  if (body == Body::pixels && !options_.corpus.folder.empty())
    throw Error(Code::invalid_argument, "pixels are made from the seed: leave the folder of pictures out");
  const CorpusOptions& corpus = options_.corpus;
  texts_ = make_texts(256, corpus.seed);
  if (options_.texts >= 1) return;
  if (body == Body::pixels) {
    npy_head_ = npy_head(options_.items, corpus.side);
    for (int i = 0; i < corpus.pictures; ++i)
      pictures_.push_back({make_pixels(corpus.side, corpus.seed + static_cast<std::uint64_t>(i)), {}, 0, kComment});
  } else {
    const std::vector<Picture> pictures = corpus.folder.empty()
                                              ? make_pictures(corpus)
                                              : read_pictures(corpus.folder, static_cast<std::size_t>(corpus.pictures));
    for (const Picture& picture : pictures) pictures_.push_back(wire_of(picture, true));
    for (std::size_t i = 0; i < pictures.size() && options_.corrupt > 0; i += 4) {
      for (const Picture& bad : corrupt(pictures[i], corpus.seed + i)) corrupt_.push_back(wire_of(bad, false));
    }
  }
  for (const Wire& wire : pictures_) picture_bytes_ += static_cast<double>(wire.bytes.size());
  picture_bytes_ /= static_cast<double>(pictures_.size());
}

Mix::Wire Mix::wire_of(const Picture& picture, bool fresh) const {
  const bool marked = fresh && picture.bytes.starts_with("\xff\xd8");
  const std::string bytes = marked ? with_comment(picture.bytes) : picture.bytes;
  Wire wire{{}, "image/" + picture.type};
  if (options_.body == Body::raw) {
    wire.bytes = bytes;
    wire.fresh_at = kCommentAt;
    wire.fresh_size = marked ? kComment : 0;
  } else {
    wire.bytes = cat("\"data:image/", picture.type, ";base64,");
    wire.fresh_at = wire.bytes.size() + kCommentAt / 3 * 4;
    wire.fresh_size = marked ? kComment / 3 * 4 : 0;
    append_base64(std::as_bytes(std::span(bytes)), wire.bytes);
    wire.bytes += '"';
  }
  return wire;
}

void Mix::add_item(Building& building, const Wire& wire, Random& random) const {
  const std::string_view bytes = wire.bytes;
  if (options_.repeat || wire.fresh_size == 0) return building.share(bytes);
  building.share(bytes.substr(0, wire.fresh_at));
  building.add([&](std::string& own) { append_fresh(own, wire.fresh_size, random); });
  building.share(bytes.substr(wire.fresh_at + wire.fresh_size));
}

void Mix::add_pictures(Building& building, Random& random) const {
  Outgoing& request = *building.request;
  request.kind = Kind::image;
  const auto pick = [&]() -> const Wire& {
    if (random.share() >= options_.corrupt || corrupt_.empty()) return pictures_[random.below(pictures_.size())];
    request.expect = Expect::refusal;
    return corrupt_[random.below(corrupt_.size())];
  };
  if (options_.body == Body::raw) {
    const Wire& wire = pick();
    building.type = wire.type;
    building.accept = "application/x-npy";
    return add_item(building, wire, random);
  }
  if (options_.body == Body::pixels) {
    building.type = building.accept = "application/x-npy";
    building.share(npy_head_);
    for (int i = 0; i < options_.items; ++i) add_item(building, pictures_[random.below(pictures_.size())], random);
    if (random.share() < options_.corrupt) {  // shorter than its head says
      request.expect = Expect::refusal;
      building.pieces.pop_back();
    }
    return;
  }
  building.add_text(json_head(options_.model));
  for (int i = 0; i < options_.items; ++i) {
    if (i > 0) building.share(",");
    add_item(building, pick(), random);
  }
  building.share("]}");
}

void Mix::add_texts(Building& building, Random& random) const {
  building.request->kind = Kind::text;
  building.add([&](std::string& own) {
    own += json_head(options_.model);
    for (int i = 0; i < options_.items; ++i) {
      if (i > 0) own += ',';
      own += '"';
      own += options_.repeat ? texts_[random.below(texts_.size())] : make_texts(1, random.next()).front();
      own += '"';
    }
    own += "]}";
  });
}

std::unique_ptr<Outgoing> Mix::next(Random& random) const {
  Building building;
  const Body body = options_.body;
  if (body == Body::custom) {
    building.share(options_.custom);
    building.type = options_.custom_type;
    building.accept = "*/*";
  } else if (body == Body::get) {
    building.accept = "*/*";
  } else {
    building.request->items = options_.items;
    random.share() < options_.texts ? add_texts(building, random) : add_pictures(building, random);
  }
  Outgoing& request = *building.request;
  for (const auto& piece : building.pieces) {
    request.body.emplace_back(piece.shared != nullptr ? piece.shared : request.own.data() + piece.offset, piece.size);
    request.body_bytes += piece.size;
  }
  request.head = cat(body == Body::get ? "GET " : "POST ", path_, " HTTP/1.1\r\nHost: ", authority_,
                     "\r\nUser-Agent: tandem-loadtest\r\nAccept: ", building.accept);
  if (body != Body::get)
    request.head += cat("\r\nContent-Type: ", building.type, "\r\nContent-Length: ", request.body_bytes);
  for (const auto& [name, value] : options_.headers) request.head += cat("\r\n", name, ": ", value);
  request.head += "\r\n\r\n";
  return std::move(building.request);
}

}  // namespace tandem::loadtest
