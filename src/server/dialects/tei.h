// What answers in the manner of text-embeddings-inference have in common.
#pragma once

#include <chrono>
#include <vector>

#include "server/vectors.h"

namespace tandem::server {

/// When a request of TEI's was begun.
struct TeiClock {
  std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
};

/// Characters of all texts, as x-compute-characters counts them.
std::size_t characters_of(const std::vector<Input>& inputs) noexcept;

/// x-compute-type, x-compute-time, x-compute-characters, x-compute-tokens, x-total-time, x-tokenization-time,
/// x-queue-time and x-inference-time, in milliseconds.
void add_tei_headers(Answer& answer, const Vectors& vectors, const TeiClock& clock, std::size_t characters,
                     const EngineInfo& info);

}  // namespace tandem::server
