// Batches through an engine, one after the other: what `bench` times.
#pragma once

#include <chrono>
#include <deque>
#include <future>
#include <optional>
#include <vector>

#include "cli/bench_device.h"
#include "cli/bench_inputs.h"
#include "cli/bench_options.h"

namespace tandem::cli {

/// Runs batches and keeps every input's latest vector, here or on the device.
class BenchRun {
 public:
  /// in_flight: batches that the engine has at a time. The engine and the inputs must stay.
  BenchRun(Engine& engine, const BenchInputs& inputs, std::size_t batch, int in_flight, Io io);

  /// Waits for one batch of each kind; both are in the engine's hands at the same time. Returns the milliseconds since
  /// it was given to the engine, or since the batch before it was done. Throws the error of an item that has one.
  double run();

  /// After the last batch: whatever the engine still has, and vectors that stayed on the device.
  void finish();

  std::vector<Embedding> images, texts;

 private:
  using Clock = std::chrono::steady_clock;
  struct Running {
    std::future<Response> answer;
    std::size_t first;
    Clock::time_point begin;
  };

  void start();
  static void keep(std::vector<Embedding>& from, std::vector<Embedding>& to, std::size_t first);

  Engine& engine_;
  const BenchInputs& inputs_;
  std::size_t batch_, in_flight_, at_ = 0;
  std::deque<Running> running_;
  Clock::time_point done_;
  std::optional<BenchVectors> image_vectors_, text_vectors_;
};

}  // namespace tandem::cli
