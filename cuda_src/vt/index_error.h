// What a kernel reports when it meets a value that no check could see before the launch: an index out
// of range, a probability that is none. One record per device, visible to the host; the first error
// stands until a synchronising call finds it and raises. The kernel skips the element, so that no
// memory out of bounds is touched and the context stays usable.
#ifndef VT_INDEX_ERROR_H
#define VT_INDEX_ERROR_H

#include <stdint.h>

// Values of vt_index_error.raised.
enum vt_raised {
  VT_RAISED_NOTHING = 0,
  VT_RAISED_INDEX = 1,  // IndexError: index, dim, size
  // The others are RuntimeErrors with the text of vt_raised_message.
  VT_RAISED_CLASS_NEGATIVE = 2,
  VT_RAISED_CLASS_TOO_LARGE = 3,
  VT_RAISED_PROBABILITY = 4,
  VT_RAISED_WEIGHTS_ZERO = 5,
  VT_RAISED_WEIGHTS_INVALID = 6
};

struct vt_index_error {
  int32_t raised;  // enum vt_raised
  int32_t op;      // the operator's id
  int64_t index, dim, size;
};

// The text of an error that is not about an index, NULL for those that are.
static inline const char *vt_raised_message(int32_t raised) {
  switch (raised) {
    case VT_RAISED_CLASS_NEGATIVE:
      return "Class values must be non-negative.";
    case VT_RAISED_CLASS_TOO_LARGE:
      return "Class values must be smaller than num_classes.";
    case VT_RAISED_PROBABILITY:
      return "Expected p_in >= 0 && p_in <= 1 to be true, but got false.";
    case VT_RAISED_WEIGHTS_ZERO:
      return "invalid multinomial distribution (sum of probabilities <= 0)";
    case VT_RAISED_WEIGHTS_INVALID:
      return "probability tensor contains either `inf`, `nan` or element < 0";
    default:
      return nullptr;
  }
}

// Where a kernel reports to, passed by value: `slot` comes from vt_cuda::index_error_slot.
struct vt_error_sink {
  vt_index_error *slot;
  int32_t op;
  int32_t dim;  // of the index, for the text

#ifdef __CUDACC__
  // Out of line: the path that is never taken should not cost registers. The host reads the record
  // after a synchronisation, so that the order of the stores does not matter.
  __device__ __noinline__ void raise(int64_t index, int64_t size,
                                     int32_t what = VT_RAISED_INDEX) const {
    if (atomicCAS(&slot->raised, VT_RAISED_NOTHING, what) != VT_RAISED_NOTHING) return;
    slot->op = op;
    slot->index = index;
    slot->dim = dim;
    slot->size = size;
  }

  // Whether 0 <= index < size; reports it where not.
  __device__ __forceinline__ bool check(int64_t index, int64_t size) const {
    if (static_cast<uint64_t>(index) < static_cast<uint64_t>(size)) return true;
    raise(index, size);
    return false;
  }
#endif
};

#endif
