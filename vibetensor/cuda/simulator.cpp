/* The simulated driver: its state, installation, injected failures and what tests read. */
#include "vibetensor/cuda/simulator.h"

#include <string.h>

#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

/* Every function of the table has a body here: a missing one does not link. */
#define VT_DECLARE(name) std::remove_pointer_t<decltype(Driver::name)> name;
VT_CUDA_DRIVER_FUNCTIONS(VT_DECLARE)
#undef VT_DECLARE
void library_call(const char *name, CUstream stream, const void *const *reads, int num_reads,
                  void *const *writes, int num_writes);

State &state() {
  /* Never destroyed: threads may outlive the destructors of statics. */
  static State *s = new State;
  return *s;
}

CUresult begin_call(FunctionNumber function) {
  State &st = state();
  ++st.calls[function];
  Failure &f = st.failures[function];
  if (f.nth == 0 || --f.nth > 0) return CUDA_SUCCESS;
  if (--f.times > 0) f.nth = 1;
  return f.error;
}

static int number_of(const char *function) {
  for (int i = 0; i < kNumDriverFunctions; ++i)
    if (!strcmp(driver_names[i], function)) return i;
  return -1;
}

static const struct {
  CUresult code;
  const char *name, *text;
} error_table[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_ILLEGAL_STATE, "CUDA_ERROR_ILLEGAL_STATE",
     "the operation cannot be performed in the present state"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "capturing stream has unjoined work"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
};

CUresult cuGetErrorName(CUresult code, const char **text) {
  for (const auto &e : error_table)
    if (e.code == code) return *text = e.name, CUDA_SUCCESS;
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult code, const char **text) {
  for (const auto &e : error_table)
    if (e.code == code) return *text = e.text, CUDA_SUCCESS;
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace sim

using sim::Lock;
using sim::state;
using sim::State;

void simulator_clear() {
  Lock lock(state().mutex);
  State &st = state();
  st.log.clear();
  st.violations.clear();
  const SimulatorCounters old = st.counters;
  st.counters = {};
  st.counters.live_bytes = st.counters.peak_bytes = old.live_bytes;
  st.counters.blocks = old.blocks;
  memset(st.calls, 0, sizeof st.calls);
}

void simulator_install(const SimulatorOptions &options) {
  {
    Lock lock(state().mutex);
    State &st = state();
    sim::prepare_memory();
    sim::memory_reset();
    /* Handles of before stay allocated, so that they are never those of something new. */
    st.devices.clear();
    st.segments.clear();
    st.blocks.clear();
    st.history.clear();
    st.freed.clear();
    st.reserved.clear();
    st.physical.clear();
    st.host.clear();
    st.done.clear();
    st.pending.clear();
    st.completion = kCompleteAtOnce;
    st.streams.clear();
    st.events.clear();
    st.execs.clear();
    st.graphs.clear();
    st.libraries.clear();
    st.functions.clear();
    st.captures.clear();
    st.recording = st.strict = false;
    st.log.clear();
    st.violations.clear();
    st.counters = {};
    memset(st.calls, 0, sizeof st.calls);
    for (auto &failure : st.failures) failure = {};
    st.num_lanes = 0;
    for (int i = 0; i < options.devices; ++i) {
      auto device = std::make_unique<sim::Device>();
      device->index = i;
      device->limit = options.memory_bytes;
      device->legacy.device = i;
      device->legacy.legacy = device->legacy.blocking = true;
      device->legacy.own.index = sim::new_lane();
      st.devices.push_back(std::move(device));
    }
  }
#define VT_FILL(name) driver.name = sim::name;
  VT_CUDA_DRIVER_FUNCTIONS(VT_FILL)
#undef VT_FILL
  driver.block_allocated = sim::block_allocated;
  driver.block_released = sim::block_released;
  driver.library_call = sim::library_call;
}

void simulator_finish_work() {
  Lock lock(state().mutex);
  State &st = state();
  sim::Clock all;
  for (auto &device : st.devices) sim::join(all, device->legacy.own.clock);
  for (sim::Stream *s : st.streams) sim::join(all, s->own.clock);
  sim::complete(lock, all);
}

void simulator_set_completion(int completion, uint64_t seed) {
  simulator_finish_work();
  Lock lock(state().mutex);
  state().completion = completion;
  state().random = seed * 2 + 1;
}

bool simulator_fail(const char *function, uint64_t nth, int error, uint64_t times) {
  Lock lock(state().mutex);
  const int number = sim::number_of(function);
  if (number < 0) return false;
  state().failures[number] = {nth, times ? times : 1, static_cast<CUresult>(error)};
  return true;
}

void simulator_clear_failures() {
  Lock lock(state().mutex);
  for (auto &failure : state().failures) failure = {};
}

void simulator_set_memory(int device, size_t bytes) {
  Lock lock(state().mutex);
  if (device >= 0 && device < static_cast<int>(state().devices.size()))
    state().devices[device]->limit = bytes;
}

void simulator_set_strict(bool strict) {
  Lock lock(state().mutex);
  state().strict = strict;
}

void simulator_record(bool on) {
  Lock lock(state().mutex);
  state().recording = on;
}

std::vector<SimulatorLogEntry> simulator_log() {
  Lock lock(state().mutex);
  return state().log;
}

std::vector<std::string> simulator_violations() {
  Lock lock(state().mutex);
  return state().violations;
}

SimulatorCounters simulator_counters() {
  Lock lock(state().mutex);
  return state().counters;
}

uint64_t simulator_calls(const char *function) {
  Lock lock(state().mutex);
  const int number = sim::number_of(function);
  return number < 0 ? 0 : state().calls[number];
}

}  // namespace vt_cuda
