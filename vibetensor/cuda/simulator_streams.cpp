/* The simulated driver: devices, contexts, streams, events, code and launches. */
#include <stdio.h>
#include <string.h>

#include "vibetensor/cuda/internal.h"
#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

namespace {

/* Of an H100, so that launch configurations are those of the machine that matters. */
struct {
  CUdevice_attribute which;
  int value;
} const attributes[] = {
    {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 * 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 227 * 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 228 * 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
    {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
    {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 50 << 20},
    {CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE, 32 << 20},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
    {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 2619000},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 5120},
    {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
};
constexpr int kGreatestPriority = -5;

thread_local Device *context = nullptr;

bool known(CUdevice d) { return d >= 0 && d < static_cast<int>(state().devices.size()); }

Event *find_event(CUevent handle) {
  Event *e = reinterpret_cast<Event *>(handle);
  if (state().events.count(e)) return e;
  violation("lifetime: an event is used that does not exist");
  return nullptr;
}

void note(const Stream &s, const char *kind) {
  State &st = state();
  if (!st.recording) return;
  SimulatorLogEntry entry{};
  entry.kind = kind;
  entry.stream = s.legacy ? 0 : reinterpret_cast<uintptr_t>(&s);
  entry.captured = s.capture != nullptr;
  st.log.push_back(entry);
}

}  // namespace

Device *current_device() {
  /* A context of before the last installation is none. */
  for (auto &d : state().devices)
    if (d.get() == context) return context;
  return nullptr;
}

Stream *find_stream(CUstream handle) {
  if (!handle || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
    Device *d = current_device();
    return d ? &d->legacy : nullptr;
  }
  Stream *s = reinterpret_cast<Stream *>(handle);
  if (state().streams.count(s)) return s;
  violation("lifetime: a stream is used that does not exist");
  return nullptr;
}

/* --- Devices and contexts ------------------------------------------------------------------------------- */

CUresult cuInit(unsigned) {
  VT_SIMULATE(cuInit);
  /* Where the system lends no addresses for the memory, there is no device. */
  return prepare_memory() ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult cuDriverGetVersion(int *version) {
  VT_SIMULATE(cuDriverGetVersion);
  *version = CUDA_VERSION;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *n) {
  VT_SIMULATE(cuDeviceGetCount);
  *n = static_cast<int>(state().devices.size());
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  VT_SIMULATE(cuDeviceGet);
  if (!known(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int bytes, CUdevice device) {
  VT_SIMULATE(cuDeviceGetName);
  if (!known(device)) return CUDA_ERROR_INVALID_DEVICE;
  snprintf(name, bytes, "Simulated device");
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetUuid(CUuuid *uuid, CUdevice device) {
  VT_SIMULATE(cuDeviceGetUuid);
  if (!known(device)) return CUDA_ERROR_INVALID_DEVICE;
  memset(uuid->bytes, 0, sizeof uuid->bytes);
  uuid->bytes[15] = static_cast<char>(device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
  VT_SIMULATE(cuDeviceGetAttribute);
  if (!known(device)) return CUDA_ERROR_INVALID_DEVICE;
  *value = 0;
  for (const auto &a : attributes)
    if (a.which == which) *value = a.value;
  if (which == CU_DEVICE_ATTRIBUTE_PCI_BUS_ID) *value = device + 1;
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  VT_SIMULATE(cuDeviceTotalMem);
  if (!known(device)) return CUDA_ERROR_INVALID_DEVICE;
  *bytes = state().devices[device]->limit;
  return CUDA_SUCCESS;
}

CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer) {
  VT_SIMULATE(cuDeviceCanAccessPeer);
  if (!known(device) || !known(peer)) return CUDA_ERROR_INVALID_DEVICE;
  *can = device != peer;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *ctx, CUdevice device) {
  VT_SIMULATE_UNSAFE(cuDevicePrimaryCtxRetain);
  if (!known(device)) return CUDA_ERROR_INVALID_DEVICE;
  state().devices[device]->retained = true;
  *ctx = reinterpret_cast<CUcontext>(state().devices[device].get());
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  VT_SIMULATE(cuDevicePrimaryCtxRelease);
  return known(device) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active) {
  VT_SIMULATE(cuDevicePrimaryCtxGetState);
  if (!known(device)) return CUDA_ERROR_INVALID_DEVICE;
  *flags = 0;
  *active = state().devices[device]->retained;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *ctx) {
  VT_SIMULATE(cuCtxGetCurrent);
  *ctx = reinterpret_cast<CUcontext>(current_device());
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext ctx) {
  VT_SIMULATE(cuCtxSetCurrent);
  context = reinterpret_cast<Device *>(ctx);
  return !ctx || current_device() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult cuCtxGetDevice(CUdevice *device) {
  VT_SIMULATE(cuCtxGetDevice);
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  *device = d->index;
  return CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
  VT_SIMULATE(cuCtxSynchronize);
  State &st = state();
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  bool broken = false;
  for (auto &c : st.captures)
    if (c->origin->device == d->index) {
      invalidate(*c);
      broken = true;
    }
  if (broken) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  Clock all = d->legacy.own.clock;
  for (Stream *s : st.streams)
    if (s->device == d->index) join(all, s->own.clock);
  ++st.counters.waits;
  complete(lock, all);
  host_learns(all);
  return CUDA_SUCCESS;
}

CUresult cuCtxGetStreamPriorityRange(int *least, int *greatest) {
  VT_SIMULATE(cuCtxGetStreamPriorityRange);
  *least = 0;
  *greatest = kGreatestPriority;
  return CUDA_SUCCESS;
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned) {
  VT_SIMULATE_UNSAFE(cuCtxEnablePeerAccess);
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  return d->peers.insert(reinterpret_cast<Device *>(peer)->index).second
             ? CUDA_SUCCESS
             : CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
}

/* --- Streams --------------------------------------------------------------------------------------------- */

CUresult cuStreamCreateWithPriority(CUstream *handle, unsigned flags, int priority) {
  VT_SIMULATE(cuStreamCreateWithPriority);
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  Stream *s = new Stream;
  s->device = d->index;
  s->priority = priority > 0 ? 0 : priority < kGreatestPriority ? kGreatestPriority : priority;
  s->blocking = !(flags & CU_STREAM_NON_BLOCKING);
  s->own.index = new_lane();
  state().streams.insert(s);
  *handle = reinterpret_cast<CUstream>(s);
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream handle) {
  VT_SIMULATE(cuStreamDestroy);
  Stream *s = find_stream(handle);
  if (!s || s->legacy) return CUDA_ERROR_INVALID_HANDLE;
  if (s->capture) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  state().streams.erase(s); /* kept in memory, so that no other gets the handle */
  return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
  VT_SIMULATE(cuStreamSynchronize);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (s->capture) {
    invalidate(*s->capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (CUresult forbidden = forbidden_by_capture()) return forbidden;
  ++state().counters.waits;
  note(*s, "synchronize");
  Clock all = s->own.clock;
  if (s->legacy)
    for (Stream *other : state().streams)
      if (other->blocking && other->device == s->device) join(all, other->own.clock);
  complete(lock, all);
  host_learns(all);
  return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream handle) {
  VT_SIMULATE(cuStreamQuery);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (s->capture) {
    invalidate(*s->capture);
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  const Clock clock = s->own.clock;
  if (!finished(lock, clock)) return CUDA_ERROR_NOT_READY;
  host_learns(clock);
  return CUDA_SUCCESS;
}

CUresult cuStreamGetPriority(CUstream handle, int *priority) {
  VT_SIMULATE(cuStreamGetPriority);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  *priority = s->priority;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetFlags(CUstream handle, unsigned *flags) {
  VT_SIMULATE(cuStreamGetFlags);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  *flags = s->blocking ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING;
  return CUDA_SUCCESS;
}

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data) {
  VT_SIMULATE(cuLaunchHostFunc);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  Work work;
  work.kind = "host function";
  work.host_function = true;
  work.effect = [function, data] { function(data); };
  return enqueue(lock, *s, std::move(work));
}

/* --- Events ---------------------------------------------------------------------------------------------- */

CUresult cuEventCreate(CUevent *handle, unsigned flags) {
  VT_SIMULATE(cuEventCreate);
  Device *d = current_device();
  if (!d) return CUDA_ERROR_INVALID_CONTEXT;
  Event *e = new Event;
  e->device = d->index;
  e->timing = !(flags & CU_EVENT_DISABLE_TIMING);
  state().events.insert(e);
  *handle = reinterpret_cast<CUevent>(e);
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle) {
  VT_SIMULATE(cuEventDestroy);
  Event *e = find_event(handle);
  if (!e) return CUDA_ERROR_INVALID_HANDLE;
  state().events.erase(e);
  delete e;
  return CUDA_SUCCESS;
}

static CUresult record(CUevent handle, CUstream stream, unsigned flags) {
  Stream *s = find_stream(stream);
  Event *e = find_event(handle);
  if (!s || !e) return CUDA_ERROR_INVALID_HANDLE;
  if (e->device != s->device) return CUDA_ERROR_INVALID_HANDLE;
  if (CUresult broken = capture_state(*s)) return broken;
  tick(*s);
  note(*s, "record");
  e->recorded = true;
  e->clock = s->lane().clock;
  e->capture = s->capture && !(flags & CU_EVENT_RECORD_EXTERNAL) ? s->capture->id : 0;
  e->time = s->time;
  return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  VT_SIMULATE(cuEventRecord);
  return record(event, stream, 0);
}

CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned flags) {
  VT_SIMULATE(cuEventRecordWithFlags);
  return record(event, stream, flags);
}

CUresult cuEventQuery(CUevent handle) {
  VT_SIMULATE_UNSAFE(cuEventQuery);
  Event *e = find_event(handle);
  if (!e) return CUDA_ERROR_INVALID_HANDLE;
  if (e->capture) return CUDA_ERROR_CAPTURED_EVENT;
  if (!e->recorded) return CUDA_SUCCESS;
  const Clock clock = e->clock;
  if (!finished(lock, clock)) return CUDA_ERROR_NOT_READY;
  host_learns(clock);
  return CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent handle) {
  VT_SIMULATE_UNSAFE(cuEventSynchronize);
  Event *e = find_event(handle);
  if (!e) return CUDA_ERROR_INVALID_HANDLE;
  if (e->capture) return CUDA_ERROR_CAPTURED_EVENT;
  ++state().counters.waits;
  const Clock clock = e->clock;
  complete(lock, clock);
  host_learns(clock);
  return CUDA_SUCCESS;
}

CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end) {
  VT_SIMULATE(cuEventElapsedTime);
  Event *a = find_event(start), *b = find_event(end);
  if (!a || !b || !a->recorded || !b->recorded || !a->timing || !b->timing)
    return CUDA_ERROR_INVALID_HANDLE;
  if (a->capture || b->capture) return CUDA_ERROR_CAPTURED_EVENT;
  const State &st = state();
  if (st.completion != kCompleteAtOnce && !(covers(st.done, a->clock) && covers(st.done, b->clock)))
    return CUDA_ERROR_NOT_READY;
  *milliseconds = static_cast<float>((b->time - a->time) / 1000);
  return CUDA_SUCCESS;
}

CUresult cuIpcGetEventHandle(CUipcEventHandle *, CUevent) {
  VT_SIMULATE(cuIpcGetEventHandle);
  return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuIpcOpenEventHandle(CUevent *, CUipcEventHandle) {
  VT_SIMULATE(cuIpcOpenEventHandle);
  return CUDA_ERROR_NOT_SUPPORTED;
}

/* --- Code and launches ------------------------------------------------------------------------------------ */

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *, void **, unsigned,
                           CUlibraryOption *, void **, unsigned) {
  VT_SIMULATE_UNSAFE(cuLibraryLoadData);
  if (!code) return CUDA_ERROR_INVALID_VALUE;
  Library *l = new Library;
  state().libraries.insert(l);
  *library = reinterpret_cast<CUlibrary>(l);
  return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary library) {
  VT_SIMULATE_UNSAFE(cuLibraryUnload);
  Library *l = reinterpret_cast<Library *>(library);
  if (!state().libraries.erase(l)) return CUDA_ERROR_INVALID_HANDLE;
  for (auto &f : l->functions) state().functions.erase(f.second);
  return CUDA_SUCCESS;
}

/* The names in a compressed fatbin cannot be read here: every kernel is there. */
CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  VT_SIMULATE(cuLibraryGetKernel);
  Library *l = reinterpret_cast<Library *>(library);
  if (!state().libraries.count(l)) return CUDA_ERROR_INVALID_HANDLE;
  Function *&f = l->functions[name];
  if (!f) {
    f = new Function{name};
    state().functions.insert(f);
  }
  *kernel = reinterpret_cast<CUkernel>(f);
  return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  VT_SIMULATE_UNSAFE(cuKernelGetFunction);
  if (!current_device()) return CUDA_ERROR_INVALID_CONTEXT;
  *function = reinterpret_cast<CUfunction>(kernel);
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
  VT_SIMULATE(cuFuncGetAttribute);
  Function *f = reinterpret_cast<Function *>(function);
  if (!state().functions.count(f)) return CUDA_ERROR_INVALID_HANDLE;
  *value = which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? f->shared_limit
           : which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK       ? 1024
           : which == CU_FUNC_ATTRIBUTE_NUM_REGS                    ? 32
                                                                    : 0;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
  VT_SIMULATE(cuFuncSetAttribute);
  Function *f = reinterpret_cast<Function *>(function);
  if (!state().functions.count(f)) return CUDA_ERROR_INVALID_HANDLE;
  if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value > 227 * 1024) return CUDA_ERROR_INVALID_VALUE;
    f->shared_limit = value;
  }
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int threads,
                                                     size_t shared) {
  VT_SIMULATE(cuOccupancyMaxActiveBlocksPerMultiprocessor);
  if (threads <= 0 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
  int by_threads = 2048 / threads;
  const int by_shared = shared ? static_cast<int>(228 * 1024 / (shared + 1024)) : 32;
  if (by_threads > 32) by_threads = 32;
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return CUDA_SUCCESS;
}

/* Every word of the packed arguments that is an address of ours. */
static void find_touches(void **extra, Work *work) {
  const char *buffer = nullptr;
  size_t bytes = 0;
  const ArgumentUse *use = nullptr;
  for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = static_cast<const char *>(extra[1]);
    if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t *>(extra[1]);
  }
  if (!buffer) return;
  if (extra[1] == kUseFollows) use = static_cast<const ArgumentUse *>(extra[2]);
  work->bytes = bytes;
  State &st = state();
  for (size_t i = 0; i < bytes / 8; ++i) {
    uintptr_t word;
    memcpy(&word, buffer + 8 * i, 8);
    if (word < 0x10000) continue;
    if (find_segment(word) == st.segments.end()) {
      auto gone = st.freed.upper_bound(word);
      if (gone == st.freed.begin() || word >= (--gone)->second) continue;
    }
    const uint64_t bit = i < 64 ? uint64_t(1) << i : 0;
    const Kind kind = use && (use->writes & bit)  ? kWrite
                      : use && (use->reads & bit) ? kRead
                                                  : kUnknown;
    work->touches.push_back({word, 0, kind});
  }
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream handle, void **,
                        void **extra) {
  VT_SIMULATE(cuLaunchKernel);
  Stream *s = find_stream(handle);
  Function *f = reinterpret_cast<Function *>(function);
  Device *d = current_device();
  if (!s || !state().functions.count(f) || !d) return CUDA_ERROR_INVALID_HANDLE;
  /* A stream of another device than the current one. */
  if (s->device != d->index) return CUDA_ERROR_INVALID_HANDLE;
  const uint64_t threads = uint64_t(bx) * by * bz;
  if (!gx || !gy || !gz || !threads || threads > 1024 || bz > 64 || gx > 0x7fffffffu ||
      gy > 65535 || gz > 65535 || shared > static_cast<unsigned>(f->shared_limit)) {
    violation("launch: %s with grid (%u, %u, %u), block (%u, %u, %u), %u bytes of shared memory",
              f->name.c_str(), gx, gy, gz, bx, by, bz, shared);
    return CUDA_ERROR_INVALID_VALUE;
  }
  Work work;
  work.kind = "launch";
  work.name = f->name;
  const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
  memcpy(work.grid, grid, sizeof grid);
  memcpy(work.block, block, sizeof block);
  work.shared_bytes = shared;
  find_touches(extra, &work);
  /* Arguments in an order that writes come first would hide a read of the same block. */
  return enqueue(lock, *s, std::move(work));
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra) {
  return sim::cuLaunchKernel(f, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY,
                             c->blockDimZ, c->sharedMemBytes, c->hStream, params, extra);
}

void library_call(const char *name, CUstream handle, const void *const *reads, int num_reads,
                  void *const *writes, int num_writes) {
  Lock lock(state().mutex);
  Stream *s = find_stream(handle);
  if (!s) return;
  Work work;
  work.kind = "launch";
  work.name = name;
  for (int i = 0; i < num_reads; ++i)
    if (reads[i]) work.touches.push_back({reinterpret_cast<uintptr_t>(reads[i]), 0, kRead});
  for (int i = 0; i < num_writes; ++i)
    if (writes[i]) work.touches.push_back({reinterpret_cast<uintptr_t>(writes[i]), 0, kWrite});
  enqueue(lock, *s, std::move(work));
}

}  // namespace sim
}  // namespace vt_cuda
