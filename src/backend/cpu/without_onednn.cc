// A build without oneDNN (-DTANDEM_ONEDNN=OFF): the own kernels multiply everything.
#include "backend/cpu/onednn_matmul.h"
#include "tandem/error.h"

namespace tandem::backend::cpu {

struct OneDnnMatmul::Impl {};

bool OneDnnMatmul::available() noexcept {
  return false;
}

OneDnnMatmul::OneDnnMatmul(int) {
  throw Error(Code::unsupported, "this build has no oneDNN: build with -DTANDEM_ONEDNN=ON");
}
OneDnnMatmul::~OneDnnMatmul() = default;

bool OneDnnMatmul::prepare(const GemmCall&) {
  return false;
}
bool OneDnnMatmul::run(const GemmCall&) {
  return false;
}

}  // namespace tandem::backend::cpu
