// The readable truth: every operation as plain loops over float32 in host memory, sums in double. Slow on purpose.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace tandem::backend {

std::unique_ptr<Backend> make_reference_backend();

}  // namespace tandem::backend
