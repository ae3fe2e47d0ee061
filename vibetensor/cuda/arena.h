/* The memory of one stream: segments cut into blocks, and what is free of them.
 *
 * A block that is given back is put on the list of its exact size first, as it is: a training step
 * asks for the same sizes over and over, and gets them back without a cut or a search. Only when a
 * request finds nothing there are such blocks joined with free neighbours, and the best fit is cut. So
 * no memory is lost to the lists, and each block is joined at most once per release.
 *
 * The lock is held for some instructions, never across a call of the driver. */
#ifndef VT_CUDA_ARENA_H
#define VT_CUDA_ARENA_H

#include <cuda.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "vibetensor/cuda/cross_stream.h"
#include "vibetensor/cuda/free_blocks.h"

namespace vt_cuda {

struct Arena;
struct Device;
struct PrivatePool;
struct Segment;

constexpr size_t kMinBlock = 512;         /* sizes are multiples of it */
constexpr size_t kSmallRequest = 1 << 20; /* requests up to it share small segments */
constexpr size_t kSmallSegment = 2 << 20;
constexpr size_t kLargeSegment = 20 << 20;
constexpr size_t kOwnSegment = 10 << 20; /* from here on a request has a segment of its own ... */
constexpr size_t kSegmentGranule = 2 << 20; /* ... rounded to this */

enum { kSmall = 0, kLarge = 1, kAll = 2 };

enum class BlockState : uint8_t {
  used,     /* handed out */
  waiting,  /* given back, other streams may still use it */
  quick,    /* free, on the list of its size, not yet joined with its neighbours */
  free,     /* free, in FreeBlocks */
  growing,  /* being extended with new memory */
  unmapped, /* addresses of an expandable segment without memory */
};

struct Block {
  char *data;
  size_t size;
  size_t key;       /* the rounded request it was handed out for */
  size_t requested; /* bytes asked for */
  Arena *arena;
  Block *link; /* list of free, quick or spare blocks */
  Block *back; /* of free ones */
  BlockState state;
  uint8_t kind;   /* kSmall or kLarge */
  bool oversize;  /* of at least max_split_size */
  bool alone;     /* of an allocator without a cache: the segment goes with the block */
  int32_t events; /* that it waits for */
  Segment *segment;
  Block *before, *after;              /* neighbours in the segment, by address */
  std::vector<StreamUse> *other_uses; /* streams besides its own, NULL: none */
  int64_t freed_at;                   /* the arena's count of requests then */
  uint64_t history;                   /* where it was allocated, if that is recorded */
};

/* Held for some instructions only: spinning, then giving the processor away, beats sleeping. */
class SpinLock {
 public:
  void lock() {
    while (__builtin_expect(held_.exchange(true, std::memory_order_acquire), 0)) wait();
  }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  void wait();
  std::atomic<bool> held_{false};
};

struct Totals {
  int64_t blocks = 0, bytes = 0, requested = 0;
};
struct Peaks {
  int64_t blocks = 0, bytes = 0, requested = 0, active_blocks = 0, active_bytes = 0;
};

struct Arena {
  Arena(Device *device, CUstream stream, PrivatePool *pool);

  /* A cached block for a request, or NULL. `key` is the rounded request. */
  Block *take(size_t key, size_t requested);
  /* The owner gives a block back that no other stream uses. */
  void give(Block *b);
  /* The same in two steps: it no longer counts as allocated; it is free for reuse. */
  void start_waiting(Block *b);
  void finish_waiting(Block *b);

  /* --- for growth, under the device's lock --- */
  void add_segment(Segment *s);
  /* Hands a block out of memory that was just added: `b` is free but in no list. */
  Block *take_new(Block *b, size_t key, size_t requested);
  /* Joins all quick blocks with their neighbours. */
  void settle();
  /* The segments that lie unused, expandable ones aside. */
  void list_unused(std::vector<Segment *> *unused);
  /* Takes a segment out of the arena; false: some of it is in use. */
  bool detach(Segment *s);
  /* A block in no list: joined with free neighbours and put in one. */
  Block *put_free(Block *b);
  void take_off(Block *b) { free_[b->kind].erase(b); }
  void list_free(Block *b) {
    b->state = BlockState::free;
    free_[b->kind].insert(b);
  }
  void forget_segment(Segment *s); /* an expandable one with nothing mapped */
  Block *new_block(char *data, size_t size, Segment *s);
  void drop_block(Block *b);
  void cut(Block *b, size_t size, BlockState rest); /* leaves b with `size`; the rest in no list */
  void absorb(Block *b, Block *next);               /* next becomes part of b */

  SpinLock lock;
  bool solo = false; /* its totals are the device's: nobody else allocates there */
  bool rising = false;
  bool no_split = false;
  std::atomic<int> num_waiting{0}; /* blocks in `waiting` */
  std::atomic<uint32_t> requests_since_poll{0};
  Device *device;
  CUstream stream;
  PrivatePool *pool; /* NULL: an ordinary one */
  Totals taken[2], given[2];
  Totals waiting[2]; /* now */
  Peaks peaks[3];
  Totals taken_base[2], given_base[2],
      waiting_base[2]; /* at the last reset of accumulated statistics */

  Segment *segments = nullptr;
  Segment *expandable[2] = {};
  WaitingBlocks waiting_blocks;
  Arena *next_in_bucket = nullptr;

  void note_peaks();
  int64_t requests() const { return taken[kSmall].blocks + taken[kLarge].blocks; }

 private:
  static constexpr int kQuickBits = 10;
  static constexpr int kQuickSlots = 1 << kQuickBits;
  static unsigned slot_of(size_t key) {
    return unsigned((key / kMinBlock * 0x9E3779B97F4A7C15ull) >> (64 - kQuickBits));
  }
  Block *hand_out(Block *b, size_t key, size_t requested);
  Block *fit(size_t key, size_t requested);
  Block *cut_to(Block *b, size_t key);
  void put_quick(Block *b);
  void settle_slot(unsigned slot);
  void remove_segment(Segment *s);

  Block *quick_[kQuickSlots] = {};
  uint64_t quick_words_[kQuickSlots / 64] = {};
  Block *spare_ = nullptr;
  std::vector<std::unique_ptr<Block[]>> chunks_;
  FreeBlocks free_[2];
};

}  // namespace vt_cuda
#endif
