/* A driver that runs on a machine with no GPU, behind the same table. Copies and memory sets move
 * bytes, kernels do nothing but are logged; streams, events, captures and virtual memory behave as
 * CUDA's, and three things are checked that a GPU only punishes now and then:
 *
 *   order     a use of memory that nothing puts after the last write to it, or after what other
 *             streams did with it before it was freed and handed out again
 *   lifetime  a use of memory that was freed, or freeing it twice
 *   access    device memory cannot be read by the host: a stray access is a fault
 *
 * Addresses are found by looking through the packed arguments of a launch. Where a block is handed
 * out of a segment, the allocator says so (driver.block_allocated), and the checks are by block. */
#ifndef VT_CUDA_SIMULATOR_H
#define VT_CUDA_SIMULATOR_H

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

namespace vt_cuda {

struct SimulatorOptions {
  int devices = 2;
  size_t memory_bytes = size_t(16) << 30; /* of each device */
};

/* Fills the driver table, with nothing allocated and nothing logged. */
void simulator_install(const SimulatorOptions &options);

/* When work counts as done. Bytes move when it is done, so what reads too early reads old ones. */
enum SimulatorCompletion {
  kCompleteAtOnce = 0,
  kCompleteWhenAwaited = 1, /* by a synchronisation; a query says "not ready" until then */
  kCompleteAtRandom = 2     /* a query finds it done one time out of two */
};
void simulator_set_completion(int completion, uint64_t seed);
/* Lets all work given so far be done, without the host knowing. */
void simulator_finish_work();

/* The `nth` call from now of `function` (1: the next one), and the `times - 1` after it, return
 * `error`. false: there is no such function. */
bool simulator_fail(const char *function, uint64_t nth, int error, uint64_t times);
void simulator_clear_failures();
void simulator_set_memory(int device, size_t bytes);

/* An argument inside a structure is taken for a read unless it is the block's first use; strictly,
 * for a write. */
void simulator_set_strict(bool strict);

struct SimulatorLogEntry {
  const char *kind; /* "launch", "copy", "memset", "host function", "record", "wait", "graph" ... */
  std::string name; /* of the kernel */
  unsigned grid[3], block[3], shared_bytes;
  uint64_t stream;
  size_t bytes;
  bool captured;                 /* part of a graph; a replay logs it again */
  std::vector<uint64_t> touched; /* first addresses of the blocks it uses */
};
void simulator_record(bool on);
std::vector<SimulatorLogEntry> simulator_log();
/* What was found wrong, one line each; also without recording. */
std::vector<std::string> simulator_violations();
void simulator_clear();

struct SimulatorCounters {
  uint64_t launches, copies, memsets, graph_launches;
  uint64_t waits; /* calls that made the host wait, pageable copies to the host among them */
  uint64_t implicit_waits; /* of cuMemFree and cuMemFreeHost */
  uint64_t allocations;    /* cuMemAlloc and cuMemCreate */
  uint64_t live_bytes;     /* of all devices */
  uint64_t peak_bytes;
  uint64_t blocks; /* handed out by the allocator at the moment */
};
SimulatorCounters simulator_counters();
/* Calls of a driver function since the installation. */
uint64_t simulator_calls(const char *function);

/* Host access to device memory, for tests: copies at once, without order. false: not all of it is
 * allocated. */
bool simulator_peek(void *host, uint64_t device_address, size_t bytes);
bool simulator_poke(uint64_t device_address, const void *host, size_t bytes);

}  // namespace vt_cuda
#endif
