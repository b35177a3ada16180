#include "tandem/context.h"

#include <algorithm>

#include "base/strings.h"
#include "engine/context_impl.h"
#include "tandem/error.h"

namespace tandem {
namespace {

ContextOptions resolved(ContextOptions o) {
  for (const int* threads : {&o.threads, &o.decode_threads}) {
    if (*threads < 0 || *threads > 4096) {
      throw Error(Code::invalid_argument, cat("threads ", *threads, " is out of range: give 0 (all cores) to 4096"));
    }
  }
  if (o.threads == 0) o.threads = usable_cores();
  if (o.decode_threads == 0) o.decode_threads = o.threads;
  return o;
}

/// One a decode thread, the last ones first; none: they are not bound.
std::vector<int> decode_cores(const ContextOptions& o) {
  if (!o.pin_decode_threads) return {};
  std::vector<int> cores = usable_core_numbers();
  std::reverse(cores.begin(), cores.end());
  return cores;
}

}  // namespace

Context::Impl::Impl(const ContextOptions& given)
    : options(resolved(given)),
      decode_threads_given(given.decode_threads != 0),
      threads_given(given.threads != 0),
      decode(options.decode_threads, {.cores = decode_cores(options), .name = "decode"}),
      memory(given.memory_budget) {
  if (options.log) {
    logger = Logger(
        [sink = options.log](LogLevel level, std::string_view message) { sink(static_cast<int>(level), message); });
  }
}

std::unique_ptr<backend::Backend> Context::Impl::backend(DeviceId device, int replica, int replicas,
                                                         bool together) const {
  if (together) return make_backend(device, options, {replica * options.threads / replicas, cores});
  ContextOptions mine = options;
  if (!threads_given) mine.threads = std::max(1, options.threads / replicas);
  return make_backend(device, mine, {replica * mine.threads, {}});
}

Context::Context(const ContextOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Context::~Context() = default;
Context::Context(Context&&) noexcept = default;
Context& Context::operator=(Context&&) noexcept = default;
const ContextOptions& Context::options() const noexcept {
  return impl_->options;
}
std::size_t Context::memory_used() const {
  return impl_->memory.used();
}

}  // namespace tandem
