// Memory for weights and activations, on huge pages where the system grants them.
#pragma once

#include "tensor/tensor.h"

namespace tandem::backend::cpu {

/// At least 256-byte aligned. From 2 MB on, the whole huge pages inside are asked for as such: a product walks through
/// weights and rows far apart, and small pages cost it 2-3 % in address translation. Takes no more memory than asked
/// (to 4 kB). Throws out_of_memory naming the size.
Buffer allocate_pages(std::size_t bytes);

}  // namespace tandem::backend::cpu
