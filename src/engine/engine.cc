#include "tandem/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/strings.h"
#include "engine/context_impl.h"
#include "engine/find_calibration.h"
#include "engine/find_model.h"
#include "engine/measure.h"
#include "engine/rehearsal.h"
#include "engine/scheduler.h"
#include "engine/serving.h"
#include "engine/ticker.h"
#include "engine/workers.h"

namespace tandem {
namespace {

/// Requests of the blocking calls are cut into pieces, so that a large one neither fills the queue nor is refused.
constexpr std::size_t kPiece = 256;
constexpr int kMostReplicas = 1024;
/// Of a processor's replicas that divide its threads: each has activations of its own.
constexpr int kMostTogether = 4;
constexpr std::chrono::milliseconds kTick{100};
/// Caches have at most this part of a limited memory.
constexpr std::size_t kCachesPart = 8;
/// Tensors prepared at once while loading: each stands in memory twice.
constexpr int kLoadThreads = 8;

/// Of the time for measuring, where texts are measured too.
constexpr double kPicturesPart = 0.75;

/// How long a caller stays awake: passes that take longer do not notice a thread that is woken.
constexpr std::chrono::milliseconds kAwake{5};
/// Of so many cores for each GPU one is left to the thread that feeds it: it needs about that much of a core where all
/// are busy, and pictures do not wait behind pictures then. The same rate on 8 cores, and half the p99.
constexpr int kCoresToSpare = 4;

/// A future, and the callback that fulfils it: an error arrives as the exception it was.
std::pair<std::future<Response>, OnDone> promised() {
  auto promise = std::make_shared<std::promise<Response>>();
  auto future = promise->get_future();
  return {std::move(future), [promise = std::move(promise)](std::variant<Response, ItemError> answer) {
            if (auto* error = std::get_if<ItemError>(&answer)) {
              promise->set_exception(std::make_exception_ptr(Error(error->code, error->message)));
            } else {
              promise->set_value(std::move(std::get<Response>(answer)));
            }
          }};
}

}  // namespace

struct Engine::Impl {
  Impl(Context& context, const EngineOptions& options);
  ~Impl();

  std::unique_ptr<engine::Replica> make_replica(Context::Impl& context, int index, int sharing);
  /// Takes memory for the caches, which become smaller where there is little.
  void reserve_caches(Context::Impl& context);
  /// Warms a replica up, and measures what its passes take, for the sizes that it chooses from now on.
  void rehearse(engine::Replica& replica);
  void check(const Request& request) const;
  /// Makes the replicas; how many, where the caller did not say.
  void make_workers(Context::Impl& context);
  void describe(const EngineOptions& options);
  std::vector<Embedding> embed(Request request, bool images);
  Response wait(std::future<Response> answer);
  int replicas() const noexcept { return options.replicas * static_cast<int>(options.devices.size()); }
  /// The device of a replica; replicas of several devices alternate.
  DeviceId device_of(int index) const {
    return options.devices[static_cast<std::size_t>(index) % options.devices.size()];
  }

  const engine::Clock::time_point made = engine::Clock::now();
  model::ModelFiles files;
  engine::PrepareOptions prepare;
  std::unique_ptr<engine::Preparer> preparer;
  EngineInfo info;
  engine::MemoryBudget::Reservation caches;
  EngineOptions options;
  Logger logger;
  model::EightBit eight_bit;
  std::vector<std::shared_ptr<const backend::Choices>> choices;         // one a backend that has any
  std::vector<std::shared_ptr<const backend::LinearWork>> linear_work;  // the same
  std::size_t piece = kPiece;
  bool together = false;  ///< replicas divide a processor's threads pass by pass
  std::mutex rehearsing;
  struct Measured {
    Rehearsed rehearsed;
    engine::BatchPlan images;
  };
  std::optional<Measured> measured;              ///< by the first replica, for those that are `together` with it
  std::unique_ptr<engine::Scheduler> scheduler;  // outlives the threads that take from it
  std::unique_ptr<engine::Workers> workers;
  std::atomic<int> awake = 0;  ///< callers that wait without sleeping
  std::optional<engine::Ticker> ticker;
};

Engine::Impl::Impl(Context& context, const EngineOptions& given)
    : files(engine::find_model(given.model, given.vocab)),
      prepare(engine::prepare_options(given, files)),
      options(given),
      logger(context.impl().logger) {
  if (given.max_queue == 0) throw Error(Code::invalid_argument, "max_queue 0 would refuse everything: give at least 1");
  if (given.max_batch < 0)
    throw Error(Code::invalid_argument,
                cat("max_batch ", given.max_batch, " is negative: give 0 to choose it automatically"));
  if (given.replicas < 0 || given.replicas > kMostReplicas) {
    throw Error(Code::invalid_argument,
                cat("replicas ", given.replicas, " is out of range: give 0 (chosen) to ", kMostReplicas));
  }
  eight_bit = engine::choose_eight_bit(files, given);
  if (options.devices.empty()) options.devices.push_back(options.device);
  preparer = std::make_unique<engine::Preparer>(files, prepare);
  piece = std::min(std::max<std::size_t>(kPiece, static_cast<std::size_t>(given.max_batch)), given.max_queue);
  auto& shared = context.impl();
  reserve_caches(shared);
  make_workers(shared);
  engine::SchedulerLimits limits{given.max_queue, static_cast<std::size_t>(shared.options.decode_threads),
                                 given.max_delay};
  for (int i = 0; i < workers->size(); ++i) {
    limits.prepare_ahead += 2 * static_cast<std::size_t>(workers->replica(i).max_batch());
  }
  const bool on_processor = workers->replica(0).lane(0).backend().stream() == nullptr;
  limits.take_turns = workers->size() == 1 && on_processor;
  if (!on_processor && !shared.decode_threads_given && shared.decode.size() >= kCoresToSpare * workers->size()) {
    limits.preparing = shared.decode.size() - workers->size();
  }
  if (together) limits.cores = shared.cores;
  if (on_processor && shared.options.decode_gives_way) shared.decode.give_way();
  scheduler =
      std::make_unique<engine::Scheduler>(*preparer, shared.decode, limits, options.caches, options.observer.get());
  describe(given);
  // A replica that replaces another goes where that was: "automatic" could mean the processor once a GPU has failed,
  // and callers may have vectors in the GPU's memory.
  for (std::size_t i = 0; i < options.devices.size(); ++i) options.devices[i] = parse_device(info.devices[i]);
  if (options.devices.size() == 1) preparer->accept(options.devices.front());
  engine::Workers::Work work;
  work.serve = [this](engine::Replica& replica, const engine::OnLost& on_lost) {
    return engine::serve(replica, *scheduler, logger, options.observer.get(), on_lost);
  };
  work.none_left = [this](const ItemError& why) { scheduler->stop(why); };
  work.pauses = shared.replace_after;
  work.logger = logger;
  workers->start(std::move(work));
  // Who waits behind a long pass, or for a replica that is being replaced, hears in time that it was too long.
  ticker.emplace("the thread that answers those who waited too long", kTick, [this] { scheduler->drop_abandoned(); });
}

Engine::Impl::~Impl() {
  if (scheduler) scheduler->stop({Code::unavailable, "the engine is shutting down"});
  workers.reset();
}

void Engine::Impl::make_workers(Context::Impl& context) {
  if (options.replicas == 0) {
    // Once, before the replicas would each look for a GPU and say why there is none.
    for (DeviceId& device : options.devices) device = engine::resolve(device, context.options);
    const bool divided = options.devices.size() == 1 && engine::is_divided(options.devices.front());
    options.replicas = divided ? std::min(context.options.threads, kMostTogether) : 1;
    together = options.replicas > 1;
  }
  const auto make = [this, of = &context](int i, int sharing) { return make_replica(*of, i, sharing); };
  try {
    workers = std::make_unique<engine::Workers>(replicas(), make);
  } catch (const Error& error) {
    if (!together || error.code() != Code::out_of_memory) throw;
    together = false, options.replicas = 1;
    workers = std::make_unique<engine::Workers>(1, make);
  }
}

std::unique_ptr<engine::Replica> Engine::Impl::make_replica(Context::Impl& context, int index, int sharing) {
  engine::Replica::Backends backends;
  // Replicas on one device divide a processor's cores.
  const DeviceId wanted = device_of(index);
  int place = 0, here = 0;
  for (int i = 0; i < replicas(); ++i) {
    if (device_of(i) != wanted) continue;
    place += i < index ? 1 : 0;
    ++here;
  }
  backends.push_back(context.backend(wanted, place, here, together));
  const backend::Backend& first = *backends.front();
  engine::ReplicaLimits limits;
  limits.fixed = first.memory().held;
  model::LoadOptions load;
  load.precision = options.precision, load.vision = options.load_vision, load.text = options.load_text;
  load.eight_bit = &eight_bit;
  load.pool = &context.decode;
  load.threads = std::min({kLoadThreads, context.options.threads, context.options.decode_threads + 1});
  auto model = context.models.get(files, *backends.front(), load);
  if (engine::Replica::wants_two(first, *model)) {
    backends.push_back(context.backend(first.device(), place, here, together));
    limits.fixed += backends.back()->memory().held;
  }
  // What is left is for this replica and those that come after it.
  std::size_t left = context.memory.left();
  limits.most = left / static_cast<std::size_t>(sharing);
  const backend::Memory device = first.memory();
  if (device.total > 0 && options.max_batch == 0) {
    limits.most =
        std::min(limits.most, device.free / 10 * 8 / static_cast<std::size_t>(std::min(sharing, here - place)));
  }
  limits.max_batch = options.max_batch, limits.helpers = &context.decode;
  auto replica = std::make_unique<engine::Replica>(std::move(backends), std::move(model), limits, context.memory);
  if (replica->max_batch() < options.max_batch) {
    logger.log(LogLevel::warning, cat("memory suffices for batches of ", replica->max_batch(), ", not ",
                                      options.max_batch, ": larger requests are computed in parts"));
  }
  rehearse(*replica);
  return replica;
}

void Engine::Impl::reserve_caches(Context::Impl& context) {
  const auto& c = files.config;
  const auto dim = static_cast<std::size_t>(std::max({c.embed_dim, c.vision.width, c.text.width}));
  const auto side = static_cast<std::size_t>(c.vision.image_size);
  const std::size_t wanted = engine::Caches::bytes(options.caches, dim, side);
  if (wanted == 0) return;
  if (context.memory.allowed() > 0) {
    // What is remembered only saves work; a model has to fit.
    options.caches = engine::Caches::within(options.caches, dim, side, context.memory.left() / kCachesPart);
    if (const std::size_t left = engine::Caches::bytes(options.caches, dim, side); left < wanted) {
      logger.log(LogLevel::warning, cat("caches take ", left, " bytes, not ", wanted, ": memory is limited to ",
                                        context.memory.allowed()));
    }
  }
  caches = context.memory.reserve(engine::Caches::bytes(options.caches, dim, side), "caches");
}

void Engine::Impl::rehearse(engine::Replica& replica) {
  const std::lock_guard lock(rehearsing);
  const auto begin = engine::Clock::now();
  const std::string device = to_string(replica.backend().device());
  Rehearsed done;
  engine::Rehearsal images(replica.lane_of(true), true), texts(replica.lane_of(false), false);
  std::size_t most_images = replica.most_images(), most_texts = replica.most_texts();
  if (options.warm_up) {
    for (const auto& [kind, most] : {std::pair{&images, &most_images}, {&texts, &most_texts}}) {
      const engine::Warmth warmth = engine::warm_up(*kind, *most);
      *most = std::min(*most, warmth.most);
      done.warm_passes += warmth.passes, done.warm_seconds += warmth.seconds;
    }
    logger.log(LogLevel::info,
               cat("warmed up on ", device, ": ", done.warm_passes, " passes in ", done.warm_seconds, " s"));
  }
  const auto measure = [&](engine::Rehearsal& kind, std::size_t most, double seconds) {
    const auto times = engine::measure_passes(kind, most, seconds);
    if (times.empty()) return std::vector<PassSeconds>();
    std::string said;
    std::vector<PassSeconds> out;
    for (const auto& t : times) {
      said += cat(said.empty() ? "" : ", ", t.items, ": ", t.seconds * 1e3, " ms");
      out.push_back({static_cast<int>(t.items), t.seconds});
    }
    logger.log(LogLevel::info,
               cat("passes of ", kind.images() ? "pictures" : "texts", " on ", device, " take: ", said));
    replica.use(kind.images(), engine::BatchPlan(times, kind.images() ? replica.most_images() : replica.most_texts()));
    return out;
  };
  if (measured) {  // on the same processor
    replica.use(true, measured->images);
    replica.set_rehearsed(measured->rehearsed);
    return;
  }
  if (options.measure_seconds > 0) {
    // Where a processor computes, a text costs the same in any pass: nothing to choose. A device issues small passes at
    // once, and larger ones step by step.
    const bool choose = replica.lane_of(false).backend().stream() != nullptr && replica.model().text.has_value();
    const double left = std::max(options.measure_seconds - seconds_since(begin), options.measure_seconds / 2);
    done.images = measure(images, most_images, choose ? left * kPicturesPart : left);
    if (choose) {
      done.texts = measure(texts, most_texts, left * (1 - kPicturesPart));
      done.text_tokens = static_cast<int>(std::min<std::size_t>(
          engine::Rehearsal::kUsualTokens, static_cast<std::size_t>(replica.model().config.text.context_length)));
    }
  }
  if (together) measured = {done, replica.batch_plan(true)};
  replica.set_rehearsed(std::move(done));
}

void Engine::Impl::check(const Request& request) const {
  const auto check_one = [&](const DeviceVectors& to, std::size_t items, int width) {
    if (to.values == nullptr) return;
    if (options.devices.size() > 1) {
      throw Error(Code::invalid_argument, "vectors cannot stay in the memory of a device: this engine has several");
    }
    if (to.device.kind == DeviceId::Kind::automatic || to_string(to.device) != info.device) {
      throw Error(Code::invalid_argument, cat("vectors cannot stay in the memory of the device ", to_string(to.device),
                                              ": this engine is on ", info.device));
    }
    if (to.rows < items || to.width != width) {
      throw Error(Code::invalid_argument, cat("memory for ", to.rows, " vectors of ", to.width,
                                              " values was given, and ", items, " of ", width, " are wanted"));
    }
  };
  const bool projected = request.options.feature == Feature::projected;
  check_one(request.image_vectors, request.images.size(), projected ? info.embed_dim : info.vision_width);
  check_one(request.text_vectors, request.texts.size(), projected ? info.embed_dim : info.text_width);
}

void Engine::Impl::describe(const EngineOptions& given) {
  engine::Replica& first = workers->replica(0);
  const auto& m = first.model();
  const auto& c = m.config;
  auto& b = first.backend();
  info.model = given.model, info.layout = c.layout, info.model_hash = m.hash;
  info.device = to_string(b.device()), info.device_name = b.device_name(), info.isa = b.isa();
  info.precision = to_string(m.precision), info.reference = to_string(prepare.reference);
  info.decode = prepare.fast_decode ? "dct-scaled" : "exact";
  info.exif = to_string(prepare.exif), info.cleaning = to_string(prepare.cleaning);
  info.embed_dim = c.embed_dim, info.vision_width = c.vision.width, info.text_width = c.text.width;
  info.input_size = c.vision.image_size, info.context_length = c.text.context_length;
  info.vocab_size = c.text.vocab_size;
  info.parameters = m.parameters, info.weight_bytes = m.weight_bytes;
  info.replicas = workers->size();
  info.planned_bytes = info.weight_bytes;
  for (int i = 0; i < info.replicas; ++i) {
    info.arena_bytes += workers->replica(i).arena_bytes();
    info.planned_bytes += workers->replica(i).planned_bytes();
    info.device_bytes += workers->replica(i).device_bytes();
    workers->replica(i).add_choices(choices);
    workers->replica(i).add_work(linear_work);
    info.devices.push_back(to_string(workers->replica(i).backend().device()));
  }
  info.max_batch = first.max_batch();
  info.vision_loaded = m.vision.has_value(), info.text_loaded = m.text.has_value();
  info.load_seconds = seconds_since(made);
  info.logit_scale = m.logit_scale;
  info.knows_photographs = files.knows_photographs;
  info.rehearsed = first.rehearsed();
  for (const auto& one : choices) info.rehearsed.recorded += one->recorded;
}

std::vector<Embedding> Engine::Impl::embed(Request request, bool images) {
  std::vector<Embedding> out;
  const std::size_t total = images ? request.images.size() : request.texts.size();
  std::vector<std::future<Response>> pieces;
  for (std::size_t first = 0; first < total; first += piece) {
    const auto begin_at = static_cast<std::ptrdiff_t>(first),
               end_at = static_cast<std::ptrdiff_t>(std::min(first + piece, total));
    Request part;
    part.options = request.options;
    if (images) {
      part.images.assign(std::make_move_iterator(request.images.begin() + begin_at),
                         std::make_move_iterator(request.images.begin() + end_at));
    } else {
      part.texts.assign(std::make_move_iterator(request.texts.begin() + begin_at),
                        std::make_move_iterator(request.texts.begin() + end_at));
    }
    auto [future, on_done] = promised();
    pieces.push_back(std::move(future));
    scheduler->submit(std::move(part), std::move(on_done), true);
  }
  for (auto& p : pieces) {
    Response r = wait(std::move(p));
    for (Embedding& e : images ? r.images : r.texts) out.push_back(std::move(e));
  }
  return out;
}

Response Engine::Impl::wait(std::future<Response> answer) {
  // A processor computes on the threads that would have to stay awake.
  if (info.device.starts_with("cuda") && std::thread::hardware_concurrency() >= 4) {
    if (awake++ == 0) {
      const auto end = engine::Clock::now() + kAwake;
      while (answer.wait_for(std::chrono::seconds(0)) != std::future_status::ready && engine::Clock::now() < end) {
      }
    }
    --awake;
  }
  return answer.get();
}

EncodedImage read_image(const std::string& path, std::size_t max_bytes) {
  std::error_code status;
  const auto kind = std::filesystem::status(path, status);
  if (kind.type() == std::filesystem::file_type::not_found) throw Error(Code::not_found, cat("no such file: ", path));
  if (!std::filesystem::is_regular_file(kind)) throw Error(Code::io_error, cat(path, " is not a regular file"));
  const auto size = std::filesystem::file_size(path, status);
  if (!status && size > max_bytes) {
    throw Error(Code::too_large, cat(path, " has ", size, " bytes, more than the limit of ", max_bytes));
  }
  std::ifstream file(path, std::ios::binary);
  if (!file) throw Error(Code::io_error, cat("cannot open ", path, ": is it readable?"));
  auto bytes = std::make_shared<std::vector<std::byte>>(status ? 0 : size);
  file.read(reinterpret_cast<char*>(bytes->data()), static_cast<std::streamsize>(bytes->size()));
  if (static_cast<std::size_t>(file.gcount()) != bytes->size()) {
    throw Error(Code::io_error, cat("read only ", file.gcount(), " of ", bytes->size(), " bytes of ", path));
  }
  return {std::move(bytes)};
}

Engine::Engine(Context& context, const EngineOptions& options) : impl_(std::make_unique<Impl>(context, options)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

const EngineInfo& Engine::info() const noexcept {
  return impl_->info;
}
std::size_t Engine::queued() const noexcept {
  return impl_->scheduler->size();
}
bool Engine::healthy() const {
  return health().working > 0;
}
int Engine::working_replicas() const {
  return health().working;
}
std::vector<Token> Engine::tokenize(std::string_view text) const {
  return impl_->preparer->tokenize(text);
}

EngineHealth Engine::health() const {
  return impl_->workers->health();
}

CacheStats Engine::cache_stats() const {
  return impl_->scheduler->caches().stats();
}
void Engine::clear_caches() {
  impl_->scheduler->caches().clear();
}

double Engine::eight_bit_share() const {
  std::uint64_t all = 0, eight_bit = 0;
  for (const auto& one : impl_->linear_work) all += one->all, eight_bit += one->eight_bit;
  return all == 0 ? 0 : static_cast<double>(eight_bit) / static_cast<double>(all);
}

KernelChoices Engine::kernel_choices() const {
  KernelChoices out;
  for (const auto& one : impl_->choices) {
    out.file = one->file;
    out.measured += one->measured, out.proposed += one->proposed, out.recorded += one->recorded;
  }
  return out;
}

std::vector<Embedding> Engine::embed_images(std::span<const ImageInput> images, const EmbedOptions& options) {
  Request request;
  request.images.assign(images.begin(), images.end());
  request.options = options;
  return impl_->embed(std::move(request), true);
}

std::vector<Embedding> Engine::embed_texts(std::span<const TextInput> texts, const EmbedOptions& options) {
  Request request;
  request.texts.assign(texts.begin(), texts.end());
  request.options = options;
  return impl_->embed(std::move(request), false);
}

Response Engine::wait(std::future<Response> answer) const {
  return impl_->wait(std::move(answer));
}

void Engine::submit(Request request, OnDone on_done) {
  impl_->check(request);
  impl_->scheduler->submit(std::move(request), std::move(on_done), false);
}

std::future<Response> Engine::submit(Request request) {
  auto [future, on_done] = promised();
  submit(std::move(request), std::move(on_done));
  return std::move(future);
}

}  // namespace tandem
