/* Memory from the driver: plain segments, and expandable ones, which are a range of addresses that
 * memory is mapped into piece by piece. All functions want the device's `growth` lock and a
 * DriverScope. */
#ifndef VT_CUDA_SEGMENTS_H
#define VT_CUDA_SEGMENTS_H

#include <cuda.h>

#include <memory>
#include <vector>

#include "vibetensor/cuda/arena.h"

namespace vt_cuda {

struct Expandable {
  size_t chunk;                                      /* bytes of one piece */
  std::vector<CUmemGenericAllocationHandle> handles; /* per piece; 0: not mapped */
  size_t mapped = 0;                                 /* bytes */
};

struct Segment {
  char *base = nullptr;
  size_t size = 0; /* of an expandable one: of its range of addresses */
  uint8_t kind = kSmall;
  Arena *arena = nullptr;
  Block *first = nullptr;
  Segment *next = nullptr, *previous = nullptr; /* of the arena */
  std::unique_ptr<Expandable> expandable;

  bool unused() const { return first->after == nullptr && first->state == BlockState::free; }
};

/* NULL: *code says why. The segment has no block and no arena yet. */
Segment *new_segment(Device *d, size_t size, int kind, CUresult *code);
void free_segment(Device *d, Segment *s);

/* A range of addresses somewhat larger than the device's memory. */
Segment *new_expandable(Device *d, int kind, CUresult *code);
/* `data` and `size` are multiples of the chunk within the segment. */
CUresult map_memory(Device *d, Segment *s, char *data, size_t size);
void unmap_memory(Device *d, Segment *s, char *data, size_t size);
/* Lets `peer` use what is mapped. */
CUresult map_for_peer(Segment *s, int peer);

}  // namespace vt_cuda
#endif
