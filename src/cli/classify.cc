// tandem classify: which of some labels fits a picture best.
#include <deque>
#include <future>
#include <iomanip>

#include "base/strings.h"
#include "cli/commands.h"
#include "cli/jobs.h"
#include "cli/progress.h"
#include "embed/image_inputs.h"
#include "embed/json_text.h"
#include "hub/demo_names.h"
#include "tandem/zero_shot.h"

namespace tandem::cli {
namespace {

constexpr std::size_t kChunk = 32;  // pictures classified together
constexpr std::size_t kFlying = 2;  // one is decoded while the other computes

struct Options {
  CommonOptions common;
  std::vector<std::string> images, templates;
  std::string labels, labels_file;
  const CLI::Option* labels_flag = nullptr;  // --labels "" is an empty list, not a missing one
  int top = 0, batch = 0;
};

// The demo model comes with the names it was trained on; other models know no labels of their own.
std::vector<std::string> labels_of_model(const CommonOptions& common) {
  const model::ModelFiles files = open_model(common);
  if (!files.knows_photographs) return hub::read_demo_names(files.folder).names;
  throw UsageError(
      cat("model ", common.engine.model, " has no labels of its own: give --labels a,b,c or --labels-file F"));
}

std::vector<std::string> find_labels(const Options& options) {
  const bool listed = options.labels_flag->count() > 0, from_file = !options.labels_file.empty();
  if (listed && from_file) throw UsageError("give --labels or --labels-file, not both");
  if (!listed && !from_file) return labels_of_model(options.common);
  auto labels = from_file ? read_lines(options.labels_file) : split_list(options.labels);
  if (labels.empty()) {
    throw UsageError(from_file ? cat(options.labels_file, " holds no labels: write one a line")
                               : "--labels is empty: give names with commas between them");
  }
  return labels;
}

std::string line_for_scripts(const embed::Item& item, const Classification& result, const LabelSet& set) {
  std::string line = "{\"input\":";
  embed::append_json(line, item.input);
  if (result.error) {
    line += ",\"error\":";
    embed::append_json(line, *result.error);
    return line + "}\n";
  }
  line += ",\"labels\":[";
  bool first = true;
  for (const LabelScore& score : result.labels) {
    line += first ? "{\"label\":" : ",{\"label\":";
    first = false;
    embed::append_json(line, set.labels[score.label]);
    line += ",\"probability\":";
    embed::append_json(line, score.probability);
    line += ",\"logit\":";
    embed::append_json(line, score.logit);
    line += '}';
  }
  return line + "]}\n";
}

std::string lines_for_people(const embed::Item& item, const Classification& result, const LabelSet& set) {
  if (result.error) return "";
  std::ostringstream out;
  out << item.input << '\n' << std::fixed << std::setprecision(1);
  for (const LabelScore& score : result.labels) {
    out << std::setw(7) << 100 * score.probability << " %  " << set.labels[score.label] << '\n';
  }
  return out.str();
}

struct Chunk {
  std::vector<embed::Item> items;
  std::future<Response> response;  // of those without an error; none where there is no such item
};

// Reads the next pictures and starts on those that can be read.
Chunk start_chunk(embed::ItemSource& source, Engine& engine) {
  Chunk chunk;
  Request request;
  embed::Item item;
  while (chunk.items.size() < kChunk && source.next(item)) {
    if (!item.error) {
      try {
        request.images.emplace_back(read_image(item.input));
      } catch (const Error& e) {
        item.error = ItemError{e.code(), e.what()};
      }
    }
    chunk.items.push_back(std::move(item));
  }
  if (!request.images.empty()) chunk.response = engine.submit(std::move(request));
  return chunk;
}

int run(Options options, Console& console) {
  if (options.images.empty()) throw UsageError("no pictures: give files, folders or patterns");
  for (const std::string& t : options.templates) {
    if (t.find("{}") == std::string::npos) throw UsageError(cat("template '", t, "' lacks {}, where the label goes"));
  }
  const StopScope stop;
  const std::vector<std::string> names = find_labels(options);
  embed::ImageInputs source(options.images, stop.flag());
  options.common.engine.max_batch = options.batch;
  require_tokenizer(options.common);
  const LoadedEngine engine = load_engine(options.common, console);
  if (options.templates.empty() && engine->info().knows_photographs) options.templates.emplace_back(kPhotoTemplate);
  const LabelSet labels = engine->encode_labels(names, options.templates);
  const auto top = static_cast<std::size_t>(options.top > 0 ? options.top : console.json ? 0 : 5);

  Progress progress(console, "pictures", source.total());
  std::size_t done = 0, failed = 0;
  const auto land = [&](Chunk chunk) {
    const Response response = chunk.response.valid() ? chunk.response.get() : Response{};
    std::size_t next = 0;
    for (const auto& item : chunk.items) {
      Classification result;
      result.error = item.error;
      if (!item.error) {
        const Embedding& image = response.images.at(next++);
        result.error = image.error;
        if (!image.error) result.labels = score_labels(image.values, labels, engine->info().logit_scale, top);
      }
      if (result.error) console.item_failed(item.input, *result.error);
      failed += result.error ? 1 : 0;
      console.print(console.json ? line_for_scripts(item, result, labels) : lines_for_people(item, result, labels));
      progress.update(++done, failed);
    }
    console.flush();
  };
  std::deque<Chunk> flying;
  for (;;) {
    Chunk chunk = start_chunk(source, *engine);
    if (chunk.items.empty()) break;
    flying.push_back(std::move(chunk));
    if (flying.size() < kFlying) continue;
    land(std::move(flying.front()));
    flying.pop_front();
  }
  for (auto& chunk : flying) land(std::move(chunk));
  return console.end_items(done);
}

}  // namespace

Command declare_classify(CLI::App& root) {
  CLI::App* app = root.add_subcommand("classify", "which of some labels fits a picture best, without training");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  declare_pictures(flags, "IMAGE", options->images);
  options->labels_flag =
      flags.text("--labels", options->labels, "names with commas between them; default: the demo model's own");
  flags.text("--labels-file", options->labels_file, "a file with a label a line; - is standard input");
  flags.repeated("--template", options->templates,
                 "a sentence with {} for the label; several are averaged; default: \"a photo of a {}\" (the demo "
                 "model: the label itself)");
  flags.number("--top", options->top, 1, 1 << 30, "labels to show; default: 5, with --json all");
  flags.number("--batch", options->batch, 1, 65536, "pictures in a forward pass; default: chosen");
  declare_common(*app, options->common);
  app->footer("Example:\n  tandem classify --labels \"red heart,green apple\" picture.png");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
