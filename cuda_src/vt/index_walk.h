// A walk in which one array, the table, is addressed through an index: directly along some dimensions
// and by number along one, or along several whose numbers were turned into offsets before.
#ifndef VT_INDEX_WALK_H
#define VT_INDEX_WALK_H

#include "vt/index_error.h"
#include "vt/walk.h"

namespace VT_NS {

// What the elements of an index are.
enum IndexKind {
  kIndexChecked = 0,  // 0 <= index < size
  kIndexWrapped = 1,  // negative ones count from the end
  kIndexOffset = 2    // offsets into the table, times 2^size; kBadOffset: a bad one, was reported
};
constexpr int64_t kBadOffset = INT64_MIN;

struct IndexRule {
  int64_t step, size;  // of the table along the indexed dimension, in elements
  int32_t kind;        // IndexKind
  int32_t wide;        // int64 rather than int32

#ifdef __CUDACC__
  __device__ __forceinline__ int64_t load(const void *index, int64_t at) const {
    return wide ? static_cast<const int64_t *>(index)[at] : static_cast<const int32_t *>(index)[at];
  }
  // The offset into the table that an element of the index stands for. False: skip it.
  __device__ __forceinline__ bool place(int64_t k, int64_t *offset) const {
    if (kind == kIndexOffset) {
      *offset = k >> size;
      return k != kBadOffset;
    }
    const int64_t wrapped = kind == kIndexWrapped && k < 0 ? k + size : k;
    *offset = wrapped * step;
    return static_cast<uint64_t>(wrapped) < static_cast<uint64_t>(size);
  }
  // The same for numbers, where all offsets fit 32 bits; without a branch.
  __device__ __forceinline__ bool near_place(int64_t k, int32_t *offset) const {
    const int64_t from_end = kind == kIndexWrapped ? size : 0;
    k += k < 0 ? from_end : 0;
    *offset = int32_t(uint32_t(k) * uint32_t(step));
    return static_cast<uint64_t>(k) < static_cast<uint64_t>(size);
  }
  __device__ __forceinline__ void report(int64_t k, const vt_error_sink &sink) const {
    if (kind != kIndexOffset) sink.raise(k, size);
  }
  __device__ __forceinline__ bool place(int64_t k, const vt_error_sink &sink,
                                        int64_t *offset) const {
    if (place(k, offset)) return true;
    report(k, sink);
    return false;
  }
#endif
};

// Operands of the walks.
enum { kValues = 0, kIndex = 1, kTable = 2 };

struct IndexWalk {
  Walk<3> walk;
  IndexRule rule;
};
// A narrow walk whose elements stand for kIndexRun neighbours each. In memory they are neighbours of the
// index, which is of int64, and of the values, from a boundary of as many bytes or 16 on. In the table they
// are `table_step` apart, and all offsets of a run fit 32 bits.
struct IndexRunWalk {
  Walk<3> walk;
  IndexRule rule;
  int32_t table_step;
};
// Elements of a walk for each thread, whose loads have to be under way together; of an IndexWalk that is
// not narrow a thread has one.
constexpr int kIndexThreads = 256, kIndexRun = 4, kIndexItems = 4, kIndexRunItems = 2;

// A factor of the values that are added; `scaled` is 0 for 1.
struct IndexScale {
  double re, im;
  int64_t i;
  int32_t is_int, scaled;
};

// Sums in the order of the positions, in which those of one place follow each other: see index.cu.
struct SegmentWalk {
  Walk<3> positions;  // values, index, table: dimensions that the index has
  Walk<2> rest;       // values, table: those that one index stands for
  IndexRule rule;
  int64_t count;  // of positions
  uint64_t none;  // the key of positions to skip
  int32_t last;   // of one place the last value is stored, and nothing added
};

}  // namespace VT_NS
#endif
