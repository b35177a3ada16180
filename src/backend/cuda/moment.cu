// Waiting on the device, by its own clock.
#include "backend/cuda/moment.h"

namespace tandem::backend::cuda {
namespace {

__device__ unsigned long long nanoseconds() {
  unsigned long long now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

__global__ void wait_for(unsigned long long duration) {
  const unsigned long long begin = nanoseconds();
  while (nanoseconds() - begin < duration) __nanosleep(1000);
}

}  // namespace

cudaError_t linger(double milliseconds, cudaStream_t stream) {
  wait_for<<<1, 1, 0, stream>>>(static_cast<unsigned long long>(milliseconds * 1e6));
  return cudaGetLastError();
}

}  // namespace tandem::backend::cuda
