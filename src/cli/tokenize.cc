// tandem tokenize: texts to token ids.
#include "base/strings.h"
#include "cli/commands.h"
#include "embed/json_text.h"
#include "embed/text_inputs.h"
#include "text/tokenizer.h"

namespace tandem::cli {
namespace {

struct Options {
  CommonOptions common;
  std::vector<std::string> texts;
  std::string input;
  embed::TextFormat format = embed::TextFormat::automatic;
  int context_length = 0;
};

std::unique_ptr<text::Tokenizer> load_tokenizer(const Options& options) {
  const model::ModelFiles files = open_model(options.common);
  if (files.tokenizer.empty()) throw Error(Code::not_found, files.tokenizer_help);
  text::TokenizerOptions wanted = model::tokenizer_options(files, options.common.engine.cleaning);
  if (options.context_length > 0) wanted.context_length = options.context_length;
  return text::load_tokenizer(files.tokenizer, wanted);
}

class Writer {
 public:
  Writer(const text::Tokenizer& tokenizer, Console& console) : tokenizer_(tokenizer), console_(console) {}

  void write(const embed::Item& item) {
    ++count_;
    line_.clear();
    if (item.error) {
      console_.item_failed(item.input, *item.error);
      if (!console_.json) return;
      line_ += "{\"text\":";
      embed::append_json(line_, item.input);
      line_ += ",\"error\":";
      embed::append_json(line_, *item.error);
      line_ += "}\n";
      console_.print(line_);
      return;
    }
    const text::Tokens tokens = tokenizer_.encode(item.input);
    if (console_.json) {
      line_ += "{\"text\":";
      embed::append_json(line_, item.input);
      line_ += ",\"ids\":";
      embed::append_json(line_, std::span<const std::int32_t>(tokens.ids));
      line_ += tokens.truncated ? ",\"truncated\":true}\n" : ",\"truncated\":false}\n";
    } else {
      for (const auto id : tokens.ids) line_ += cat(line_.empty() ? "" : " ", id);
      line_ += tokens.truncated ? " (truncated)\n" : "\n";
    }
    console_.print(line_);
  }

  std::size_t count() const noexcept { return count_; }

 private:
  const text::Tokenizer& tokenizer_;
  Console& console_;
  std::string line_;
  std::size_t count_ = 0;
};

int run(const Options& options, Console& console) {
  if (options.texts.empty() == options.input.empty()) {
    throw UsageError(options.input.empty() ? "nothing to tokenize: give texts, or --input FILE"
                                           : "give either texts or --input FILE, not both");
  }
  std::unique_ptr<embed::TextInputs> file;
  if (!options.input.empty()) file = std::make_unique<embed::TextInputs>(options.input, options.format);
  const auto tokenizer = load_tokenizer(options);
  Writer writer(*tokenizer, console);
  for (const auto& text : options.texts) writer.write({embed::Kind::text, text, std::nullopt});
  embed::Item item;
  while (file && file->next(item)) writer.write(item);
  return console.end_items(writer.count());
}

}  // namespace

Command declare_tokenize(CLI::App& root) {
  CLI::App* app =
      root.add_subcommand("tokenize", "token ids of texts, with start and end, not padded; needs no weights");
  auto options = std::make_shared<Options>();
  Flags flags(*app);
  flags.list("TEXT", options->texts, "texts (after -- when one begins with a dash)");
  declare_texts(flags, "--input", options->input, options->format);
  flags.number("--context-length", options->context_length, 2, 1 << 20,
               "cut texts to so many tokens; default: the model's");
  declare_common(*app, options->common);
  app->footer("Example:\n  tandem tokenize --json \"a photo of a cat\" \"two words\"");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
