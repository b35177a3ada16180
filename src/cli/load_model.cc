#include "cli/load_model.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "engine/find_calibration.h"

namespace tandem::cli {

model::Model load_model(backend::Backend& backend, const model::ModelFiles& files, const EngineOptions& options,
                        bool vision, bool text) {
  ThreadPool pool(usable_cores());
  const model::EightBit eight_bit = engine::choose_eight_bit(files, options);
  model::LoadOptions load;
  load.precision = options.precision, load.eight_bit = &eight_bit;
  load.vision = vision, load.text = text;
  load.threads = std::min(usable_cores() + 1, 8), load.pool = &pool;
  return model::load_model(files, backend, load);
}

}  // namespace tandem::cli
