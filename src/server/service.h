// What the routes share: a model and its state, the worker pool, the label cache, the gallery.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "base/thread_pool.h"
#include "server/bodies.h"
#include "server/body.h"
#include "server/fetch.h"
#include "server/gallery.h"
#include "server/ids.h"
#include "server/labels.h"
#include "server/message.h"
#include "server/model_counts.h"
#include "server/operation.h"
#include "server/server.h"

namespace tandem::server {

enum class State { loading, ready, draining, failed };
const char* to_string(State state) noexcept;

/// Labels and templates used where a request names none.
struct Defaults {
  std::vector<std::string> labels, signs, templates;
};

/// One for all models of a server.
struct Common {
  explicit Common(const ServerOptions& options);
  Operation operation;
  MemoryLimit memory;
  const std::shared_ptr<Bodies> bodies;
  ThreadPool pool;
  const std::string instance = random_uuid();                       ///< of this run
  std::atomic<std::chrono::steady_clock::time_point> last_asked{};  ///< when somebody last gave work to any model
};

/// One model: its engine, state, labels and gallery. The first of a server holds the others, and starts and stops them;
/// server/models.h chooses among them and looks at them together.
class Service {
 public:
  /// The first, and the others that options.more_models names. Throws what Server's constructor throws.
  Service(const ServerOptions& options, EncoderFactory factory);
  ~Service();  ///< stop()
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  /// Starts to load the models, one after the other; then the default labels and the galleries are computed, behind
  /// everybody's requests.
  void start();
  /// All models of the server, this one first; of one that is not the first: itself.
  const std::vector<Service*>& models() const noexcept { return models_; }
  /// From now on require_ready() refuses.
  void drain();
  /// Withdraws what is under way: it is answered 503.
  void withdraw();
  /// Waits until the engine, the loader and the pool are idle and gone. All replies have been given afterwards.
  void stop();

  State state() const;
  std::string load_error() const;
  Code load_error_code() const;
  /// Why the model does not answer although it was loaded; empty: it does.
  std::string sickness() const;
  /// What is left of the engine's replicas; zeros until it is loaded.
  EngineHealth health() const;
  /// False where the model could not be loaded, is sick, or lost its last replica for good. One whose last replica is
  /// being replaced is given its time.
  bool alive() const;
  /// Whether info() and defaults() may be read: from then on they do not change.
  bool loaded() const;
  bool ready() const { return state() == State::ready && sickness().empty(); }
  /// Throws unavailable while the model is loading, draining, failed or sick.
  void require_ready() const;
  /// The name under which the model is listed: the name it was loaded by, a path's last part only.
  const std::string& model_name() const noexcept { return model_name_; }
  /// Whether a request means this model by that name: the listed one, the one it was loaded by, or an alias.
  bool is_called(std::string_view name) const noexcept;
  const std::vector<std::string>& aliases() const noexcept { return aliases_; }
  /// What its engine computed.
  const ModelCounts& counts() const noexcept { return *counts_; }

  /// Seconds since 1970 when the service was made.
  std::int64_t started_at() const noexcept { return started_at_; }

  /// Filled once the model is loaded.
  const EngineInfo& info() const noexcept { return info_; }
  const ServerOptions& options() const noexcept { return options_; }
  BodyLimits body_limits() const;
  ThreadPool& pool() noexcept { return common_.pool; }
  /// Null where URLs are not fetched, and once the service stops.
  std::shared_ptr<Fetcher> fetcher() const;
  MemoryLimit& memory() noexcept { return common_.memory; }
  /// What keeps it may outlive the service.
  const std::shared_ptr<Bodies>& bodies() noexcept { return common_.bodies; }
  Operation& operation() noexcept { return common_.operation; }
  /// Of this run of the server, a UUID.
  const std::string& instance() const noexcept { return common_.instance; }
  LabelCache& labels() noexcept { return *labels_; }
  const Defaults& defaults() const noexcept { return defaults_; }
  /// May be null: there is none.
  std::shared_ptr<Gallery> gallery() const;

  /// When a call's answer is of no use any more: the server's limit, or what its client wishes, from the end of its
  /// head.
  static std::chrono::steady_clock::time_point deadline_of(const Call& call);

  /// Hands a request of a call to the engine, with the call's priority, deadline and cancellation. on_done runs on a
  /// worker thread; where it is said to be quick, inside the call if the items are few and were known already. What it
  /// throws is answered. Throws overloaded, unavailable, ….
  void submit(const CallPtr& call, Request request, const Reply& reply, std::function<void(Response)> on_done,
              bool quick = false);

  /// What the engine remembers; zeros until it is loaded.
  CacheStats cache_stats() const;
  /// Held while what the models counted is added up.
  std::mutex& counting() noexcept { return counting_; }
  /// Forgets what was computed for earlier requests: the engine's caches, and sets of labels.
  void clear_caches();

  /// What the model's tokenizer makes of a text; throws what Encoder::tokenize throws, and unavailable.
  std::vector<Token> tokenize(std::string_view text) const;

  /// Items in the engine's queue.
  std::size_t queued() const;

  /// Requests that the engine has not answered yet.
  std::size_t in_flight() const;

 private:
  struct UnderWay {
    CancelFlag cancel;
  };

  Service(const ServerOptions& options, EncoderFactory factory, Service& first, std::string model);
  Service(const ServerOptions& options, EncoderFactory factory, std::unique_ptr<Common> own, Service* first,
          std::string model);
  void take_aliases();
  void load_all();
  void load();
  void enrich();
  void end_engine();
  void make_default_labels();
  void find_gallery();
  /// Returns when nobody has given work to any model for a while; false where that did not come.
  bool wait_for_quiet() const;
  void fill_gallery();
  void watch();
  using Post = std::function<void(std::function<void()>)>;
  /// submit() for every purpose: keeps account of what is under way and of failures. on_done runs on the pool, or,
  /// where it is said to be quick and everything was known already, inside the call.
  void hand_over(Request request, OnDone on_done, bool quick = false, Post post = {});
  /// hand_over() and wait, again when the queue is full; for the loader's own work. Null when the server stops.
  std::optional<Response> ask(Request request);
  void note(const std::variant<Response, ItemError>& result, std::list<UnderWay>::iterator at);
  void announce(const std::string& line);

  const std::unique_ptr<Common> own_;  ///< of the first
  Common& common_;
  Service& first_;
  const std::shared_ptr<ModelCounts> counts_;
  const ServerOptions options_;  ///< of this model, with counts_ as its engine's observer
  const EncoderFactory factory_;
  const std::string model_name_;
  std::vector<std::string> aliases_;
  const std::int64_t started_at_ =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::shared_ptr<LabelCache> labels_;
  Defaults defaults_;
  CancelFlag stopping_ = std::make_shared<std::atomic<bool>>(false);

  std::mutex counting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // the state
  std::condition_variable ended_;    // a request, which the watcher need not wake up for
  State state_ = State::loading;
  bool loaded_ = false;
  std::string load_error_;
  Code load_error_code_ = Code::internal;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<Fetcher> fetcher_;
  EngineInfo info_;  ///< a copy: answers may still be written while the engine goes away
  std::shared_ptr<Gallery> gallery_;
  std::list<UnderWay> under_way_;
  std::chrono::steady_clock::time_point last_progress_{};  ///< when the engine last answered or took from its queue
  std::size_t last_queued_ = 0;
  int failures_in_a_row_ = 0;
  std::string last_failure_;
  std::thread loader_, watcher_;
  std::vector<std::unique_ptr<Service>> others_;
  std::vector<Service*> models_;
};

}  // namespace tandem::server
