/* The simulated driver's state, for its own files. Everything is guarded by one mutex. */
#ifndef VT_CUDA_SIMULATOR_STATE_H
#define VT_CUDA_SIMULATOR_STATE_H

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "vibetensor/cuda/driver.h"
#include "vibetensor/cuda/launch.h"
#include "vibetensor/cuda/simulator.h"

namespace vt_cuda {
namespace sim {

/* --- Order: vector clocks ------------------------------------------------------------------------ */

/* By lane: how much of its work is known to have come before. */
using Clock = std::vector<uint32_t>;
void join(Clock &into, const Clock &other);
bool covers(const Clock &clock, int lane, uint32_t count);
bool covers(const Clock &clock, const Clock &other);

/* A line of work that is in order by itself: a stream, or a stream's part in one capture. */
struct Lane {
  int index = 0;
  uint32_t count = 0;
  Clock clock;
};

/* The last use by each lane. */
struct Uses {
  std::vector<std::pair<int, uint32_t>> by_lane;
  void set(int lane, uint32_t count);
  void join(const Uses &other);
  /* A lane whose use is not in `clock`, -1: none. */
  int missing_from(const Clock &clock) const;
};

/* --- Memory ------------------------------------------------------------------------------------------ */

/* A block of the caching allocator, or a segment where it says nothing about blocks. */
struct Extent {
  uintptr_t end = 0;
  Uses uses;     /* in this life */
  Uses previous; /* in the lives before, of any part of the memory */
  int write_lane = -1;
  uint32_t write_count = 0;
};

struct Segment {
  uintptr_t end = 0;
  int device = -1;     /* -1: page-locked host memory */
  size_t backing = 0;  /* offset in the backing store */
  bool mapped = false; /* by cuMemMap */
  bool has_blocks = false;
  bool accessible = true; /* cuMemSetAccess was called */
  uint64_t handle = 0;
  Extent extent;
};

struct Physical {
  int device;
  size_t bytes, backing;
  int references; /* cuMemRelease and mappings */
};

/* --- Streams, events, captures -------------------------------------------------------------------- */

enum Kind { kRead = 1, kWrite = 2, kUnknown = 3 };
struct Touch {
  uintptr_t address;
  size_t bytes; /* 0: not known */
  Kind kind;
};

/* One piece of work on a stream. */
struct Work {
  const char *kind = "";
  std::string name;
  unsigned grid[3] = {}, block[3] = {}, shared_bytes = 0;
  size_t bytes = 0;
  std::vector<Touch> touches;
  std::function<void()> effect; /* moves the bytes */
  bool host_function = false;   /* effect runs without the lock */
};

struct Graph {
  std::vector<Work> nodes;
};

struct Stream;
struct Capture {
  uint64_t id = 0;
  std::shared_ptr<Graph> graph = std::make_shared<Graph>();
  Stream *origin = nullptr;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  bool invalid = false;
  std::vector<Stream *> streams;
};

struct Stream {
  int device = 0, priority = 0;
  bool blocking = false; /* ordered with the legacy stream */
  bool legacy = false;
  Lane own, in_capture;
  Capture *capture = nullptr;
  double time = 0; /* simulated microseconds */
  Lane &lane() { return capture ? in_capture : own; }
};

struct Event {
  int device = 0;
  bool timing = false, recorded = false;
  Clock clock;
  uint64_t capture = 0; /* id of the capture that it was recorded in */
  double time = 0;
};

struct Exec {
  std::shared_ptr<Graph> graph;
};

struct Library {
  std::map<std::string, struct Function *> functions;
};
struct Function {
  std::string name;
  int shared_limit = 48 * 1024;
};

struct Device {
  int index = 0;
  size_t limit = 0, used = 0;
  bool retained = false;
  std::set<int> peers;
  Stream legacy;
};

struct Pending {
  int lane;
  uint32_t count;
  Work work;
};

struct Failure {
  uint64_t nth = 0, times = 0;
  CUresult error = CUDA_SUCCESS;
};

enum FunctionNumber {
#define VT_NUMBER(name) F_##name,
  VT_CUDA_DRIVER_FUNCTIONS(VT_NUMBER)
#undef VT_NUMBER
};

struct State {
  std::mutex mutex;
  std::vector<std::unique_ptr<Device>> devices;
  /* memory */
  std::map<uintptr_t, Segment> segments;
  std::map<uintptr_t, Extent> blocks;
  std::map<uintptr_t, std::pair<uintptr_t, Uses>> history; /* of memory that is no block now */
  std::map<uintptr_t, uintptr_t> freed;                    /* begin, end */
  std::map<uintptr_t, uintptr_t> reserved;                 /* begin, end of address ranges */
  std::unordered_map<uint64_t, Physical> physical;
  uint64_t next_handle = 1;
  /* order */
  int num_lanes = 0;
  Clock host; /* what the host knows to be done */
  Clock done; /* what is done */
  int completion = kCompleteAtOnce;
  uint64_t random = 1;
  std::deque<Pending> pending;
  /* objects */
  std::set<Stream *> streams;
  std::set<Event *> events;
  std::set<Exec *> execs;
  std::map<Graph *, std::shared_ptr<Graph>> graphs;
  std::set<Library *> libraries;
  std::set<Function *> functions;
  std::vector<std::unique_ptr<Capture>> captures;
  uint64_t next_capture = 1;
  /* observation */
  bool recording = false, strict = false;
  std::vector<SimulatorLogEntry> log;
  std::vector<std::string> violations;
  SimulatorCounters counters = {};
  uint64_t calls[kNumDriverFunctions] = {};
  Failure failures[kNumDriverFunctions];
};
State &state();

using Lock = std::unique_lock<std::mutex>;

/* Counts the call; the error of an injected failure, or CUDA_SUCCESS. */
CUresult begin_call(FunctionNumber function);
/* Begins the body of a simulated driver function: `lock` holds the mutex. */
#define VT_SIMULATE(name)                    \
  [[maybe_unused]] Lock lock(state().mutex); \
  if (CUresult injected_ = begin_call(F_##name)) return injected_
/* The same, of a function that a capture forbids. (Not by the macro above: it would be handed the
 * name that cuda.h has put in place of the plain one.) */
#define VT_SIMULATE_UNSAFE(name)                                   \
  [[maybe_unused]] Lock lock(state().mutex);                       \
  if (CUresult injected_ = begin_call(F_##name)) return injected_; \
  if (CUresult forbidden_ = forbidden_by_capture()) return forbidden_

void violation(const char *format, ...) __attribute__((format(printf, 1, 2)));

constexpr int kGreatestPriority = -5; /* of a stream */

/* The thread's context, NULL where it has none. */
Device *current_device();
/* NULL, CU_STREAM_LEGACY and a stream's handle; NULL for one that is none. */
Stream *find_stream(CUstream handle);

/* simulator_order.cpp */
int new_lane();
uint32_t tick(Stream &s);
void complete(Lock &lock, const Clock &clock);
void host_learns(const Clock &clock);
bool finished(Lock &lock, const Clock &clock);
void touch(Stream &s, const Touch &t, const Work &work, bool replay);
/* Puts work on a stream: into its capture, or checked, logged and carried out. */
CUresult enqueue(Lock &lock, Stream &s, Work work);
void replay(Lock &lock, Stream &s, const Graph &graph);

/* simulator_memory.cpp */
bool prepare_memory();
void memory_reset();
std::map<uintptr_t, Segment>::iterator find_segment(uintptr_t address);
bool is_locked_host(const void *p);
/* Moves bytes of device memory; false where not all of it is mapped. */
bool read_device(void *host, uintptr_t address, size_t bytes);
bool write_device(uintptr_t address, const void *host, size_t bytes);
void block_allocated(const void *data, size_t bytes, CUstream stream);
void block_released(const void *data);

/* simulator_graphs.cpp */
CUresult forbidden_by_capture();
void invalidate(Capture &c);
/* An error where the stream's capture is broken. */
CUresult capture_state(const Stream &s);

}  // namespace sim
}  // namespace vt_cuda
#endif
