// The one entry of libtandem_cuda.so.
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/runtime.h"
#include "base/strings.h"

namespace tandem::backend::cuda {
namespace {

class Library final : public CudaLibrary {
 public:
  std::vector<CudaDevice> devices() const override { return list_devices(); }
  std::unique_ptr<Backend> make_backend(int index, const CudaOptions& options) const override {
    const auto all = list_devices();
    if (all.empty()) throw Error(Code::unsupported, "no CUDA device was found: use --device cpu");
    if (index < 0 || index >= static_cast<int>(all.size())) {
      throw Error(Code::unsupported, cat("cuda:", index, " does not exist: there ", all.size() == 1 ? "is" : "are", " ",
                                         all.size(), ", from cuda:0: choose one of these, or --device cpu"));
    }
    return make_backend_on(all[static_cast<std::size_t>(index)], options);
  }
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const CudaLibrary* tandem_cuda_library(const char* abi,
                                                                                         const char** built) {
  static const Library library;
  *built = TANDEM_CUDA_ABI;
  return std::string_view(abi) == TANDEM_CUDA_ABI ? &library : nullptr;
}

}  // namespace tandem::backend::cuda
