// What a Context owns.
#pragma once

#include "base/log.h"
#include "base/thread_pool.h"
#include "tandem/context.h"

namespace tandem {

struct Context::Impl {
  explicit Impl(const ContextOptions& given);
  ContextOptions options;  ///< zeros resolved to the number of usable cores
  Logger logger;
  ThreadPool decode;  ///< decodes, resizes and tokenises for every Engine
};

}  // namespace tandem
