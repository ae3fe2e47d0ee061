#include "vibetensor/cuda/kernels/plan.h"

#include <string.h>

#include "core/state.h"

namespace vt_cuda {

bool fits_32_bits(const vt_iter &it) {
  if (it.numel > INT32_MAX) return false;
  for (int k = 0; k < it.noperands; k++) {
    int64_t way = dtype_size(it.dtype[k]);
    for (int d = 0; d < it.ndim; d++) way += llabs(it.strides[k][d]) * (it.sizes[d] - 1);
    if (way > INT32_MAX) return false;
  }
  return true;
}

namespace {

void copy_plan(const vt_iter &it, vt_iter *to) {
  memcpy(to, &it, offsetof(vt_iter, sizes));
  memcpy(to->sizes, it.sizes, it.ndim * sizeof(int64_t));
  for (int k = 0; k < it.noperands; k++) {
    memcpy(to->strides[k], it.strides[k], it.ndim * sizeof(int64_t));
  }
}

void advance(vt_iter *it, int d, int64_t steps) {
  for (int k = 0; k < it->noperands; k++) {
    if (!it->host[k]) it->data[k] += steps * it->strides[k][d];
  }
}

bool is_multiple(int64_t x, int64_t of) { return (x & (of - 1)) == 0; }

}  // namespace

void split(const vt_iter &it, vt_iter *low, vt_iter *high) {
  int longest = 0;
  int64_t best = -1;
  for (int d = 0; d < it.ndim; d++) {
    for (int k = 0; k < it.noperands; k++) {
      const int64_t way = llabs(it.strides[k][d]) * (it.sizes[d] - 1);
      if (way > best) best = way, longest = d;
    }
  }
  const int64_t size = it.sizes[longest], half = size / 2;
  copy_plan(it, low);
  copy_plan(it, high);
  low->sizes[longest] = half;
  high->sizes[longest] = size - half;
  low->numel = it.numel / size * half;
  high->numel = it.numel - low->numel;
  advance(high, longest, half);
}

void slice_outermost(const vt_iter &it, int64_t i, vt_iter *part) {
  copy_plan(it, part);
  part->ndim--;
  part->numel /= it.sizes[part->ndim];
  advance(part, part->ndim, i);
}

vt::Element host_element(const vt_iter &it, int k) {
  const int from = it.dtype[k], to = it.loop_dtype[k];
  vt::Element e = {};
  if (from == to) {
    memcpy(e.bytes, it.data[k], dtype_size(from));
  } else {
    char *const ptrs[] = {reinterpret_cast<char *>(e.bytes), it.data[k]};
    const int64_t strides[] = {dtype_size(to), dtype_size(from), 0, 0};
    vt_cpu_casts[to][from](ptrs, strides, 1, 1, nullptr);
  }
  return e;
}

void strided_args(const vt_iter &it, vt::StridedArgs *a) {
  memset(a, 0, sizeof(*a));
  a->numel = uint32_t(it.numel);
  a->ndim = it.ndim;
  a->whole = it.ndim == 1 || is_multiple(it.sizes[0], 4);
  for (int d = 0; d < it.ndim; d++) a->sizes[d] = vt::Divider::of(uint32_t(it.sizes[d]));
  for (int k = 0; k < it.noperands; k++) {
    a->dtype[k] = it.dtype[k];
    a->loop_dtype[k] = it.loop_dtype[k];
    if (it.host[k]) {
      a->host |= 1u << (k - 1);
      a->value[k - 1] = host_element(it, k);
      continue;
    }
    a->data[k] = it.data[k];
    const int size = dtype_size(it.dtype[k]), access = size < 4 ? 4 * size : 16;
    bool wide = a->whole && it.strides[k][0] == size &&
                is_multiple(reinterpret_cast<intptr_t>(it.data[k]), access);
    for (int d = 0; d < it.ndim; d++) {
      a->strides[k][d] = int32_t(it.strides[k][d]);
      wide = wide && (d == 0 || is_multiple(it.strides[k][d], access));
    }
    a->wide |= unsigned(wide) << k;
  }
}

}  // namespace vt_cuda
