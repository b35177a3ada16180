// tandem loadtest: how a running server does under load. The load itself lives in loadtest; here are only its flags.
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "embed/output_file.h"
#include "loadtest/load.h"
#include "loadtest/report.h"

namespace tandem::cli {
namespace {

using loadtest::Arrivals;
using loadtest::Body;

struct Options {
  CommonOptions common;
  loadtest::LoadOptions load;
  std::string url, json_file, plot_file, size, body_file;
  std::vector<std::string> headers;
  double requests = 0;
  int seed = 1;
  bool pixels = false, get = false, closed_wanted = false, no_check = false;
};

void write_file(const std::string& path, std::string_view text) {
  embed::OutputFile file(path);
  file.append(text);
  file.commit();
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(Code::not_found, cat(path, " cannot be read: give --body-file a file"));
  return {std::istreambuf_iterator<char>(file), {}};
}

std::pair<std::string, std::string> parse_header(const std::string& line) {
  const std::size_t colon = line.find(':');
  const std::size_t value = line.find_first_not_of(' ', colon + 1);
  if (colon == 0 || colon == std::string::npos || value == std::string::npos ||
      line.find_first_of("\r\n") != std::string::npos) {
    throw UsageError(cat("header '", printable(line), "' is not 'Name: value'"));
  }
  return {line.substr(0, colon), line.substr(value)};
}

// "640x480".
void parse_size(const std::string& text, loadtest::CorpusOptions& corpus) {
  int width = 0, height = 0;
  char by = 0, more = 0;
  std::istringstream words(text);
  if (!(words >> width >> by >> height) || by != 'x' || words >> more || width < 1 || height < 1 || width > 16384 ||
      height > 16384) {
    throw UsageError(cat("size '", text, "' is not WIDTHxHEIGHT with sides of 1 to 16384, such as 640x480"));
  }
  corpus.width = width;
  corpus.height = height;
}

loadtest::LoadOptions load_options(Options& options) {
  loadtest::LoadOptions load = options.load;
  loadtest::MixOptions& mix = load.mix;
  if (options.url.empty()) throw UsageError("no server given: say which, such as http://127.0.0.1:7860");
  load.url = loadtest::parse_url(options.url);
  if (int{options.pixels} + int{options.get} + int{!options.body_file.empty()} > 1)
    throw UsageError("--pixels, --get and --body-file exclude each other: give one");
  if (options.pixels) mix.body = Body::pixels;
  if (options.get) mix.body = Body::get;
  if (!options.body_file.empty()) {
    mix.body = Body::custom;
    mix.custom = read_file(options.body_file);
  }
  if (!options.size.empty()) parse_size(options.size, mix.corpus);
  for (const std::string& line : options.headers) mix.headers.push_back(parse_header(line));
  if (load.rate > 0 && load.arrivals == Arrivals::closed) load.arrivals = Arrivals::poisson;
  if (load.rate == 0 && load.arrivals != Arrivals::closed)
    throw UsageError(cat(name_of(load.arrivals), " arrivals need --rate"));
  if (load.arrivals != Arrivals::closed && load.concurrency == 0) load.concurrency = 1024;
  if (load.concurrency == 0) load.concurrency = std::max(16, load.threads);
  load.seed = static_cast<std::uint64_t>(options.seed);
  load.requests = static_cast<std::uint64_t>(options.requests);
  load.check = !options.no_check;
  return load;
}

int run(Options& options, Console& console) {
  const loadtest::LoadOptions load = load_options(options);
  for (const std::string& path : {options.json_file, options.plot_file}) {
    if (!path.empty()) embed::check_output_path(path);
  }
  StopScope stop;
  stop.arm();
  loadtest::LoadResult result;
  {
    Progress progress(console, "answers", load.requests > 0 ? std::optional<std::size_t>(load.requests) : std::nullopt);
    result =
        loadtest::run_load(load, stop.flag(), [&](double, std::uint64_t answered) { progress.update(answered, 0); });
  }
  const nlohmann::ordered_json report = loadtest::report(load, result);
  const auto dump = [&](int indent) {
    return report.dump(indent, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  };
  console.print(console.json ? dump(-1) : loadtest::for_people(load, result));
  if (!options.json_file.empty()) write_file(options.json_file, dump(1));
  if (!options.plot_file.empty()) write_file(options.plot_file, loadtest::plot(load, result));
  if (result.interrupted) return stop.exit_code();
  if (result.tally.sent > 0 && result.tally.answered == 0)
    throw Error(Code::unavailable, cat("none of ", result.tally.sent, " requests was answered: is a server running at ",
                                       options.url, "?"));
  return result.tally.unanswered() + result.tally.wrong > 0 ? kSomeFailed : kOk;
}

// --json alone is what it is for every command; with a file's name the report goes there as well.
void declare_json(CLI::App& app, Options& options) {
  CLI::Option* json = app.add_option(
      "--json",
      [&options](const CLI::results_t& words) {
        const std::string word = words.empty() ? "" : unmark(words.back());
        if (word.starts_with("http://") && options.url.empty()) {
          options.url = word;  // --json URL
          options.common.json = true;
        } else if (word.empty() || word == "1" || word == "true" || word == "on" || word == "yes") {
          options.common.json = true;
        } else if (word != "0" && word != "false" && word != "off" && word != "no") {
          options.json_file = word;
        }
        return true;
      },
      "the report as JSON: on standard output, or into the file named here");
  json->expected(0, 1)->type_name("[FILE]")->envname("TANDEM_JSON")->group("Output");
}

}  // namespace

Command declare_loadtest(CLI::App& root) {
  CLI::App* app = root.add_subcommand("loadtest", "load on a running server, every request accounted for");
  auto options = std::make_shared<Options>();
  loadtest::LoadOptions& load = options->load;
  loadtest::MixOptions& mix = load.mix;
  load.concurrency = 0;
  Flags flags(*app);
  flags.text("url", options->url, "the server, http://HOST:PORT; with a path, where requests go (else /v1/embeddings)");

  constexpr int kMany = 1 << 20;
  const auto share = [&](const char* name, double& into, const char* help) {
    return flags.seconds(name, into, help)->default_str("0")->group("Load");
  };
  flags.seconds("--rate", load.rate, "requests a second on a schedule (open loop), whatever the server does")
      ->group("Load");
  flags.choice("--arrivals", load.arrivals, loadtest::parse_arrivals, "of --rate: poisson, constant; or closed")
      ->group("Load");
  flags
      .number("--concurrency", load.concurrency, 1, kMany,
              "connections, each with one request at a time; with --rate: the most that are opened (1024)")
      ->default_str("16")
      ->group("Load");
  flags.seconds("--seconds", load.seconds, "how long requests are sent")->default_str("10")->group("Load");
  flags.seconds("--requests", options->requests, "send so many instead")->group("Load");
  flags.seconds("--warmup", load.warmup, "seconds at the begin that are not measured")->default_str("0")->group("Load");
  flags.seconds("--timeout", load.timeout, "seconds for an answer")->default_str("60")->group("Load");
  flags.number("--threads", load.threads, 1, 256, "of the load generator")->default_str("1")->group("Load");

  flags.text("--data", mix.corpus.folder, "a folder of pictures; without it they are made")->group("Requests");
  flags.number("--pictures", mix.corpus.pictures, 1, kMany, "different pictures")->default_str("64")->group("Requests");
  flags.text("--size", options->size, "of pictures that are made, WIDTHxHEIGHT; default: many sizes")
      ->group("Requests");
  flags.number("--items", mix.items, 1, 65536, "pictures or texts in a request")->default_str("1")->group("Requests");
  share("--texts", mix.texts, "share of the requests that hold texts")->group("Requests");
  share("--corrupt", mix.corrupt, "share of corrupt pictures; right when they get their 4xx")->group("Requests");
  flags.flag("--repeat", mix.repeat, "the same inputs again and again, for the server's caches")->group("Requests");
  flags.choice("--body", mix.body, loadtest::parse_body, "json (data URIs), raw (the file), pixels (.npy)")
      ->group("Requests");
  flags.flag("--pixels", options->pixels, "same as --body pixels")->group("Requests");
  flags.number("--side", mix.corpus.side, 1, 8192, "of --pixels: height and width")
      ->default_str("224")
      ->group("Requests");
  flags.text("--body-file", options->body_file, "POST this file's bytes instead")->group("Requests");
  flags.text("--content-type", mix.custom_type, "of --body-file")->group("Requests");
  flags.flag("--get", options->get, "GET the URL instead")->group("Requests");
  flags.text("--model-field", mix.model, "the model that requests name; default: none")->group("Requests");
  flags.repeated("--header", options->headers, "'Name: value', in every request")->group("Requests");
  flags.number("--seed", options->seed, 0, 1 << 30, "of pictures, texts and arrivals")
      ->default_str("1")
      ->group("Requests");
  flags.flag("--no-check", options->no_check, "do not look into answers")->group("Requests");

  declare_json(*app, *options);
  flags.text("--plot", options->plot_file, "latency over percentile, as SVG")->group("Output");
  flags.flag("--quiet", options->common.quiet, "no progress")->group("Output");
  app->footer(
      "Exit code: 0 every request was answered rightly or refused for want of room (429, 503); 3 some were not "
      "answered, or wrongly.\n"
      "Example:\n  tandem loadtest http://127.0.0.1:7860 --rate 200 --seconds 30 --texts 0.3 --corrupt 0.01 --plot "
      "load.svg");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
