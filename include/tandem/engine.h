// A loaded CLIP model that embeds images and texts.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tandem/context.h"
#include "tandem/error.h"
#include "tandem/observer.h"
#include "tandem/types.h"

namespace tandem {

/// A file's bytes: JPEG, PNG, WebP, BMP or GIF (first frame). Shared, so that a request can outlive its caller's
/// buffer.
struct EncodedImage {
  std::shared_ptr<const std::vector<std::byte>> bytes;
};

/// Decoded pixels in host memory: height x width x 3, RGB, one byte a channel. Pictures of exactly the model's
/// input size are taken as they are, others are resized and cropped as decoded files are.
struct HostPixels {
  std::shared_ptr<const std::vector<std::uint8_t>> pixels;
  int width = 0, height = 0;
  /// Instead of `pixels`: width x height x 3 bytes inside memory that this keeps alive, such as a buffer that holds
  /// many pictures.
  std::shared_ptr<const std::uint8_t> shared = {};
};

/// Fitted pixels in the memory of the Engine's own device: input_size x input_size x 3, one byte a channel. They are
/// read in place where the pictures of a large batch lie one behind the other in the order of the request; a few are
/// copied on the device, to where the recorded pass for so many reads them.
/// Whoever wrote them has waited until they are there, and leaves them until the request is answered.
struct DevicePixels {
  DeviceId device;
  const void* pixels = nullptr;
  int width = 0, height = 0;
};

using ImageInput = std::variant<EncodedImage, HostPixels, DevicePixels>;

/// A text (UTF-8), or its token ids with start and end, without padding.
using TextInput = std::variant<std::string, std::vector<std::int32_t>>;

/// Reads a file into an EncodedImage. Throws not_found, too_large or io_error.
EncodedImage read_image(const std::string& path, std::size_t max_bytes = std::size_t{256} << 20);

struct ItemError {
  Code code = Code::internal;
  std::string message;
};

/// The vector of one input, or the reason why this input alone has none.
struct Embedding {
  std::vector<float> values;
  std::optional<ItemError> error;
  bool truncated = false;     ///< a text was longer than the model's context
  int tokens = 0;             ///< of a text, with start and end and after truncation; 0 for an image
  int width = 0, height = 0;  ///< of a picture as it was given, upright; 0 for a text
};

struct EmbedOptions {
  Feature feature = Feature::projected;
  bool normalize = true;  ///< to unit L2 norm
};

/// Memory of the Engine's own device for vectors, float32: row i is item i's, `width` values each, rows one behind the
/// other.
struct DeviceVectors {
  DeviceId device;
  float* values = nullptr;
  std::size_t rows = 0;
  int width = 0;
};

/// Work of high priority goes first, always: as long as there is some, normal work waits, up to its deadline where it
/// has one. Give it to what people wait for, and not to more than the device can do.
enum class Priority : std::uint8_t { normal, high };

/// Shared between a caller and its request: setting it withdraws work that has not started.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

struct Response {
  std::vector<Embedding> images, texts;  ///< in the request's order
  double queue_seconds = 0, prepare_seconds = 0, compute_seconds = 0;
};

struct Request {
  std::vector<ImageInput> images;
  std::vector<TextInput> texts;
  EmbedOptions options;
  /// Where set, vectors stay on the device: they are there when the request is answered, Embedding::values are empty,
  /// and nobody has looked whether they are finite. Items with an error leave their row as it was.
  DeviceVectors image_vectors, text_vectors;
  std::optional<std::chrono::steady_clock::time_point> deadline;  ///< passed before it starts: deadline_exceeded
  Priority priority = Priority::normal;
  CancelFlag cancel;  ///< may be null
};

/// Called once with the response or the reason why there is none: on an engine thread, or inside submit() when nothing
/// is left to compute. Must not throw, block, or destroy the Engine.
using OnDone = std::function<void(std::variant<Response, ItemError>)>;

struct LabelScore {
  std::size_t label = 0;  ///< index into the labels given
  float logit = 0;        ///< logit scale x cosine
  float probability = 0;  ///< softmax over all labels
};

struct Classification {
  std::vector<LabelScore> labels;  ///< best first
  std::optional<ItemError> error;
};

/// Labels turned into unit vectors, once for many pictures.
struct LabelSet {
  std::vector<std::string> labels;
  std::vector<float> vectors;  ///< labels.size() x embed_dim
};

/// What an Engine remembers of what it has computed, so that it need not compute it again. All off: what bulk jobs and
/// measurements want.
struct CacheOptions {
  std::size_t texts = 0;        ///< vectors of texts, by their token ids; entries
  std::size_t pictures = 0;     ///< fitted pictures, by the contents of what was given; entries
  std::size_t image_bytes = 0;  ///< vectors of pictures, by the same; bytes
  bool coalesce = false;        ///< equal inputs that are under way at the same time are computed once
};

/// Counts since the Engine was made, and what is there now. An input that was given while an equal one was under way is
/// coalesced, and neither a hit nor a miss; of pictures that is counted with their vectors.
struct CacheCounts {
  std::uint64_t hits = 0, misses = 0, evicted = 0;
  std::size_t entries = 0;
  std::size_t bytes = 0;  ///< of the entries, keys and tables included
  std::uint64_t coalesced = 0;
};
struct CacheStats {
  CacheCounts texts, pictures, image_vectors;
  std::uint64_t coalesced = 0;  ///< inputs that shared the work of an equal one: texts and pictures
};

struct EngineOptions {
  std::string model = "emoji";  ///< a folder, a cached hub name, "emoji", or random:NAME[:SEED]
  std::string vocab = {};       ///< tokenizer files; empty: beside the weights
  DeviceId device = {};
  /// Several devices: as many replicas on each as `replicas` says, behind one queue; a device that is free takes next.
  /// Empty: `device`. Memory of a device is then neither read nor written for callers.
  std::vector<DeviceId> devices = {};
  /// Replicas on the device: threads that each compute a batch of their own from one queue, whoever is free first. They
  /// share the weights, and each has an arena. One is best for latency; more keep a device busy that one batch does not
  /// fill. 0: on a GPU one; on a processor up to four, which divide its threads among the passes that are under way, so
  /// that a pass has all of them as long as it is alone.
  int replicas = 1;
  Precision precision = Precision::automatic;
  /// In int8 and fp8: layers that compute in the precision below (fp16 on a GPU; bf16 on a processor that has it, else
  /// fp32). Names like "vision.blocks.5.fc2" (qkv, out, fc1, fc2), with * for any characters;
  /// one text may hold several with commas between them. "auto": those that calibration chose, which is also what no
  /// names mean; "none": none.
  std::vector<std::string> keep = {};
  /// In int8 and fp8: a file of `tandem calibrate`. Empty: the one beside the model or in the cache folder, where there
  /// is one; "none": none.
  std::string calibration = {};
  Reference reference = Reference::automatic;
  Exif exif = Exif::apply;
  /// Decodes large JPEGs at a fraction of their size: faster, and NOT bit-exact with any reference.
  bool fast_decode = false;
  Cleaning cleaning = Cleaning::automatic;
  int max_batch = 0;  ///< items of one forward pass; 0: chosen from the model and the memory budget
  /// A pass may wait so long for more items, where more are on their way: being prepared, or expected since the last
  /// pass was larger; and never longer than a quarter of what the last pass took. An item that nobody follows is
  /// computed at once. 0: never.
  std::chrono::microseconds max_delay{0};
  /// How long a replica may measure, when it is made, what passes of several sizes take; passes then have the sizes
  /// that are fastest for what waits. 0: it does not.
  double measure_seconds = 0;
  /// A replica computes passes of the usual sizes when it is made, so that the first requests are as fast as later
  /// ones.
  bool warm_up = false;
  CacheOptions caches;
  std::size_t max_queue = 4096;               ///< items waiting; beyond it submit() throws overloaded
  bool load_vision = true, load_text = true;  ///< a tower that is not loaded refuses its inputs
  std::uint64_t max_pixels = 178'956'970;     ///< of one picture, before decoding
  std::shared_ptr<Observer> observer = {};    ///< told where the time goes; may be null
};

/// What a pass took, measured when its replica was made.
struct PassSeconds {
  int items = 0;
  double seconds = 0;
};

/// What the first replica computed before it took work.
struct Rehearsed {
  int warm_passes = 0;                     ///< for EngineOptions::warm_up
  double warm_seconds = 0;                 ///< all of them together
  int recorded = 0;                        ///< passes that a GPU's replicas, all of them, have recorded by then
  std::vector<PassSeconds> images, texts;  ///< for EngineOptions::measure_seconds, by items
  int text_tokens = 0;                     ///< of each of those texts; 0: none were measured
};

struct EngineInfo {
  std::string model, layout, model_hash, device, device_name, isa, precision, reference, exif, cleaning;
  std::string decode;  ///< "exact" or "dct-scaled"
  int embed_dim = 0, vision_width = 0, text_width = 0, input_size = 0, context_length = 0, vocab_size = 0;
  std::size_t parameters = 0;
  std::size_t weight_bytes = 0;   ///< shared by all replicas, and by other Engines on the same weights
  std::size_t arena_bytes = 0;    ///< of all replicas: activations, eight-bit rows, pixels that wait
  std::size_t planned_bytes = 0;  ///< what the planner expected: weights, arenas, workspaces of the device's libraries
  std::size_t device_bytes = 0;   ///< at most so far on a GPU, for everything; 0 on a processor
  int max_batch = 0, replicas = 1;
  std::vector<std::string> devices;  ///< of the replicas; `device` is the first one's
  double load_seconds = 0, logit_scale = 0;
  bool vision_loaded = true, text_loaded = true;
  bool knows_photographs = true;  ///< false for the bundled demo model
  Rehearsed rehearsed;
};

/// What became of an Engine's replicas: `working` and those that are `replacing` a failed device's, of `replicas`.
struct EngineHealth {
  int replicas = 0, working = 0, replacing = 0;
  std::string reason;  ///< of the latest failure, while not all work
};

/// How the algorithms of a GPU's matrix products were chosen, for the shapes met so far by the replicas that the Engine
/// began with; those that replaced one are not counted.
struct KernelChoices {
  std::string file;  ///< of measurements that is in use (`tandem bench --tune`); empty: none
  int measured = 0;  ///< shapes whose algorithm a measurement chose
  int proposed = 0;  ///< shapes that the library's heuristic chose for
  int recorded = 0;  ///< passes recorded, to be issued all at once from then on
};

/// One token of a text.
struct Token {
  std::int32_t id = 0;
  std::string text;      ///< the bytes that it stands for, cleaned as the model's tokenizer does
  bool special = false;  ///< start or end
};

class Engine {
 public:
  /// Loads a model; throws not_found, bad_data, unsupported, out_of_memory, … with the remedy.
  Engine(Context& context, const EngineOptions& options);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  const EngineInfo& info() const noexcept;

  /// One Embedding per input, in order. An input that fails has its error; the others are not affected. May be
  /// called from several threads. Blocks while the queue is full.
  std::vector<Embedding> embed_images(std::span<const ImageInput> images, const EmbedOptions& options = {});
  std::vector<Embedding> embed_texts(std::span<const TextInput> texts, const EmbedOptions& options = {});

  /// Turns labels into vectors: every template's "{}" is replaced by the label, embedded, and the unit vectors of a
  /// label's templates are averaged and normalised again. No template: the label itself.
  LabelSet encode_labels(std::span<const std::string> labels, std::span<const std::string> templates = {});

  /// Zero-shot classification: logits = logit_scale x cosine, softmax over the labels. top 0: all labels.
  std::vector<Classification> classify(std::span<const ImageInput> images, const LabelSet& labels, std::size_t top = 0);

  /// Queues work and returns at once. Throws overloaded when the queue is full, unavailable while shutting down.
  std::future<Response> submit(Request request);
  void submit(Request request, OnDone on_done);
  /// What submit()'s future gives. For an engine on a GPU, one caller at a time stays awake for the first milliseconds
  /// (where there are four cores or more): being woken takes as long as a noticeable part of a small pass.
  Response wait(std::future<Response> answer) const;

  /// A text's tokens with start and end, cut to the model's context. On the calling thread. Throws not_found where the
  /// model has no tokenizer.
  std::vector<Token> tokenize(std::string_view text) const;

  /// Items accepted and not yet answered.
  std::size_t queued() const noexcept;

  /// A replica whose device fails answers what it had begun with device_failure, and is made anew while the others
  /// work. As long as none works, requests wait, up to their deadline; once none is left and none could be replaced,
  /// everything that waits, and every later request, is answered with device_failure.
  EngineHealth health() const;
  /// Whether a replica works now.
  bool healthy() const;
  /// health().working: below info().replicas the Engine is degraded, at 0 not healthy.
  int working_replicas() const;
  CacheStats cache_stats() const;
  /// Forgets what was remembered; counts go on.
  void clear_caches();
  /// All zeros on a processor, which has nothing to choose.
  KernelChoices kernel_choices() const;
  /// Of the multiply-adds in the blocks' linear layers so far, the share that ran in eight bits.
  double eight_bit_share() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem
