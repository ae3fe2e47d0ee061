// A shadow model of the caching allocator: what must hold of every block, whatever was done before.
//
//   - no two live blocks overlap, and each is as large and as aligned as promised;
//   - memory of a private pool goes to that pool only, as long as somebody holds it;
//   - the totals that the allocator reports are those of the model and of the snapshot;
//   - the simulated driver sees no use of memory that is not ordered after earlier ones (reuse that
//     came too early), and none of memory that was unmapped or given back.
#pragma once

#include <cuda.h>
#include <stdio.h>
#include <stdlib.h>

#include <atomic>

#include <map>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/allocator_options.h"
#include "vibetensor/cuda/allocator_stats.h"
#include "vibetensor/cuda/host_allocator.h"
#include "vibetensor/cuda/runtime.h"
#include "vibetensor/cuda/simulator.h"
#include "vibetensor/cuda/snapshot.h"

#define CHECK(condition, ...)                                                   \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: failed: %s\n  ", __FILE__, __LINE__, #condition); \
      fprintf(stderr, " " __VA_ARGS__);                                         \
      fprintf(stderr, "\n");                                                    \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

namespace model {

using namespace vt_cuda;

constexpr size_t KiB = 1 << 10, MiB = 1 << 20, GiB = 1 << 30;

inline void start(size_t memory, int devices = 1) {
  SimulatorOptions options;
  options.devices = devices;
  options.memory_bytes = memory;
  simulator_install(options);
  CHECK(initialise() == VT_OK, "%s", last_error());
  CHECK(use_device(0) == VT_OK, "%s", last_error());
}

inline void set_options(const char *text) {
  std::string error;
  CHECK(set_allocator_options(text, &error), "%s", error.c_str());
}

inline CUstream new_stream(int device = 0) {
  CUstream s;
  CHECK(pool_stream(device, 0, &s) == VT_OK, "%s", last_error());
  return s;
}

// Work on a stream that reads or writes a block.
inline void use(CUstream stream, Block *b, bool write = true) {
  void *data = block_data(b);
  const void *reads[] = {data};
  void *writes[] = {data};
  driver.library_call("use", stream, reads, write ? 0 : 1, writes, write ? 1 : 0);
}

inline void no_violations() {
  std::vector<std::string> found = simulator_violations();
  for (auto &line : found) fprintf(stderr, "%s\n", line.c_str());
  CHECK(found.empty());
}

struct Live {
  Block *block;
  size_t requested;
  CUstream stream;
  PoolId pool;
};

class Model {
 public:
  explicit Model(int device = 0) : device_(device) {}

  // Of what allocate() gave. The caller has not used it yet.
  void allocated(Block *b, size_t requested, CUstream stream, PoolId pool = {}) {
    uintptr_t begin = uintptr_t(block_data(b)), end = begin + block_size(b);
    CHECK(begin % 512 == 0);
    CHECK(block_size(b) >= requested, "%zu for %zu", block_size(b), requested);
    CHECK(block_device(b) == device_ && block_stream(b) == stream);
    std::lock_guard<std::mutex> guard(mutex_);
    auto next = live_.lower_bound(begin);
    CHECK(next == live_.end() || next->first >= end, "overlaps the next block");
    if (next != live_.begin()) {
      Live &previous = std::prev(next)->second;
      CHECK(std::prev(next)->first + block_size(previous.block) <= begin,
            "overlaps the previous one");
    }
    auto owner = owner_of(begin);
    if (owner != pools_.end()) CHECK(owner->second.second == pool, "memory of another pool");
    live_[begin] = {b, requested, stream, pool};
    bytes_ += int64_t(block_size(b));
    requested_ += int64_t(requested);
    peak_ = std::max(peak_, bytes_);
  }

  // Before release().
  void released(Block *b) {
    std::lock_guard<std::mutex> guard(mutex_);
    auto at = live_.find(uintptr_t(block_data(b)));
    CHECK(at != live_.end() && at->second.block == b, "released twice");
    bytes_ -= int64_t(block_size(b));
    requested_ -= int64_t(at->second.requested);
    live_.erase(at);
  }

  // The segments of a pool that is held belong to it until it is let go.
  void claim(PoolId pool) {
    std::lock_guard<std::mutex> guard(mutex_);
    for (const SegmentInfo &s : memory_snapshot(&pool)) {
      uintptr_t begin = uintptr_t(s.address);
      pools_[begin] = {begin + s.total_size, pool};
    }
  }
  // Memory of a pool that is held stays, even if it is free: a graph may replay on it.
  void check_claims() {
    auto segments = memory_snapshot();
    for (auto &claim : pools_) {
      bool kept = false;
      for (const SegmentInfo &s : segments) {
        uintptr_t begin = uintptr_t(s.address);
        kept |= begin <= claim.first && claim.second.first <= begin + s.total_size;
      }
      CHECK(kept, "memory of a pool was given back while a graph could replay on it");
    }
  }
  void unclaim(PoolId pool) {
    std::lock_guard<std::mutex> guard(mutex_);
    for (auto at = pools_.begin(); at != pools_.end();) {
      at = at->second.second == pool ? pools_.erase(at) : std::next(at);
    }
  }

  // Nobody else may be at work.
  void check_totals() {
    MemoryStats m = memory_stats(device_);
    CHECK(m.allocated_bytes[kEverything].current == bytes_, "%ld, not %ld",
          long(m.allocated_bytes[kEverything].current), long(bytes_));
    CHECK(m.requested_bytes[kEverything].current == requested_);
    CHECK(m.allocation[kEverything].current == int64_t(live_.size()));
    CHECK(m.allocated_bytes[kEverything].peak >= peak_);
    int64_t total = 0, allocated = 0, active = 0, blocks = 0, segments = 0, found = 0;
    uintptr_t end = 0;
    bool expandable = false;
    for (const SegmentInfo &s : memory_snapshot()) {
      if (s.device != device_) continue;
      CHECK(uintptr_t(s.address) >= end, "segments overlap");
      uintptr_t at = uintptr_t(s.address);
      end = at + s.total_size;
      for (const BlockInfo &b : s.blocks) {
        CHECK(uintptr_t(b.address) == at, "blocks do not follow each other");
        at += b.size;
        bool used = std::string(b.state) == "active_allocated";
        blocks += used;
        found += used && live_.count(uintptr_t(b.address));
      }
      CHECK(at == end, "blocks do not fill the segment");
      total += int64_t(s.total_size);
      allocated += int64_t(s.allocated_size);
      active += int64_t(s.active_size);
      segments++;
      expandable |= s.expandable;
    }
    CHECK(total == m.reserved_bytes[kEverything].current);
    CHECK(allocated == bytes_);
    CHECK(active == m.active_bytes[kEverything].current);
    CHECK(blocks == int64_t(live_.size()) && found == blocks);
    if (!expandable) CHECK(segments == m.segment[kEverything].current);
    for (const Stat *s :
         {m.allocation, m.allocated_bytes, m.active, m.active_bytes, m.reserved_bytes, m.segment,
          m.requested_bytes, m.inactive_split, m.inactive_split_bytes}) {
      for (int k = 0; k < 3; ++k) {
        CHECK(s[k].current == s[k].allocated - s[k].freed, "a statistic does not add up");
        CHECK(s[k].current >= 0 && s[k].peak >= s[k].current);
      }
      CHECK(s[0].current + s[1].current == s[2].current);
    }
  }

  std::vector<Block *> all() const {
    std::vector<Block *> out;
    for (auto &entry : live_) out.push_back(entry.second.block);
    return out;
  }
  int64_t bytes() const { return bytes_; }

 private:
  static constexpr int kEverything = 2;
  using Claims = std::map<uintptr_t, std::pair<uintptr_t, PoolId>>;
  Claims::iterator owner_of(uintptr_t address) {
    auto at = pools_.upper_bound(address);
    if (at == pools_.begin()) return pools_.end();
    --at;
    return address < at->second.first ? at : pools_.end();
  }

  int device_;
  std::mutex mutex_;
  std::map<uintptr_t, Live> live_;
  Claims pools_;
  int64_t bytes_ = 0, requested_ = 0, peak_ = 0;
};

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  size_t below(size_t n) { return size_t(engine_()) % n; }
  bool chance(double p) { return double(engine_() >> 11) * 0x1p-53 < p; }
  // Sizes over many magnitudes, with the usual ones more often.
  size_t size(size_t most) {
    static const size_t usual[] = {4, 512, 4096, 65536, MiB, 3 * MiB, 12 * MiB};
    if (chance(0.5)) {
      size_t n = usual[below(7)];
      if (n <= most) return n;
    }
    size_t octave = below(64 - size_t(__builtin_clzll(most)));
    size_t n = (size_t(1) << octave) + below(size_t(1) << octave);
    return n < most ? n : most;
  }

 private:
  std::mt19937_64 engine_;
};

}  // namespace model
