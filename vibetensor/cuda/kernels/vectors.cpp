#include "vibetensor/cuda/kernels/vectors.h"

#include <string.h>

namespace vt_cuda {

using vt::VectorArgs;

namespace {

// Bytes that an access of a vector is aligned to.
int vector_access(int log2, int size) {
  const int bytes = size << log2;
  return bytes < 16 ? bytes : 16;
}

bool is_multiple(int64_t x, int64_t of) { return (x & (of - 1)) == 0; }

// Counts the vectors of one dimension. They begin at the first element that is aligned in every
// operand; false: there is none.
bool count_vectors(VectorArgs &a, int operands, const int *sizes, int log2) {
  int64_t head = 0;
  const auto dense = [&](int k) { return k == 0 || !(a.splat >> (k - 1) & 1); };
  for (int k = 0; k < operands; k++) {
    if (!dense(k)) continue;
    const int64_t access = vector_access(log2, sizes[k]);
    const int64_t past = reinterpret_cast<intptr_t>(a.data[k]) & (access - 1);
    if (past == 0) continue;
    if (!is_multiple(past, sizes[k])) return false;
    const int64_t missing = (access - past) >> __builtin_ctz(sizes[k]);
    head = missing > head ? missing : head;
  }
  for (int k = 0; head > 0 && k < operands; k++) {
    const intptr_t first = reinterpret_cast<intptr_t>(a.data[k]) + head * sizes[k];
    if (dense(k) && !is_multiple(first, vector_access(log2, sizes[k]))) return false;
  }
  if (head > a.numel) head = a.numel;
  a.vectors = (a.numel - head) >> log2;
  a.head = uint8_t(head);
  a.rest = uint8_t(a.numel - (a.vectors << log2));
  return true;
}

// The same of several dimensions: rows of whole vectors, aligned.
bool row_vectors(VectorArgs &a, const vt_iter &it, const int *sizes, int log2) {
  if (it.ndim > vt::kVectorDims || !is_multiple(it.sizes[0], 1 << log2) || !fits_32_bits(it)) {
    return false;
  }
  for (int k = 0; k < it.noperands; k++) {
    const bool splat = k > 0 && (a.splat >> (k - 1) & 1);
    const int64_t access = splat ? 1 : vector_access(log2, sizes[k]);
    if (!is_multiple(reinterpret_cast<intptr_t>(a.data[k]), access)) return false;
    for (int d = 1; d < it.ndim; d++) {
      const int64_t stride = it.host[k] ? 0 : it.strides[k][d];
      if (!is_multiple(stride, access)) return false;
      a.strides[k][d] = int32_t(stride);
    }
  }
  for (int d = 0; d < it.ndim; d++) {
    a.sizes[d] = vt::Divider::of(uint32_t(d == 0 ? it.sizes[0] >> log2 : it.sizes[d]));
  }
  a.vectors = it.numel >> log2;
  return true;
}

}  // namespace

bool vector_args(const vt_iter &it, int dtype, VectorArgs &a, int *log2) {
  int sizes[VT_MAX_OPERANDS], widest = 1;
  memset(&a, 0, sizeof(a));
  for (int k = 0; k < it.noperands; k++) {
    const int64_t inner = it.strides[k][0];
    sizes[k] = dtype_size(it.loop_dtype[k]);
    widest = sizes[k] > widest ? sizes[k] : widest;
    if (it.host[k]) {
      if (it.noperands == 2) return false;
      a.host |= 1u << (k - 1);
      a.splat |= 1u << (k - 1);
      a.value[k - 1] = host_element(it, k);
      continue;
    }
    if (it.dtype[k] != it.loop_dtype[k]) return false;
    a.data[k] = it.data[k];
    if (inner == sizes[k] || it.sizes[0] == 1) continue;
    if (inner != 0 || k == 0 || it.noperands == 2) return false;
    a.splat |= 1u << (k - 1);
  }
  *log2 = log2_vector(dtype, widest);
  a.numel = it.numel;
  a.ndim = uint8_t(it.ndim);
  a.dtype = uint8_t(dtype);
  return it.ndim == 1 ? count_vectors(a, it.noperands, sizes, *log2)
                      : row_vectors(a, it, sizes, *log2);
}

vt_status launch_vectors(Kernel &kernel, const VectorArgs &a, int log2, vt_context *ctx) {
  // vector_form::U vectors to a thread.
  const int64_t tile = int64_t(vt::kPointwiseThreads) << (log2 == 1 ? 2 : log2 == 4 ? 0 : 1);
  const int64_t blocks = (a.vectors + tile - 1) >> __builtin_ctzll(tile);
  return launch_packed(ctx, kernel, {unsigned(blocks > 0 ? blocks : 1)}, {vt::kPointwiseThreads}, 0,
                       &a, sizeof(a), &kPlanUse);
}

}  // namespace vt_cuda
