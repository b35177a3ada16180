// tandem serve: the web page and the HTTP API. What it serves lives in server; here are only its flags.
#include <algorithm>
#include <cstdlib>
#include <optional>
#include <utility>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/strings.h"
#include "base/thread_pool.h"
#include "cli/background.h"
#include "cli/commands.h"
#include "cli/modes.h"
#include "cli/operation_flags.h"
#include "cli/serve_batching.h"
#include "hub/hub.h"
#include "server/server.h"

namespace tandem::cli {
namespace {

constexpr int kMegapixels = 178;  // Pillow's limit, 178,956,970, unless another one is given

struct Options {
  CommonOptions common;
  ModeFlag mode;
  server::ServerOptions server;
  BatchingOptions batching;
  int max_body_mib = 64, max_megapixels = kMegapixels;
  std::vector<std::string> models, aliases;
  bool background = false;
  std::string pid_file;
};

/// Memory of finished requests goes back to the system. Left alone, glibc raises the size from which a block is mapped
/// by itself as such blocks are freed, up to 32 MiB: bodies and pictures then come from its heaps, of which it makes
/// eight for each core, and one small block above them keeps all that is below. A server that has seen one burst would
/// hold its peak for ever. On few cores every body and picture is mapped by itself, and the heaps stay as small as what
/// lives long; on many, threads would wait for each other to change the process's memory map. What one request takes
/// off a heap stays: to give it back after each and to have it again, page by page, costs more than to parse it.
void give_memory_back() {
#ifdef __GLIBC__
  constexpr int kFewCores = 4, kMapped = 1 << 20, kMappedOnFew = 32 << 10, kKept = 1 << 20;
  const int cores = usable_cores();
  mallopt(M_MMAP_THRESHOLD, cores < kFewCores ? kMappedOnFew : kMapped);
  mallopt(M_TRIM_THRESHOLD, kKept);
  mallopt(M_ARENA_MAX, std::clamp(cores / 2, 2, 8));  // heaps: threads wait for each other's
#endif
}

/// "NAME=MODEL" to its two halves.
std::pair<std::string, std::string> parse_alias(const std::string& word) {
  const std::size_t at = word.find('=');
  if (at == 0 || at == std::string::npos || at + 1 == word.size()) {
    throw UsageError(cat("--model-alias '", word, "' must be NAME=MODEL: the other name, and the model that it means"));
  }
  return {word.substr(0, at), word.substr(at + 1)};
}

int run(Options options, Console& console) {
  give_memory_back();  // before the threads of the server begin: each takes its heap when it first allocates
  if (const auto mode = options.mode.apply(options.common.engine, options.common.context)) {
    BatchingOptions& b = options.batching;
    const auto set = [&](std::initializer_list<const char*> flags, int value, int& into) {
      const bool given = std::any_of(flags.begin(), flags.end(), [&](const char* f) { return options.mode.given(f); });
      if (value >= 0 && !given) into = value;
    };
    set({"--max-batch", "--batch"}, mode->max_batch, b.batch);
    set({"--max-delay-us", "--max-queue-delay-microseconds"}, mode->delay_us, b.delay_us);
    set({"--text-cache"}, mode->text_cache, b.texts);
    set({"--image-cache"}, mode->image_cache, b.pictures);
    set({"--image-cache-mib"}, mode->image_cache_mib, b.image_mib);
  }
  server::ServerOptions& server = options.server;
  server.engine = options.common.engine;
  server.context = options.common.context;
  if (!options.models.empty()) {
    server.engine.model = options.models.front();
    server.more_models.assign(options.models.begin() + 1, options.models.end());
  }
  for (const std::string& alias : options.aliases) server.model_aliases.push_back(parse_alias(alias));
  apply(options.batching, server);
  server.context.graphs = !options.common.no_graphs;
  server.context.log = console.log_sink();
  server.demo_folder = (hub::bundled_models() / "emoji").string();
  server.max_body_bytes = static_cast<std::size_t>(options.max_body_mib) << 20;
  server.quiet = console.quiet;
  server.engine.max_pixels = options.max_megapixels == kMegapixels ? server.engine.max_pixels
                                                                   : std::uint64_t{1'000'000} * options.max_megapixels;
  std::optional<Launch> launch;
  if (options.background) launch.emplace(server.operation.log_file);
  std::optional<PidFile> pid;
  if (options.background && options.pid_file.empty()) options.pid_file = default_pid_file(server.port);
  if (!options.pid_file.empty()) pid.emplace(options.pid_file);
  server.on_ready = [&launch] {
    if (launch) launch->begun();
  };
  server.announce = [&console, &launch](const std::string& line) {
    if (!launch || !launch->has_begun()) console.say(Verbosity::error, line);  // afterwards the log has it
  };
  return server::run(server);
}

}  // namespace

Command declare_serve(CLI::App& root) {
  CLI::App* app = root.add_subcommand("serve", "a web page and an HTTP API around one model or several");
  auto options = std::make_shared<Options>();
  server::ServerOptions& server = options->server;
  Flags flags(*app);
  flags.text("--host", server.host, "address to listen on");
  flags.number("--port", server.port, 0, 65535, "0: any free port")->default_str("7860");
  flags.text("--port-file", server.port_file, "the port is written there once the server listens");
  flags.text("--gallery", server.gallery, "a folder of pictures for the page's search; default: the demo's gallery");
  flags.number("--max-body", options->max_body_mib, 1, 65536, "MiB of one request")->default_str("64");
  flags.number("--max-items", server.max_items, 1, 1 << 20, "inputs of one request")->default_str("2048");
  flags.flag("--allow-urls", server.allow_urls,
             "fetch pictures given as http and https addresses of the open internet");
  flags.number("--max-connections", server.max_connections, 1, 1 << 20, "open at once")->default_str("12000");
  flags.number("--io-threads", server.io_threads, 0, 1024, "threads that read and write; 0: 3 for 8 cores, 2 to 12")
      ->default_str("0");
  flags
      .number("--worker-threads", server.worker_threads, 0, 1024,
              "threads that parse large bodies and write answers; 0: half of the cores, 2 to 16")
      ->default_str("0");
  flags.seconds("--request-seconds", server.request_seconds, "time for one request")->default_str("120");
  flags.seconds("--drain-seconds", server.drain_seconds, "time for requests under way after SIGTERM")
      ->default_str("30");
  flags.number("--max-pixels", options->max_megapixels, 1, 1 << 20, "million pixels of one picture")
      ->default_str("178");
  flags.flag("--background", options->background, "return when the server is ready; `tandem stop` ends it");
  flags.text("--pid-file", options->pid_file, "names the process; default with --background: by the port");
  declare_operation(flags, server.operation);
  declare_batching(flags, options->batching);
  options->mode.declare(*app);
  declare_common(*app, options->common, &options->models);
  flags.repeated("--model-alias", options->aliases, "NAME=MODEL: requests may name MODEL so too; may be repeated")
      ->group("Model");
  app->footer(
      "Example:\n  tandem serve --port 7860\n  tandem serve --model emoji --model random:ViT-B-32 --model-alias "
      "clip=random:ViT-B-32");
  return {app, std::shared_ptr<CommonOptions>(options, &options->common),
          [options](Console& console) { return run(*options, console); }};
}

}  // namespace tandem::cli
