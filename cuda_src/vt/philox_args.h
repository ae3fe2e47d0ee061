// Where a kernel draws from: a seed and an offset, given by value or, in a captured graph, read from
// device memory, so that every replay draws the numbers that the eager sequence would draw.
//
// How a generator asks for the second (the graph hook): every kernel that draws gets two values, seed
// and offset. Positions of a stream stay below 2^62, so the highest bit of the offset is free. While
// the stream is being captured the generator hands out
//     seed   = address of its device-resident record, uint64_t[2] = {seed, base}
//     offset = 2^63 | position relative to the beginning of the capture
// and the kernel draws from {record[0], record[1] + offset}. Before a replay the owner of the graph
// writes {seed, the generator's position} into the record (on the replay's stream), and moves the
// generator on by what the capture has used. Nothing else has to know about capture.
#ifndef VT_PHILOX_ARGS_H
#define VT_PHILOX_ARGS_H

#include <stdint.h>

struct PhiloxArgs {
  uint64_t seed, offset;
  const uint64_t *device_state;  // {seed, base}; NULL: the values above are all

#ifdef __CUDACC__
  // The seed and offset to draw from.
  __device__ __forceinline__ PhiloxArgs resolved() const {
    if (device_state == nullptr) return *this;
    return {device_state[0], device_state[1] + offset, nullptr};
  }
#endif
};

#define VT_PHILOX_ON_DEVICE (uint64_t(1) << 63)

#endif
