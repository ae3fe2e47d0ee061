// Runs the plan of a pointwise operator: picks the two innermost dimensions for the inner loop, walks
// the rest, converts blockwise where an operand is stored in another dtype, and spreads the work over
// threads.
#include <string.h>

#include "vibetensor/core/iter.h"
#include "vibetensor/core/state.h"
#include "vibetensor/cpu/parallel.h"
#include "vibetensor/cpu/strided.h"

namespace {

// Below this a single thread is faster, also for the cheapest loops.
constexpr int64_t parallel_numel = 32768;
constexpr int64_t parallel_grain = 16384;

constexpr int64_t max_itemsize = 16;
constexpr uint8_t itemsize_of[VT_NUM_DTYPES] = {1, 1, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};

// A plan with what is the same for all of its ranges.
struct Plan {
  const vt_iter *it;
  vt_loop loop;
  const vt_value *params;
  int nops;
  int64_t sizes[2];
  int64_t rows;  // of dimension 0
  char *data[VT_MAX_OPERANDS];
  int64_t strides[2 * VT_MAX_OPERANDS];  // as a vt_loop takes them
  bool cast[VT_MAX_OPERANDS];            // converted block by block
  bool any_cast;
  bool transposed;  // some operand has its smallest step across the rows
  alignas(16) char scalars[VT_MAX_OPERANDS][max_itemsize];
};

int64_t magnitude(int64_t x) { return x < 0 ? -x : x; }

bool is_constant(const vt_iter *it, int k) {
  for (int d = 0; d < it->ndim; d++) {
    if (it->strides[k][d] != 0 && it->sizes[d] != 1) return false;
  }
  return true;
}

void make_plan(Plan *p, const vt_iter *it, vt_loop loop, const vt_value *params) {
  int nops = it->noperands;
  p->it = it;
  p->loop = loop;
  p->params = params;
  p->nops = nops;
  p->sizes[0] = it->sizes[0];
  p->sizes[1] = it->ndim > 1 ? it->sizes[1] : 1;
  p->rows = it->numel / it->sizes[0];
  p->any_cast = false;
  p->transposed = false;
  for (int k = 0; k < nops; k++) {
    int64_t s0 = it->strides[k][0], s1 = it->ndim > 1 ? it->strides[k][1] : 0;
    p->data[k] = it->data[k];
    p->strides[k] = s0;
    p->strides[nops + k] = s1;
    p->cast[k] = it->dtype[k] != it->loop_dtype[k];
    p->transposed |= s1 != 0 && magnitude(s1) < magnitude(s0);
    if (p->cast[k] && k > 0 && is_constant(it, k)) {
      char *ptrs[2] = {p->scalars[k], it->data[k]};
      int64_t none[4] = {itemsize_of[it->loop_dtype[k]], itemsize_of[it->dtype[k]], 0, 0};
      vt_cpu_casts[it->loop_dtype[k]][it->dtype[k]](ptrs, none, 1, 1, nullptr);
      p->data[k] = p->scalars[k];
      p->cast[k] = false;
    }
    p->any_cast |= p->cast[k];
  }
}

void cast_block(vt_dtype to, vt_dtype from, char *dst, const int64_t dst_strides[2], char *src,
                const int64_t src_strides[2], int64_t n0, int64_t n1) {
  char *ptrs[2] = {dst, src};
  int64_t strides[4] = {dst_strides[0], src_strides[0], dst_strides[1], src_strides[1]};
  vt_cpu_casts[to][from](ptrs, strides, n0, n1, nullptr);
}

// One 2-D piece, in tiles small enough for the buffers of the operands that are converted.
void run_converted(const Plan *p, char *const *ptrs, int64_t n0, int64_t n1) {
  alignas(64) char buffers[VT_MAX_OPERANDS][VT_TILE * max_itemsize];
  const vt_iter *it = p->it;
  int nops = p->nops;
  int64_t cols = p->transposed ? 32 : VT_TILE;
  cols = n0 < cols ? n0 : cols;
  int64_t rows = VT_TILE / cols;
  for (int64_t j = 0; j < n1; j += rows) {
    for (int64_t i = 0; i < n0; i += cols) {
      int64_t m0 = n0 - i < cols ? n0 - i : cols, m1 = n1 - j < rows ? n1 - j : rows;
      char *at[VT_MAX_OPERANDS], *args[VT_MAX_OPERANDS];
      int64_t strides[2 * VT_MAX_OPERANDS];
      for (int k = 0; k < nops; k++) {
        int64_t own[2] = {p->strides[k], p->strides[nops + k]};
        at[k] = ptrs[k] + i * own[0] + j * own[1];
        args[k] = at[k];
        strides[k] = own[0];
        strides[nops + k] = own[1];
        if (!p->cast[k]) continue;
        vt_dtype stored = vt_dtype(it->dtype[k]), used = vt_dtype(it->loop_dtype[k]);
        int64_t dense[2] = {itemsize_of[used], itemsize_of[used] * m0};
        args[k] = buffers[k];
        strides[k] = dense[0];
        strides[nops + k] = dense[1];
        if (k > 0) cast_block(used, stored, buffers[k], dense, at[k], own, m0, m1);
      }
      // Without gaps the tile is one row, which is the fastest loop.
      bool joined = m1 > 1;
      for (int k = 0; k < nops; k++) joined = joined && strides[nops + k] == strides[k] * m0;
      p->loop(args, strides, joined ? m0 * m1 : m0, joined ? 1 : m1, p->params);
      if (p->cast[0]) {
        int64_t own[2] = {p->strides[0], p->strides[nops]}, dense[2] = {strides[0], strides[nops]};
        cast_block(vt_dtype(it->dtype[0]), vt_dtype(it->loop_dtype[0]), at[0], own, buffers[0],
                   dense, m0, m1);
      }
    }
  }
}

void run_piece(const Plan *p, char *const *ptrs, int64_t n0, int64_t n1) {
  if (p->any_cast) {
    run_converted(p, ptrs, n0, n1);
  } else {
    p->loop(ptrs, p->strides, n0, n1, p->params);
  }
}

// Columns [col, col + n0) of the rows [begin, end); rows are counted over the dimensions from 1 on.
void run_rows(const Plan *p, int64_t col, int64_t n0, int64_t begin, int64_t end) {
  const vt_iter *it = p->it;
  int64_t index[VT_MAX_DIMS];
  char *ptrs[VT_MAX_OPERANDS];
  int64_t rest = begin;
  for (int d = 1; d < it->ndim; d++) {
    index[d] = rest % it->sizes[d];
    rest /= it->sizes[d];
  }
  for (int k = 0; k < p->nops; k++) {
    ptrs[k] = p->data[k] + col * p->strides[k];
    for (int d = 1; d < it->ndim; d++) ptrs[k] += index[d] * it->strides[k][d];
  }
  while (begin < end) {
    int64_t n1 = it->ndim > 1 ? p->sizes[1] - index[1] : 1;
    if (n1 > end - begin) n1 = end - begin;
    run_piece(p, ptrs, n0, n1);
    begin += n1;
    if (begin >= end) return;
    // Here dimension 1 has come to its end; carry into the next ones.
    for (int k = 0; k < p->nops; k++) ptrs[k] -= index[1] * it->strides[k][1];
    index[1] = 0;
    for (int d = 2; d < it->ndim; d++) {
      index[d]++;
      for (int k = 0; k < p->nops; k++) ptrs[k] += it->strides[k][d];
      if (index[d] < it->sizes[d]) break;
      for (int k = 0; k < p->nops; k++) ptrs[k] -= index[d] * it->strides[k][d];
      index[d] = 0;
    }
  }
}

}  // namespace

void vt_cpu_pointwise(const vt_iter *it, vt_loop loop, const vt_value *params) {
  if (it->numel == 0) return;
  Plan plan;
  make_plan(&plan, it, loop, params);
  int64_t n0 = plan.sizes[0], rows = plan.rows;
  if (it->numel < parallel_numel) {
    run_rows(&plan, 0, n0, 0, rows);
  } else if (rows >= 2 * vt_get_num_threads()) {
    int64_t grain = (parallel_grain + n0 - 1) / n0;
    vt_parallel::parallel_for(rows, grain,
                              [&](int64_t b, int64_t e) { run_rows(&plan, 0, n0, b, e); });
  } else {
    int64_t grain = (parallel_grain + rows - 1) / rows;
    vt_parallel::parallel_for(n0, grain,
                              [&](int64_t b, int64_t e) { run_rows(&plan, b, e - b, 0, rows); });
  }
}

void vt_cpu_pointwise_flat(vt_loop loop, int noperands, char *const *data, const int64_t *steps,
                           int64_t numel, const vt_value *params) {
  // With one row the loop does not look at the outer strides.
  if (numel < parallel_numel) {
    if (numel > 0) loop(data, steps, numel, 1, params);
    return;
  }
  vt_parallel::parallel_for(numel, parallel_grain, [=](int64_t b, int64_t e) {
    char *ptrs[VT_MAX_OPERANDS];
    for (int k = 0; k < noperands; k++) ptrs[k] = data[k] + b * steps[k];
    loop(ptrs, steps, e - b, 1, params);
  });
}
