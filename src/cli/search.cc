// tandem search: the pictures of a folder that fit a text, or look like a picture, best.
#include <iomanip>

#include "base/strings.h"
#include "cli/commands.h"
#include "cli/jobs.h"
#include "embed/json_text.h"
#include "search/exact_index.h"

namespace tandem::cli {
namespace {

struct Options {
  CommonOptions common;
  std::string query, like;
  std::vector<std::string> images;
  int top = 10, batch = 0;
};

// Keeps the vectors that succeeded in an index, and who they are.
class IndexSink : public embed::Sink {
 public:
  explicit IndexSink(std::size_t dim) : index(dim) {}
  void take(const embed::Item& item, const Embedding& vector) override {
    if (vector.error) {
      failed.emplace_back(item.input, *vector.error);
    } else {
      index.add(vector.values);
      inputs.push_back(item.input);
    }
  }
  void finish() override {}

  search::ExactIndex index;
  std::vector<std::string> inputs;  // of the index's rows
  std::vector<std::pair<std::string, ItemError>> failed;
};

// The query's vector. The query is not one of many items: when it fails, the command fails.
std::vector<float> embed_query(Engine& engine, const Options& options) {
  std::vector<Embedding> found;
  if (options.like.empty()) {
    const TextInput text = options.query;
    found = engine.embed_texts(std::span(&text, 1));
  } else {
    const ImageInput image = read_image(options.like);
    found = engine.embed_images(std::span(&image, 1));
  }
  Embedding& vector = found.at(0);
  if (vector.error) {
    throw Error(vector.error->code,
                cat("the query ", options.like.empty() ? options.query : options.like, ": ", vector.error->message));
  }
  return std::move(vector.values);
}

std::string hit_line(std::size_t rank, const std::string& input, float score, bool json) {
  if (!json) {
    std::ostringstream out;
    out << std::setw(4) << rank << "  " << std::fixed << std::setprecision(4) << score << "  " << input << '\n';
    return out.str();
  }
  std::string line = cat("{\"rank\":", rank, ",\"input\":");
  embed::append_json(line, input);
  line += ",\"score\":";
  embed::append_json(line, score);
  return line + "}\n";
}

// The hits, best first; for scripts, what failed as well.
void print_hits(const IndexSink& sink, const std::vector<float>& query, std::size_t top, Console& console) {
  std::size_t rank = 0;
  for (const auto& hit : sink.index.search(query, top)) {
    console.print(hit_line(++rank, sink.inputs[hit.row], hit.score, console.json));
  }
  if (!console.json) return;
  for (const auto& [input, error] : sink.failed) {
    std::string line = "{\"input\":";
    embed::append_json(line, input);
    line += ",\"error\":";
    embed::append_json(line, error);
    console.print(line + "}\n");
  }
}

int run(Options options, Console& console) {
  if (options.query.empty() == options.like.empty()) {
    throw UsageError(options.like.empty() ? "no query: give a text, or --like PICTURE"
                                          : "give a text or --like PICTURE as the query, not both");
  }
  if (options.images.empty()) throw UsageError("no pictures to search: give --images FOLDER");
  StopScope stop;
  const auto source = open_inputs(options.images, "", embed::TextFormat::automatic, stop);
  options.common.engine.max_batch = options.batch;
  options.common.engine.load_text = options.like.empty();
  if (options.like.empty()) require_tokenizer(options.common);
  const LoadedEngine engine = load_engine(options.common, console);
  stop.arm();
  const std::vector<float> query = embed_query(*engine, options);
  IndexSink sink(query.size());
  return run_items(*engine, *source, sink, {}, stop, console, [&](const embed::JobReport&) {
    print_hits(sink, query, static_cast<std::size_t>(options.top), console);
  });
}

}  // namespace

Command declare_search(CLI::App& root) {
  CLI::App* app = root.add_subcommand("search", "the pictures that fit a text, or look like a picture, best");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  flags.text("QUERY", options->query, "what to look for");
  flags.text("--like", options->like, "a picture to look for instead of a text");
  flags.repeated("--images", options->images, "a folder, file or pattern; repeatable");
  flags.number("--top", options->top, 1, 1 << 30, "hits to show")->default_str("10");
  flags.number("--batch", options->batch, 1, 65536, "pictures in a forward pass; default: chosen");
  declare_common(*app, options->common);
  app->footer("Example:\n  tandem search \"a red heart\" --images photos/ --top 5");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
