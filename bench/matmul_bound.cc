// How much of a forward pass is matrix products: the pass, and its linear layers alone.
//
// The bound is the sum of a tower's linear layers with nothing around them: no bias, activation or residual, every
// layer's own packed weights, so that caches help no more than they do in the real pass. The last layer counts for the
// rows that pooling reads, as the pass computes it. Every engine that can multiply here is timed and the faster one is
// the bound; "share" is the bound over the pass. All of it is interleaved in one run, and medians are compared.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "backend/cpu/cpu_backend.h"
#include "base/strings.h"
#include "model/model.h"

namespace tandem {
namespace {

using backend::Backend;
using backend::PreparedWeight;

struct Options {
  std::string model = "ViT-B-32", what = "image", precision = "fp32", isa, clock = "wall";
  int batch = 32, text_length = 16, threads = 0, runs = 9, warmup = 2;
};

/// One product of a pass: rows x weight.
struct Product {
  std::int64_t rows;
  const PreparedWeight* weight;
  DType type;
};

/// The weights stay where they are between the passes: on the host all of them are resident.
std::vector<Product> products(const model::BlockStore& blocks, Backend& backend, std::int64_t rows, std::int64_t count,
                              DType type) {
  std::vector<Product> all;
  for (int i = 0; i + 1 < blocks.count(); ++i) {
    const model::HeldBlock held(blocks, i, backend);
    const model::BlockWeights& b = *held;
    for (const model::Linear* w : {&b.qkv, &b.out, &b.fc1, &b.fc2}) all.push_back({rows, w->weight.get(), type});
  }
  const model::HeldBlock held(blocks, blocks.count() - 1, backend);
  const model::BlockWeights& last = *held;
  all.push_back({rows, last.kv.weight.get(), type});
  for (const model::Linear* w : {&last.q, &last.out, &last.fc1, &last.fc2})
    all.push_back({count, w->weight.get(), type});
  return all;
}

/// Wall time, or (for machines that others use) the time that this one thread was given.
double seconds(const std::string& clock) {
  if (clock == "wall") {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Timed {
  std::string name;
  std::function<void()> run;
  std::vector<double> milliseconds;
  double median() {
    std::sort(milliseconds.begin(), milliseconds.end());
    return milliseconds[milliseconds.size() / 2];
  }
};

/// Linear layers with nothing around them, from and into one buffer each.
void multiply(Backend& backend, const std::vector<Product>& all, Tensor& x, Tensor& y) {
  for (const Product& p : all) {
    backend::LinearArgs a;
    a.x = backend::ConstOperand(ConstView(x.view().data, p.type, {p.rows, p.weight->inputs()}));
    a.weight = p.weight;
    a.out.view = {y.view().data, p.type, {p.rows, p.weight->outputs()}};
    backend.linear(a);
  }
}

void fill(Tensor& t, DType type) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(t.bytes() / size_of(type));
  for (float& v : values) v = normal(random);
  const Shape shape{static_cast<std::int64_t>(values.size())};
  convert(ConstView(reinterpret_cast<std::byte*>(values.data()), DType::f32, shape), View(t.view().data, type, shape));
}

nlohmann::ordered_json measure(const Options& o) {
  const auto own = backend::make_cpu_backend({o.threads, false, o.isa});
  const auto onednn = backend::make_cpu_backend({o.threads, false, o.isa, backend::GemmEngine::onednn});
  const Precision precision = own->resolve(parse_precision(o.precision));
  const DType type = own->types(precision).activation;
  const bool image = o.what == "image";
  const model::ModelFiles files = model::open_random(o.model, 1);
  const model::Model m = model::load_model(files, *own, {precision, image, !image});
  const model::Config& c = m.config;

  const std::int64_t tokens = image ? c.vision.tokens() : o.text_length, rows = o.batch * tokens;
  std::vector<Product> all = products(image ? *m.vision->blocks : *m.text->blocks, *own, rows, o.batch, type);
  if (image) {
    all.push_back(
        {static_cast<std::int64_t>(o.batch) * c.vision.grid() * c.vision.grid(), m.vision->patch_embed.get(), type});
  }
  std::size_t x_bytes = 0, y_bytes = 0;
  double operations = 0;
  for (const Product& p : all) {
    x_bytes = std::max(x_bytes, static_cast<std::size_t>(p.rows * p.weight->inputs()) * size_of(type));
    y_bytes = std::max(y_bytes, static_cast<std::size_t>(p.rows * p.weight->outputs()) * size_of(type));
    operations += 2.0 * static_cast<double>(p.rows * p.weight->inputs() * p.weight->outputs());
  }
  Tensor x = host_tensor(DType::u8, {static_cast<std::int64_t>(x_bytes)});
  Tensor y = host_tensor(DType::u8, {static_cast<std::int64_t>(y_bytes)});
  fill(x, type);

  std::mt19937 random(2);
  const std::int64_t side = c.vision.image_size;
  Tensor pixels = host_tensor(DType::u8, {o.batch, side, side, 3});
  for (std::size_t i = 0; i < pixels.bytes(); ++i) pixels.view().data[i] = static_cast<std::byte>(random());
  std::vector<std::vector<std::int32_t>> ids(static_cast<std::size_t>(o.batch));
  std::vector<std::span<const std::int32_t>> texts;
  for (auto& t : ids) {
    for (int i = 0; i < o.text_length; ++i) t.push_back(static_cast<std::int32_t>(1 + random() % 1000));
    t.front() = c.text.start_id, t.back() = c.text.end_id;
    texts.emplace_back(t);
  }
  model::PackedTexts packed;
  model::pack_texts(c.text, texts, false, packed);
  Arena arena(own->allocate(image ? model::plan_images(*own, precision, c.vision, c.embed_dim, o.batch)
                                  : model::plan_texts(*own, precision, c.text, c.embed_dim, o.batch, rows)));
  parallel::Alone alone;
  model::Execution ex{*own, arena, alone, precision};

  std::vector<Timed> timed;
  timed.push_back({"own", [&] { multiply(*own, all, x, y); }, {}});
  timed.push_back({"onednn", [&] { multiply(*onednn, all, x, y); }, {}});
  timed.push_back({"forward",
                   [&] {
                     if (image) {
                       model::encode_images(ex, c.vision, *m.vision, c.embed_dim, pixels.view(), {});
                     } else {
                       model::encode_texts(ex, c.text, *m.text, c.embed_dim, packed, {});
                     }
                   },
                   {}});
  for (int r = -o.warmup; r < o.runs; ++r) {
    for (Timed& t : timed) {
      // OpenMP's threads look for more work for milliseconds after oneDNN's last product: not on the next one's cores.
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const double before = seconds(o.clock);
      t.run();
      if (r >= 0) t.milliseconds.push_back((seconds(o.clock) - before) * 1e3);
    }
  }
  const double own_ms = timed[0].median(), onednn_ms = timed[1].median(), forward_ms = timed[2].median();
  const double bound = std::min(own_ms, onednn_ms);
  return {{"model", o.model},
          {"what", o.what},
          {"batch", o.batch},
          {"text_length", image ? 0 : o.text_length},
          {"precision", to_string(precision)},
          {"device_name", own->device_name()},
          {"isa", own->isa()},
          {"threads", o.threads},
          {"clock", o.clock},
          {"gflop", operations * 1e-9},
          {"bound_ms", bound},
          {"bound_own_ms", own_ms},
          {"bound_onednn_ms", onednn_ms},
          {"bound_gflop_per_second", operations * 1e-6 / bound},
          {"forward_ms", forward_ms},
          {"forward_min_ms", timed[2].milliseconds.front()},
          {"items_per_second", o.batch * 1e3 / forward_ms},
          {"share", bound / forward_ms}};
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  tandem::Options o;
  CLI::App app("The share of a forward pass that its matrix products alone would take");
  app.add_option("--model", o.model, "ViT-B-32, ViT-L-14, …: seeded random weights")->capture_default_str();
  app.add_option("--what", o.what)->check(CLI::IsMember({"image", "text"}))->capture_default_str();
  app.add_option("--precision", o.precision)->capture_default_str();
  app.add_option("--batch", o.batch)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--text-length", o.text_length)->check(CLI::Range(2, 77))->capture_default_str();
  app.add_option("--threads", o.threads, "0: one per core")->capture_default_str();
  app.add_option("--isa", o.isa, "sse2, avx2, avx512, avx512_bf16; empty: the best");
  app.add_option("--runs", o.runs)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--warmup", o.warmup)->capture_default_str();
  app.add_option("--clock", o.clock, "cpu: the calling thread's own time, for --threads 1 on a busy machine")
      ->check(CLI::IsMember({"wall", "cpu"}))
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    std::cout << tandem::measure(o).dump() << std::endl;
  } catch (const std::exception& e) {
    std::cerr << "matmul_bound: " << e.what() << std::endl;
    return 1;
  }
  return 0;
}
