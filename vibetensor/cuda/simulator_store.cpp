/* The simulated driver: where bytes and addresses come from, and what is known of each block.
 *
 * Device addresses lie in a range that the host cannot touch. Their bytes are in one sparse file in
 * memory, which is mapped elsewhere for the driver's own copies. Addresses are not used twice (but
 * for reserved ranges), so that a stale pointer is always known for one. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "vibetensor/cuda/simulator_store.h"

namespace vt_cuda {
namespace sim {

namespace {

/* Far from where the system puts anything. Pairs of small 32-bit numbers that happen to be
 * neighbours in the arguments should not look like addresses; these have 15261 and more above. */
#ifndef __SANITIZE_THREAD__
constexpr uintptr_t kFirstAddress = 0x3b9d00000000;
constexpr size_t kAddressBytes = size_t(16) << 40;
constexpr size_t kBackingBytes = size_t(4) << 40;
#else /* which leaves a program less than 2 TB at the top */
constexpr uintptr_t kFirstAddress = 0x7e9000000000;
constexpr size_t kAddressBytes = size_t(256) << 30;
constexpr size_t kBackingBytes = size_t(64) << 30;
#endif
/* Blocks up to this size are zero when they are handed out, so that counts which kernels would have
 * written read back as 0. */
constexpr size_t kZeroedBytes = size_t(1) << 20;

struct Arena {
  uintptr_t begin = 0, next = 0, end = 0;
  int file = -1;
  char *view = nullptr; /* of the file */
  size_t next_backing = 0;
  std::map<size_t, std::vector<uintptr_t>> free_ranges; /* reserved and given back, by size */
  std::map<size_t, std::vector<size_t>> free_backing;   /* by size */
} arena;

bool open_arena() {
  if (arena.begin) return true;
  void *range = mmap(reinterpret_cast<void *>(kFirstAddress), kAddressBytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) return false;
  arena.file = memfd_create("simulated device memory", MFD_CLOEXEC);
  if (arena.file < 0 || ftruncate(arena.file, kBackingBytes) != 0) return false;
  void *view = mmap(nullptr, kBackingBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                    arena.file, 0);
  if (view == MAP_FAILED) return false;
  arena.view = static_cast<char *>(view);
  arena.begin = arena.next = round_up(reinterpret_cast<uintptr_t>(range), kGranularity);
  arena.end = reinterpret_cast<uintptr_t>(range) + kAddressBytes;
  return true;
}

}  // namespace

uintptr_t take_addresses(size_t bytes, size_t alignment) {
  const uintptr_t at = round_up(arena.next, alignment);
  /* A page between any two, so that running over the end of one is not a use of the next. */
  if (at + bytes + kPage > arena.end) return 0;
  arena.next = at + bytes + kPage;
  return at;
}

bool take_backing(size_t bytes, size_t *offset) {
  auto &free = arena.free_backing[bytes];
  if (!free.empty()) {
    *offset = free.back();
    free.pop_back();
    return true;
  }
  if (arena.next_backing + bytes > kBackingBytes) return false;
  *offset = arena.next_backing;
  arena.next_backing += bytes;
  return true;
}

void give_backing(size_t offset, size_t bytes) {
  fallocate(arena.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
            static_cast<off_t>(bytes));
  arena.free_backing[bytes].push_back(offset);
}

bool charge(Device &device, size_t bytes) {
  if (device.used + bytes > device.limit) return false;
  device.used += bytes;
  SimulatorCounters &c = state().counters;
  ++c.allocations;
  c.live_bytes += bytes;
  c.peak_bytes = std::max(c.peak_bytes, c.live_bytes);
  return true;
}

void refund(int device, size_t bytes) {
  state().devices[device]->used -= bytes;
  state().counters.live_bytes -= bytes;
}

void drop_range(uintptr_t begin, uintptr_t end) {
  State &st = state();
  auto block = st.blocks.lower_bound(begin);
  while (block != st.blocks.end() && block->first < end) block = st.blocks.erase(block);
  auto past = st.history.lower_bound(begin);
  while (past != st.history.end() && past->first < end) past = st.history.erase(past);
}

/* Uses of [begin, end) by blocks of before; what is left of them stays in the history. */
static Uses take_history(uintptr_t begin, uintptr_t end) {
  State &st = state();
  Uses uses;
  auto at = st.history.upper_bound(begin);
  if (at != st.history.begin() && std::prev(at)->second.first > begin) --at;
  while (at != st.history.end() && at->first < end) {
    const uintptr_t from = at->first, to = at->second.first;
    const Uses old = std::move(at->second.second);
    at = st.history.erase(at);
    uses.join(old);
    if (from < begin) st.history[from] = {begin, old};
    if (to > end) st.history[end] = {to, old};
  }
  return uses;
}

Uses uses_within(uintptr_t begin, uintptr_t end) {
  State &st = state();
  Uses all;
  for (auto at = st.blocks.lower_bound(begin); at != st.blocks.end() && at->first < end; ++at)
    all.join(at->second.uses);
  for (auto at = st.history.lower_bound(begin); at != st.history.end() && at->first < end; ++at)
    all.join(at->second.second);
  return all;
}

void mark_freed(uintptr_t begin, uintptr_t end) { state().freed[begin] = end; }

void unmark_freed(uintptr_t begin, uintptr_t end) {
  auto &freed = state().freed;
  auto at = freed.lower_bound(begin);
  while (at != freed.end() && at->first < end) at = freed.erase(at);
}

uintptr_t take_reserved_range(size_t bytes) {
  auto &free = arena.free_ranges[bytes];
  if (free.empty()) return take_addresses(bytes, kGranularity);
  const uintptr_t at = free.back();
  free.pop_back();
  unmark_freed(at, at + bytes);
  return at;
}

void give_reserved_range(uintptr_t begin, size_t bytes) {
  arena.free_ranges[bytes].push_back(begin);
}

bool for_pieces(uintptr_t address, size_t bytes,
                const std::function<void(char *, size_t, size_t)> &fn) {
  size_t at = 0;
  while (at < bytes) {
    auto segment = find_segment(address + at);
    if (segment == state().segments.end()) return false;
    const size_t n = std::min<size_t>(bytes - at, segment->second.end - (address + at));
    const size_t within = address + at - segment->first;
    char *piece = segment->second.device < 0 ? reinterpret_cast<char *>(address + at)
                                             : arena.view + segment->second.backing + within;
    fn(piece, at, n);
    at += n;
  }
  return true;
}

bool is_device_address(uintptr_t a) { return a >= arena.begin && a < arena.end && arena.begin; }

void wait_for_all(Lock &lock) {
  State &st = state();
  Clock all;
  for (auto &device : st.devices) join(all, device->legacy.own.clock);
  for (Stream *s : st.streams) join(all, s->own.clock);
  complete(lock, all);
  host_learns(all);
  ++st.counters.implicit_waits;
}

void memory_reset() {
  State &st = state();
  for (auto &segment : st.segments)
    if (segment.second.device < 0)
      munmap(reinterpret_cast<void *>(segment.first), segment.second.end - segment.first);
    else if (!segment.second.mapped)
      give_backing(segment.second.backing, segment.second.end - segment.first);
  for (auto &p : st.physical) give_backing(p.second.backing, p.second.bytes);
}

std::map<uintptr_t, Segment>::iterator find_segment(uintptr_t address) {
  auto &segments = state().segments;
  auto at = segments.upper_bound(address);
  if (at == segments.begin() || address >= (--at)->second.end) return segments.end();
  return at;
}

bool is_locked_host(const void *p) {
  auto at = find_segment(reinterpret_cast<uintptr_t>(p));
  return at != state().segments.end() && at->second.device < 0;
}

bool read_device(void *host, uintptr_t address, size_t bytes) {
  return for_pieces(address, bytes, [&](char *piece, size_t at, size_t n) {
    memmove(static_cast<char *>(host) + at, piece, n);
  });
}

bool write_device(uintptr_t address, const void *host, size_t bytes) {
  return for_pieces(address, bytes, [&](char *piece, size_t at, size_t n) {
    memmove(piece, static_cast<const char *>(host) + at, n);
  });
}

void block_allocated(const void *data, size_t bytes, CUstream) {
  Lock lock(state().mutex);
  State &st = state();
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  auto segment = find_segment(begin);
  if (bytes == 0) return;
  if (segment == st.segments.end()) {
    violation("lifetime: the allocator hands out %#llx, which is not allocated",
              static_cast<unsigned long long>(begin));
    return;
  }
  auto next = st.blocks.lower_bound(begin);
  if ((next != st.blocks.end() && next->first < end) ||
      (next != st.blocks.begin() && std::prev(next)->second.end > begin))
    violation("lifetime: the allocator hands out %#llx twice",
              static_cast<unsigned long long>(begin));
  Extent &block = st.blocks[begin];
  block = Extent();
  block.end = end;
  block.previous = take_history(begin, end);
  for (auto at = segment; at != st.segments.end() && at->first < end; ++at)
    at->second.has_blocks = true;
  if (bytes <= kZeroedBytes && st.pending.empty())
    for_pieces(begin, bytes, [](char *piece, size_t, size_t n) { memset(piece, 0, n); });
  ++st.counters.blocks;
}

void block_released(const void *data) {
  Lock lock(state().mutex);
  State &st = state();
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data);
  auto block = st.blocks.find(begin);
  if (block == st.blocks.end()) {
    violation("lifetime: the allocator takes back %#llx, which it has not handed out",
              static_cast<unsigned long long>(begin));
    return;
  }
  Uses uses = std::move(block->second.uses);
  uses.join(block->second.previous);
  st.history[begin] = {block->second.end, std::move(uses)};
  st.blocks.erase(block);
  --st.counters.blocks;
}

bool prepare_memory() { return open_arena(); }

}  // namespace sim

bool simulator_peek(void *host, uint64_t address, size_t bytes) {
  sim::Lock lock(sim::state().mutex);
  return sim::read_device(host, address, bytes);
}

bool simulator_poke(uint64_t address, const void *host, size_t bytes) {
  sim::Lock lock(sim::state().mutex);
  return sim::write_device(address, host, bytes);
}

}  // namespace vt_cuda
