// From the inputs of a request to their vectors: the one way to the engine that every dialect takes.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "server/input.h"
#include "server/service.h"

namespace tandem::server {

/// One Embedding for each input, in the request's order; an error's message begins with the input's name.
struct Vectors {
  std::vector<Embedding> items;
  double queue_seconds = 0, prepare_seconds = 0, compute_seconds = 0;

  long tokens() const noexcept;
  bool truncated() const noexcept;
};

/// How an input is called in messages: "input[3]".
using NameOf = std::function<std::string(std::size_t)>;
/// "list[i]", or "list" alone where there is one.
NameOf names_in(std::string list, std::size_t count);
/// Several lists, one behind the other: "query", "documents[0]", ….
NameOf names_in(std::vector<std::pair<std::string, std::size_t>> lists);

/// Fetches the pictures that are elsewhere, hands all inputs to the engine, and calls on_done on a worker thread, or
/// inside the call where that is said to be quick and every vector is known already; what it throws is answered. Memory
/// for the vectors is held by the call. Throws what Service::submit() throws.
void embed(Service& service, const CallPtr& call, const Reply& reply, std::vector<Input> inputs,
           const EmbedOptions& options, NameOf name, std::function<void(Vectors)> on_done, bool quick = false);

/// Values of one vector.
std::size_t width_of(const EngineInfo& info, const EmbedOptions& options) noexcept;

/// Throws the first item's error, naming its field.
void require_all(const Vectors& vectors);

}  // namespace tandem::server
