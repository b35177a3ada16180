// The HTTP server: routes, limits and the web page around one tandem::Engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/operation_options.h"
#include "tandem/engine.h"

namespace tandem::server {

struct ServerOptions {
  std::string host = "127.0.0.1";  ///< address to listen on: a numeric IPv4 or IPv6 address, or "localhost"
  int port = 7860;                 ///< 0: any free port (see Server::port() and port_file)
  std::string port_file;           ///< when set, the port is written there once the server listens

  EngineOptions engine;
  ContextOptions context;
  /// Models beside engine.model, which is the first: each has an engine and a context of its own with these options,
  /// and an equal part of context.memory_budget.
  std::vector<std::string> more_models;
  /// Other names of models: {name, model}. A request may name either.
  std::vector<std::pair<std::string, std::string>> model_aliases;

  /// Folder of the bundled demo model (<models>/emoji). Its names.json gives the labels used where a request names
  /// none, when `engine.model` is "emoji"; its gallery/ is the gallery unless `gallery` is set. Empty: none.
  std::string demo_folder;
  std::string gallery;               ///< folder of pictures that POST /search looks through; empty: the demo's
  std::size_t max_gallery = 20'000;  ///< pictures taken from it, in path order

  int io_threads = 0;      ///< threads that read, parse small requests and write; 0: 3 for 8 cores, 2 to 12
  int worker_threads = 0;  ///< threads that parse large bodies and build answers; 0: half of the cores, 2 to 16

  std::size_t max_body_bytes = std::size_t{64} << 20;     ///< of one request; beyond it 413
  std::size_t max_buffered_bytes = std::size_t{1} << 30;  ///< of all requests being read or answered; beyond it 429
  int max_items = 2048;                                   ///< inputs of one request; beyond it 413
  std::size_t max_text_bytes = std::size_t{1} << 20;      ///< of one text; beyond it 413
  int max_label_texts = 65'536;                           ///< labels x templates of one request; beyond it 413
  bool allow_urls = false;                                ///< pictures may be given as http and https addresses
  int max_connections = 12'000;                           ///< open at once; one more is answered 503 and closed

  double header_seconds = 15;    ///< to send a request's head
  double idle_seconds = 75;      ///< a connection may rest between two requests
  double body_seconds = 30;      ///< to send a body, plus a second for every 16 KiB received
  double request_seconds = 120;  ///< from the end of a request to its answer; beyond it 504
  double drain_seconds = 30;     ///< after SIGTERM, for the requests under way

  OperationOptions operation;

  std::function<void()> on_ready;  ///< called once by run(), when the server is ready for the first time
  bool quiet = false;              ///< no lines to `announce`
  /// Receives one line for people at a time (listening address, model loaded, draining); may be called from any
  /// thread. The server itself never prints.
  std::function<void(const std::string&)> announce;
};

/// What the server needs of a model, thread-safe: tandem::Engine is the implementation, tests bring others.
class Encoder {
 public:
  virtual ~Encoder() = default;
  virtual const EngineInfo& info() const = 0;
  virtual void submit(Request request, OnDone on_done) = 0;
  virtual std::size_t queued() const = 0;
  /// Tokens of a text; throws unsupported where it has none to say.
  virtual std::vector<Token> tokenize(std::string_view text) const;
  /// What is left of its replicas; one that works where that is not known.
  virtual EngineHealth health() const { return {1, 1, 0, {}}; }
  /// What it remembers; nothing where it does not.
  virtual CacheStats cache_stats() const { return {}; }
  virtual void clear_caches() {}
};

/// Makes the Encoder, on a thread of its own; throws Error when it cannot.
using EncoderFactory = std::function<std::unique_ptr<Encoder>(const ServerOptions&)>;

/// Loads a tandem::Engine with options.engine on a Context with options.context.
std::unique_ptr<Encoder> load_engine(const ServerOptions& options);

class Server {
 public:
  /// Throws invalid_argument where two models have one name, or an alias is taken or names no model.
  explicit Server(ServerOptions options, EncoderFactory factory = load_engine);
  ~Server();  ///< stop(0)
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Listens, then loads the model in the background: /health answers at once, /ready is 503 until the model is
  /// there. Throws invalid_argument (address) or io_error (port taken).
  void start();
  /// The port it listens on.
  int port() const noexcept;
  /// Stops accepting, lets requests under way finish for `drain_seconds`, withdraws the rest. Returns when every
  /// thread has ended. True: everything was answered in time.
  bool stop(double drain_seconds);
  /// Reads API keys and certificates again and opens the log anew, as SIGHUP makes run() do. What cannot be read is
  /// announced, and the old one is used on.
  void reload();
  /// Why no model could be loaded: the first one's reason; empty while loading, and where there is one that answers.
  std::string load_error() const;
  /// No model is being loaded, one at least is healthy, and the server is not draining: what GET /ready says.
  bool ready() const;

 private:
  friend int run(const ServerOptions&);
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// Serves until SIGTERM or SIGINT, drains, and returns 0 (a second signal ends the draining). Throws what start()
/// throws, and the loader's Error when the model cannot be loaded. Raises the process's limit of open files as far as
/// the system allows, and takes fewer connections, saying so, where that is not enough.
int run(const ServerOptions& options);

}  // namespace tandem::server
