#include "backend/cuda/moment.h"

namespace tandem::backend::cuda {
namespace {

class CudaMoment final : public Moment {
 public:
  CudaMoment(Health& health, cudaStream_t stream) : health_(health), event_(make_event(health, true)) {
    health_.check(cudaEventRecord(event_.get(), stream), "recording an event");
  }
  double since(const Moment& earlier) const override {
    float milliseconds = 0;
    health_.check(cudaEventSynchronize(event_.get()), "waiting for the device");
    health_.check(
        cudaEventElapsedTime(&milliseconds, static_cast<const CudaMoment&>(earlier).event_.get(), event_.get()),
        "comparing events");
    return milliseconds;
  }

 private:
  Health& health_;
  Event event_;
};

}  // namespace

std::unique_ptr<Moment> make_moment(Health& health, cudaStream_t stream) {
  return std::make_unique<CudaMoment>(health, stream);
}

}  // namespace tandem::backend::cuda
