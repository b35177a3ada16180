// tandem verify: how far one way of computing a model is from another one.
#include <algorithm>
#include <cmath>
#include <iomanip>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/strings.h"
#include "cli/bench_inputs.h"
#include "cli/commands.h"
#include "cli/verify_layers.h"
#include "cli/verify_side.h"
#include "engine/backends.h"
#include "hub/demo_names.h"
#include "hub/hub.h"
#include "model/eight_bit.h"
#include "tandem/zero_shot.h"
#include "verify/agreement.h"

namespace tandem::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kTexts = 256;  // that are taken of the demo's names where nobody says which

struct Options {
  CommonOptions common;
  Precision against = Precision::fp32;
  std::string against_model, against_device;
  std::string data, texts, labels, labels_file;
  embed::TextFormat text_format = embed::TextFormat::automatic;
  std::vector<std::string> templates;
  int samples = 0, layer_items = 8, batch = 0, seed = 1;
  bool layers = false;
  double max_difference = 0, min_cosine = -1;
  const CLI::Option *labels_flag = nullptr, *difference_flag = nullptr, *cosine_flag = nullptr;
};

std::vector<std::string> given_labels(const Options& options) {
  const bool listed = options.labels_flag->count() > 0;
  if (listed && !options.labels_file.empty()) throw UsageError("give --labels or --labels-file, not both");
  if (!listed && options.labels_file.empty()) return {};
  auto labels = listed ? split_list(options.labels) : read_lines(options.labels_file);
  if (labels.empty()) throw UsageError("the labels are empty: give names with commas between them, or a line each");
  return labels;
}

/// Texts of a file; a line that is none ends the command, since nothing could be compared for it.
std::vector<std::string> read_texts(const Options& options) {
  embed::TextInputs source(options.texts, options.text_format);
  std::vector<std::string> texts;
  for (embed::Item item; source.next(item);) {
    if (item.error) throw Error(item.error->code, cat(options.texts, ": ", item.error->message));
    texts.push_back(item.input);
  }
  if (texts.empty()) throw Error(Code::bad_data, cat(options.texts, " holds no texts: write one a line"));
  return texts;
}

VerifyInputs make_inputs(const Options& options) {
  const model::ModelFiles files = open_model(options.common);
  VerifyInputs inputs;
  samples::PicturesOptions pictures;
  pictures.count = static_cast<std::size_t>(options.samples), pictures.seed = static_cast<std::uint64_t>(options.seed);
  pictures.side = files.config.vision.image_size;
  pictures.labels = given_labels(options);
  const std::string data = !options.data.empty() ? options.data : files.knows_photographs ? "random" : "emoji";
  inputs.pictures = samples::open_pictures(data, pictures);

  std::vector<std::string> templates = options.templates;
  if (templates.empty()) templates.emplace_back(files.knows_photographs ? kPhotoTemplate : "{}");
  inputs.templates = templates.size();
  const bool words = !files.tokenizer.empty();
  if (!words && (!options.texts.empty() || !pictures.labels.empty()))
    throw Error(Code::not_found, files.tokenizer_help);
  if (words) {
    for (const std::string& label : inputs.labels()) {
      for (const std::string& t : templates) inputs.prompts.emplace_back(fill_template(t, label));
    }
  }
  const auto take = [&](std::string text) {
    inputs.names.push_back(text);
    inputs.texts.emplace_back(std::move(text));
  };
  if (!options.texts.empty()) {
    for (std::string& text : read_texts(options)) take(std::move(text));
  } else if (!inputs.prompts.empty()) {
    inputs.texts_are_prompts = true;
    for (const TextInput& prompt : inputs.prompts) inputs.names.push_back(std::get<std::string>(prompt));
  } else if (words) {
    const auto names = hub::read_demo_names(hub::bundled_models() / "emoji").names;
    for (const std::size_t i : samples::evenly(names.size(), kTexts)) take(names[i]);
  } else {  // any ids will do for comparing
    std::vector<int> lengths;
    for (int n = 4; n <= std::min(24, files.config.text.context_length); ++n) lengths.push_back(n);
    inputs.texts = random_texts(kTexts, lengths, files.config.text);
    for (std::size_t i = 0; i < inputs.texts.size(); ++i) inputs.names.push_back(cat("random ids ", i));
  }
  return inputs;
}

/// The rows of both sides whose inputs neither failed.
struct Rows {
  std::vector<float> got, want;
  std::vector<std::size_t> from;  ///< the input of each row
  verify::VectorPair pair() const { return {got, want}; }
};

Rows common_rows(const SideVectors& got, const SideVectors& want, bool images, std::size_t count) {
  const auto &a = images ? got.images : got.texts, &b = images ? want.images : want.texts;
  const auto &ae = images ? got.image_errors : got.text_errors, &be = images ? want.image_errors : want.text_errors;
  Rows rows;
  for (std::size_t i = 0; i < count; ++i) {
    if (ae[i] || be[i]) continue;
    const auto first = static_cast<std::ptrdiff_t>(i * got.dim), last = static_cast<std::ptrdiff_t>((i + 1) * got.dim);
    rows.got.insert(rows.got.end(), a.begin() + first, a.begin() + last);
    rows.want.insert(rows.want.end(), b.begin() + first, b.begin() + last);
    rows.from.push_back(i);
  }
  return rows;
}

Json describe(const SideVectors& side) {
  const EngineInfo& info = side.info;
  return {{"model", info.model},
          {"model_hash", info.model_hash},
          {"precision", info.precision},
          {"device", info.device},
          {"device_name", info.device_name},
          {"isa", info.isa},
          {"weight_bytes", info.weight_bytes},
          {"eight_bit_share", side.eight_bit_share}};
}

/// Both kinds' figures, as CLI.md names them and more behind.
class Comparison {
 public:
  Comparison(const VerifyInputs& inputs, const SideVectors& got, const SideVectors& want)
      : inputs_(inputs),
        got_(got),
        want_(want),
        images_(common_rows(got, want, true, inputs.pictures->size())),
        texts_(common_rows(got, want, false, inputs.names.size())) {}

  Json line(bool images) const {
    const Rows &rows = images ? images_ : texts_, &others = images ? texts_ : images_;
    const auto close = verify::closeness(rows.got, rows.want, got_.dim);
    const bool same = others.from.empty();
    const auto ranks = verify::rank_agreement(same ? rows.pair() : others.pair(), rows.pair(), got_.dim, same);
    Json line{{"what", images ? "image" : "text"},
              {"items", close.items},
              {"mean_cosine", close.mean_cosine},
              {"min_cosine", close.min_cosine},
              {"p01_cosine", close.p01_cosine},
              {"rank_agreement", nullptr},
              {"top1", nullptr},
              {"top1_reference", nullptr},
              {"top5", nullptr},
              {"top5_reference", nullptr}};
    if (ranks.queries > 0) line["rank_agreement"] = ranks.kendall;
    line["top10_overlap"] = ranks.queries > 0 ? Json(ranks.top10) : Json(nullptr);
    line["queries"] = ranks.queries;
    if (images && !got_.labels.empty()) zero_shot(line);
    line["max_difference"] = close.max_difference;
    line["worst"] = close.items == 0 ? Json(nullptr) : Json(name(images, rows.from[close.worst]));
    line["failed"] = (images ? inputs_.pictures->size() : inputs_.names.size()) - rows.from.size();
    line.update(describe(got_));
    line["against"] = describe(want_);
    return line;
  }

  std::string name(bool images, std::size_t i) const { return images ? inputs_.pictures->name(i) : inputs_.names[i]; }

 private:
  void zero_shot(Json& line) const {
    std::vector<std::vector<std::size_t>> accepted;
    for (const std::size_t i : images_.from) {
      const auto right = inputs_.pictures->accepted(i);
      accepted.emplace_back(right.begin(), right.end());
    }
    const auto got = verify::zero_shot(images_.got, got_.labels, got_.dim, accepted);
    const auto want = verify::zero_shot(images_.want, want_.labels, want_.dim, accepted);
    if (got.labelled == 0) return;
    std::size_t lost = 0, won = 0;
    for (std::size_t i = 0; i < accepted.size(); ++i) {
      lost += want.right[i] && !got.right[i] ? 1 : 0;
      won += !want.right[i] && got.right[i] ? 1 : 0;
    }
    line["top1"] = got.top1, line["top1_reference"] = want.top1;
    line["top5"] = got.top5, line["top5_reference"] = want.top5;
    line["labelled"] = got.labelled, line["labels"] = inputs_.labels().size();
    line["lost"] = lost, line["won"] = won;
  }

  const VerifyInputs& inputs_;
  const SideVectors &got_, &want_;
  Rows images_, texts_;
};

std::string for_people(const Json& line) {
  std::ostringstream out;
  out << std::setprecision(6) << std::left << std::setw(6) << line["what"].get<std::string>() << std::right
      << line["items"] << " items: cosine mean " << line["mean_cosine"].get<double>() << ", 1st percentile "
      << line["p01_cosine"].get<double>() << ", worst " << line["min_cosine"].get<double>();
  if (line["worst"].is_string()) out << " (" << printable(line["worst"].get<std::string>()) << ')';
  out << "; largest difference " << std::setprecision(3) << line["max_difference"].get<double>() << '\n';
  if (!line["rank_agreement"].is_null()) {
    out << "      ranks of " << line["queries"] << " queries: Kendall " << std::setprecision(4)
        << line["rank_agreement"].get<double>() << ", " << 100 * line["top10_overlap"].get<double>()
        << " % of the ten best\n";
  }
  if (!line["top1"].is_null()) {
    out << "      zero-shot over " << line["labels"] << " labels, " << line["labelled"] << " pictures: top-1 "
        << std::setprecision(5) << 100 * line["top1"].get<double>() << " % (reference "
        << 100 * line["top1_reference"].get<double>() << " %; " << line["lost"] << " lost, " << line["won"]
        << " won), top-5 " << 100 * line["top5"].get<double>() << " % (" << 100 * line["top5_reference"].get<double>()
        << " %)\n";
  }
  return out.str();
}

/// What a line misses of what was asked for; empty: nothing.
std::string missed(const Options& options, const Json& line) {
  std::string text;
  const auto say = [&](const char* what, double value, const char* how, double limit) {
    text +=
        cat(text.empty() ? "" : "; ", line["what"].get<std::string>(), " vectors: ", what, " is ", value, how, limit);
  };
  const auto difference = line["max_difference"].get<double>(), cosine = line["min_cosine"].get<double>();
  if (options.difference_flag->count() > 0 && !(difference <= options.max_difference)) {
    say("the largest difference", difference, ", above --max-difference ", options.max_difference);
  }
  if (options.cosine_flag->count() > 0 && !(cosine >= options.min_cosine)) {
    say("the worst cosine", cosine, ", below --min-cosine ", options.min_cosine);
  }
  return text;
}

CommonOptions reference_of(const Options& options) {
  CommonOptions common = options.common;
  common.engine.precision = options.against;
  if (!model::is_eight_bit(options.against)) common.engine.keep.clear(), common.engine.calibration.clear();
  if (!options.against_model.empty()) common.engine.model = options.against_model;
  if (!options.against_device.empty()) {
    common.engine.device = parse_device(options.against_device);
    common.engine.devices.clear();
  }
  return common;
}

int run(Options options, Console& console) {
  for (const std::string& t : options.templates) {
    if (t.find("{}") == std::string::npos) throw UsageError(cat("template '", t, "' lacks {}, where the label goes"));
  }
  if (options.common.engine.devices.size() > 1) throw UsageError("verify compares one device: name one with --device");
  options.common.engine.max_batch = options.batch;
  const StopScope stop;
  const CommonOptions reference = reference_of(options);
  const VerifyInputs inputs = make_inputs(options);
  const auto want = embed_side(reference, inputs, "reference", stop, console);
  if (!want) return stop.exit_code();
  const auto got = embed_side(options.common, inputs, "model", stop, console, options.against_model.empty());
  if (!got) return stop.exit_code();
  if (got->dim != want->dim) {
    throw Error(Code::invalid_argument, cat("vectors of ", got->info.model, " have ", got->dim, " values and those of ",
                                            want->info.model, " ", want->dim, ": they cannot be compared"));
  }
  const Comparison comparison(inputs, *got, *want);
  const auto report_failed = [&](bool images, const auto& ours, const auto& theirs) {
    for (std::size_t i = 0; i < ours.size(); ++i) {
      if (ours[i] || theirs[i]) console.item_failed(comparison.name(images, i), ours[i] ? *ours[i] : *theirs[i]);
    }
  };
  report_failed(true, got->image_errors, want->image_errors);
  report_failed(false, got->text_errors, want->text_errors);

  if (!console.json) {
    console.print(cat(got->info.model, " in ", got->info.precision, " on ", got->info.device, " (", got->info.isa,
                      ") against ", want->info.model, " in ", want->info.precision, " on ", want->info.device, " (",
                      want->info.isa, ")\n"));
  }
  std::string failures;
  for (const bool images : {true, false}) {
    const Json line = comparison.line(images);
    if (line["items"] == 0) continue;
    console.print(console.json ? line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n" : for_people(line));
    const std::string fault = missed(options, line);
    failures += failures.empty() || fault.empty() ? fault : "; " + fault;
  }
  console.flush();
  // A model that failed is looked into unasked: the layer that is wrong is what one wants to know next.
  std::string suspects;
  if (options.layers || !failures.empty()) {
    try {
      const auto layers =
          compare_layers(options.common, reference, inputs, static_cast<std::size_t>(options.layer_items), console);
      if (options.layers) print_layers(layers, console);
      suspects = suspects_text(layers);
    } catch (const Error&) {
      if (options.layers) throw;
    }
  }
  if (!suspects.empty()) {
    failures += cat(failures.empty() ? "" : "; ", "layers that cannot be right: ", suspects);
    if (model::is_eight_bit(parse_precision(got->info.precision))) {
      failures += ": calibrate again, or keep them back with --keep";
    }
  }
  if (!failures.empty()) throw Error(Code::bad_data, failures);
  return console.end_items(inputs.pictures->size() + inputs.names.size());
}

}  // namespace

Command declare_verify(CLI::App& root) {
  CLI::App* app = root.add_subcommand("verify", "how far a precision, device or model is from another one");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  flags.choice("--against", options->against, parse_precision, "the precision to compare with; default: fp32");
  const auto device = [into = &options->against_device](const std::string& word) {
    parse_device(word);
    *into = word;
  };
  flags.single("--against-device", device,
               "the device to compare with, also reference (plain loops); default: --device");
  flags.text("--against-model", options->against_model, "a model to compare with; default: --model");
  flags.text("--data", options->data,
             "a folder of pictures, emoji or random; default: emoji for the demo model, random for others");
  flags.number("--samples", options->samples, 0, 1 << 24, "pictures of it, evenly from all; 0: all (random: 64)")
      ->default_str("0");
  flags.number("--seed", options->seed, 0, 1 << 30, "of emoji and random pictures")->default_str("1");
  declare_texts(flags, "--texts", options->texts, options->text_format);
  options->labels_flag = flags.text("--labels", options->labels,
                                    "classes with commas between them; default: what --data says of its pictures "
                                    "(labels.jsonl, or folders as classes)");
  flags.text("--labels-file", options->labels_file, "a file with a class a line");
  flags.repeated("--template", options->templates, "a sentence with {} for the class; several are averaged");
  flags.flag("--layers", options->layers,
             "the error of every block and of every layer by itself; a layer that cannot be right is an error");
  flags.number("--layer-items", options->layer_items, 1, 4096, "pictures and texts that --layers looks at")
      ->default_str("8");
  options->difference_flag = flags.real("--max-difference", options->max_difference, 0, 2,
                                        "exit 1 where an element of two unit vectors differs by more");
  options->cosine_flag = flags.real("--min-cosine", options->min_cosine, -1, 1, "exit 1 where a cosine is lower");
  flags.number("--batch", options->batch, 1, 65536, "items in a forward pass; default: chosen");
  declare_common(*app, options->common);
  app->footer(
      "Example:\n  tandem verify --precision bf16 --max-difference 1e-2\n"
      "  tandem verify --model my-clip --precision int8 --data photos/ --labels-file classes.txt --layers");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
