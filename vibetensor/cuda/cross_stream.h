/* Memory that several streams use: given back, it waits for an event on each of them. */
#ifndef VT_CUDA_CROSS_STREAM_H
#define VT_CUDA_CROSS_STREAM_H

#include <cuda.h>

#include <deque>
#include <mutex>
#include <vector>

namespace vt_cuda {

struct Arena;
struct Block;

struct StreamUse {
  CUstream stream;
  int device;
  bool operator==(const StreamUse &o) const { return stream == o.stream && device == o.device; }
};

/* The blocks of one arena that wait. Its mutex comes before the arena's lock, after the device's. */
class WaitingBlocks {
 public:
  /* The block was given back, and has other_uses. */
  void add(Block *b);
  /* Frees the blocks whose events have passed. With `wait`, waits for all of them. */
  void poll(Arena *arena, bool wait = false);

 private:
  struct Waiting {
    CUevent event;
    Block *block;
  };
  struct Lane { /* a stream that is waited for: its events pass in order */
    StreamUse use;
    std::deque<Waiting> waiting;
  };
  void record(Block *b);
  void passed(int device, const Waiting &w);
  Lane &lane(const StreamUse &use);

  std::mutex mutex_;
  std::vector<Lane> lanes_;
  /* Given back while a stream that used them was captured: an event there would be part of the graph,
   * and nothing that is enqueued afterwards says when a replay is done. Recorded after the capture. */
  std::vector<Block *> deferred_;
};

}  // namespace vt_cuda
#endif
