#include "cli/bench_run.h"

#include <algorithm>
#include <utility>

namespace tandem::cli {

BenchRun::BenchRun(Engine& engine, const BenchInputs& inputs, std::size_t batch, int in_flight, Io io)
    : engine_(engine), inputs_(inputs), batch_(batch), in_flight_(static_cast<std::size_t>(in_flight)) {
  images.resize(inputs.images.size());
  texts.resize(inputs.texts.size());
  if (io == Io::host) return;
  const DeviceId device = parse_device(engine.info().device);
  const int width = engine.info().embed_dim;
  if (!images.empty()) image_vectors_.emplace(device, images.size(), batch, width);
  if (!texts.empty()) text_vectors_.emplace(device, texts.size(), batch, width);
}

double BenchRun::run() {
  while (running_.size() < in_flight_) start();
  Running oldest = std::move(running_.front());
  running_.pop_front();
  Response response = engine_.wait(std::move(oldest.answer));
  const auto now = Clock::now();
  const double elapsed = std::chrono::duration<double, std::milli>(now - std::max(oldest.begin, done_)).count();
  done_ = now;
  keep(response.images, images, oldest.first);
  keep(response.texts, texts, oldest.first);
  return elapsed;
}

void BenchRun::finish() {
  while (!running_.empty()) {
    engine_.wait(std::move(running_.front().answer));
    running_.pop_front();
  }
  if (image_vectors_) images = image_vectors_->download();
  if (text_vectors_) texts = text_vectors_->download();
}

void BenchRun::start() {
  Request request;
  for (std::size_t i = 0; i < batch_; ++i) {
    if (!images.empty()) request.images.push_back(inputs_.images[(at_ + i) % images.size()]);
    if (!texts.empty()) request.texts.push_back(inputs_.texts[(at_ + i) % texts.size()]);
  }
  if (image_vectors_) request.image_vectors = image_vectors_->at(at_ % images.size());
  if (text_vectors_) request.text_vectors = text_vectors_->at(at_ % texts.size());
  const auto begin = Clock::now();
  running_.push_back({engine_.submit(std::move(request)), at_, begin});
  at_ += batch_;
}

void BenchRun::keep(std::vector<Embedding>& from, std::vector<Embedding>& to, std::size_t first) {
  for (std::size_t i = 0; i < from.size(); ++i) {
    if (from[i].error) throw Error(from[i].error->code, from[i].error->message);
    to[(first + i) % to.size()] = std::move(from[i]);
  }
}

}  // namespace tandem::cli
