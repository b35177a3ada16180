// softmax(q k^T / sqrt(head_dim)) v: which kernel computes it.
#include "backend/cuda/device.cuh"
#include "backend/cuda/kernels.h"

namespace tandem::backend::cuda {

cudaError_t attention(const AttentionArgs& a, const AttentionDevice& device, Queue queue) {
  if (a.queries.rows == 0 || a.queries.count == 0) return cudaSuccess;
  // Heads that begin at multiples of 16 bytes, in rows that do.
  const bool vectors = a.head_dim % 8 == 0 && vectors_fit(a.q) && vectors_fit(a.k) && vectors_fit(a.v) &&
                       vectors_fit(a.prefix_k) && vectors_fit(a.prefix_v) && vectors_fit(a.out);
  const bool one_query = a.queries.offsets == nullptr && a.queries.longest == 1 && !a.causal;
  if (one_query && vectors) return attention_one_query(a, device, queue);
  if (device.tensor_cores && vectors) {
    if (a.q.dtype != DType::f32) {
      return device.warpgroups && wgmma_fits(a) ? attention_wgmma(a, device, queue) : attention_mma(a, device, queue);
    }
    if (device.tf32) return attention_tf32(a, device, queue);
  }
  return attention_plain(a, device, queue);
}

}  // namespace tandem::backend::cuda
