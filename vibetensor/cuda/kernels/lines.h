// Arrays of one shape as lines along a dimension (vt/lines.h), for operators that map or scan lines.
#ifndef VT_CUDA_LINES_H
#define VT_CUDA_LINES_H

#include "vibetensor/cuda/kernels/contiguous.h"
#include "vibetensor/cuda/kernels/shapes.h"
#include "vt/lines.h"

namespace vt_cuda {

using vt::Lines;

// False where the other dimensions are more than two that cannot be merged.
template <int N>
bool find_lines(const vt_array *const (&arrays)[N], int dim, Lines<N> *lines) {
  const vt_array &first = *arrays[0];
  *lines = {};
  lines->n = first.ndim > 0 ? first.sizes[dim] : 1;
  for (int k = 0; k < N; k++) lines->stride[k] = first.ndim > 0 ? arrays[k]->strides[dim] : 1;
  // A line of one element may be taken as contiguous.
  if (lines->n == 1) {
    for (int k = 0; k < N; k++) lines->stride[k] = 1;
  }
  Dims<N> dims;
  for (int d = first.ndim - 1; d >= 0; d--) {
    if (d == dim || first.sizes[d] == 1) continue;
    dims.sizes[dims.ndim] = first.sizes[d];
    for (int k = 0; k < N; k++) dims.strides[k][dims.ndim] = arrays[k]->strides[d];
    dims.ndim++;
  }
  lines->count = dims.numel();
  dims.sort();
  dims.coalesce();
  if (dims.ndim > 2) return false;
  lines->inner = dims.ndim > 0 ? dims.sizes[0] : 1;
  for (int k = 0; k < N; k++) {
    lines->inner_stride[k] = dims.ndim > 0 ? dims.strides[k][0] : 0;
    lines->outer_stride[k] = dims.ndim > 1 ? dims.strides[k][1] : 0;
  }
  // One dimension outside of the lines: no division to find a line.
  if (dims.ndim == 1 && llabs(lines->inner_stride[0]) > llabs(lines->stride[0])) {
    lines->inner = 1;
    for (int k = 0; k < N; k++) {
      lines->outer_stride[k] = lines->inner_stride[k];
      lines->inner_stride[k] = 0;
    }
  }
  return true;
}

// The lines of arrays in row-major order.
template <int N>
Lines<N> contiguous_lines(const vt_array &a, int dim) {
  Lines<N> lines = {};
  lines.n = a.ndim > 0 ? a.sizes[dim] : 1;
  lines.inner = 1;
  for (int d = dim + 1; d < a.ndim; d++) lines.inner *= a.sizes[d];
  lines.count = lines.n > 0 ? a.numel / lines.n : 0;
  for (int k = 0; k < N; k++) {
    lines.stride[k] = lines.inner;
    lines.inner_stride[k] = 1;
    lines.outer_stride[k] = lines.n * lines.inner;
  }
  return lines;
}

// Whether the elements of a line lie nearer to each other than neighbouring lines.
template <int N>
bool along_lines(const Lines<N> &lines) {
  return lines.inner == 1 || llabs(lines.stride[0]) <= llabs(lines.inner_stride[0]);
}

// Whether all lines of an operand may be read in packs of so many elements.
template <int N>
bool in_packs(const Lines<N> &lines, int k, const void *data, int64_t pack) {
  return lines.stride[k] == 1 && lines.n % pack == 0 && lines.outer_stride[k] % pack == 0 &&
         lines.inner_stride[k] % pack == 0 && is_aligned(data);
}

// Calls f(lines, data) with the lines of N arrays of one shape, the last of them written: where they
// lie, or of row-major copies.
template <int N, class F>
vt_status with_lines(vt_context *ctx, const vt_array *const (&arrays)[N], int dim, const F &f) {
  Lines<N> lines;
  char *data[N];
  if (find_lines(arrays, dim, &lines)) {
    for (int k = 0; k < N; k++) data[k] = arrays[k]->data;
    return f(lines, data);
  }
  std::optional<Contiguous> copies[N];
  for (int k = 0; k < N; k++) {
    copies[k].emplace(ctx, *arrays[k], k == N - 1 ? Contiguous::kWrite : Contiguous::kRead);
    if (copies[k]->status() != VT_OK) return copies[k]->status();
    data[k] = copies[k]->data();
  }
  const vt_status status = f(contiguous_lines<N>(*arrays[0], dim), data);
  return status == VT_OK ? copies[N - 1]->finish() : status;
}

}  // namespace vt_cuda

#endif
