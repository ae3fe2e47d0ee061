/* Devices, streams, events and errors of the CUDA backend, for the rest of libvtcuda and for the
 * Cython modules. Below the GIL: every function may be called with or without it, and none takes it.
 *
 * Functions that can fail return a vt_status; last_error() then has the text, per thread. */
#ifndef VT_CUDA_RUNTIME_H
#define VT_CUDA_RUNTIME_H

#include <atomic>

#include "vibetensor/cuda/driver.h"
#include "vibetensor/cuda/launch.h"
#include "vibetensor/types.h"

namespace vt_cuda {

/* --- Start ------------------------------------------------------------------------------------ */

/* Initialises the driver, whose table has been filled, and counts the devices. Repeated calls are
 * cheap; after a fork of an initialised process it fails in the child. */
vt_status initialise();
bool is_initialised();
/* 0 before initialise(). */
int device_count();
/* Retains the device's context and reads its properties, at first use. */
vt_status use_device(int device);

/* --- Errors ------------------------------------------------------------------------------------ */

/* The text of the last failure on this thread; never NULL. */
const char *last_error();
/* Sets the text (printf's format) and returns `status`. */
vt_status set_error(vt_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The driver's error as a status, with a text that names the call. CUDA_SUCCESS gives VT_OK. */
vt_status driver_error(CUresult result, const char *call);
/* The same for a kernel's host side: ctx->message points to the text. */
vt_status driver_error(CUresult result, const char *call, vt_context *ctx);

#define VT_CUDA_CHECK(call, ...)                                     \
  do {                                                               \
    const CUresult vt_result_ = ::vt_cuda::driver.call(__VA_ARGS__); \
    if (__builtin_expect(vt_result_ != CUDA_SUCCESS, 0))             \
      return ::vt_cuda::driver_error(vt_result_, #call);             \
  } while (0)

/* --- The thread's current device and streams ---------------------------------------------------- */

struct ThreadState {
  int device;
  CUcontext restore;             /* what `leave` puts back, NULL for nothing */
  CUstream streams[kMaxDevices]; /* NULL: the legacy default stream, as in PyTorch */
};
/* Not initial-exec: the part of CUDA's runtime that CUB needs has thread-local pages of its own, for
 * which a process that loads the library late has no static room. */
extern __thread ThreadState thread_state;

extern std::atomic<CUcontext> device_contexts[kMaxDevices]; /* NULL until the device is used */

inline int current_device() { return thread_state.device; }
vt_status set_device(int device);
inline CUstream current_stream(int device) { return thread_state.streams[device]; }
/* Returns the one before. */
inline CUstream exchange_stream(int device, CUstream stream) {
  const CUstream before = thread_state.streams[device];
  thread_state.streams[device] = stream;
  return before;
}

vt_status enter_slow(int device, vt_context *ctx, CUcontext current);
/* Before work on a device: makes its context current and fills ctx->stream and ctx->device_index.
 * The context is looked at each time, because another library in the process may switch it.
 * `leave` restores the other one. Calls do not nest; code below them uses ContextGuard. */
inline vt_status enter(int device, vt_context *ctx) {
  CUcontext current = nullptr;
  ctx->device_index = device;
  ctx->stream = thread_state.streams[device];
  const CUcontext wanted = device_contexts[device].load(std::memory_order_acquire);
  if (__builtin_expect(wanted != nullptr && driver.cuCtxGetCurrent(&current) == CUDA_SUCCESS &&
                           current == wanted,
                       1))
    return VT_OK;
  return enter_slow(device, ctx, current);
}
void leave_slow();
inline void leave(vt_context *) {
  if (__builtin_expect(thread_state.restore != nullptr, 0)) leave_slow();
}

/* Makes a device's context current while it lives. */
class ContextGuard {
 public:
  explicit ContextGuard(int device);
  ~ContextGuard();
  ContextGuard(const ContextGuard &) = delete;
  ContextGuard &operator=(const ContextGuard &) = delete;
  vt_status status() const { return status_; }

 private:
  CUcontext before_ = nullptr;
  bool changed_ = false;
  vt_status status_ = VT_OK;
};

/* Lets this thread do what a capture under way would forbid (loading code, allocating), while it
 * lives: none of it becomes part of the graph. */
class RelaxedCapture {
 public:
  RelaxedCapture() { driver.cuThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { driver.cuThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture &) = delete;
  RelaxedCapture &operator=(const RelaxedCapture &) = delete;

 private:
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
};

/* --- Streams and events -------------------------------------------------------------------------- */

/* A stream of the device's pool: 32 for each priority, made at first use, handed out in turn and
 * never destroyed. `priority` is 0 or negative (more urgent), beyond the device's range the nearest. */
vt_status pool_stream(int device, int priority, CUstream *stream);
/* The most urgent priority that the device knows, a negative number. */
vt_status greatest_priority(int device, int *priority);

/* Events without timing, kept per device. Give one back once nobody will query or wait for it
 * again; waits that a stream was given already are not affected. */
CUevent take_event(int device); /* NULL: failed */
void give_event(int device, CUevent event);

/* What `producer` was given so far comes before what `consumer` will be given; no host wait. */
vt_status order_streams(int consumer_device, CUstream consumer, int producer_device,
                        CUstream producer);

/* VT_OK with *done. Not allowed on a stream that is captured. */
vt_status stream_done(int device, CUstream stream, int *done);
bool stream_capturing(CUstream stream);

/* --- Waiting: each is counted, refused under capture, and reports bad indices --------------------- */

/* Fails with VT_ERROR_VALUE, and a text that names `what`, where a wait would break a capture. */
vt_status may_wait(CUstream stream, const char *what);
vt_status synchronize_stream(int device, CUstream stream);
vt_status synchronize_device(int device);
vt_status synchronize_event(int device, CUevent event);

/* What a kernel found wrong (vt/index_error.h). */
struct KernelError {
  int op;              /* the operator's number */
  int64_t detail[3];   /* the index, its dimension and the size of that */
  const char *message; /* static; NULL where the error is an index out of bounds */
};
/* The first error of the device's kernels since the last call; it is reported once. VT_OK: none;
 * VT_ERROR_INDEX or VT_ERROR_VALUE: last_error() has the text. */
vt_status take_kernel_error(int device, KernelError *error);
/* What the functions above reported last on this thread. */
const KernelError &last_kernel_error();
/* Waits for ctx->stream, then reports into ctx. */
vt_status wait(vt_context *ctx);

/* --- Memory and peers ------------------------------------------------------------------------------ */

vt_status memory_info(int device, size_t *free_bytes, size_t *total_bytes);
vt_status can_access_peer(int device, int peer, int *can);
/* Lets kernels on `device` use memory of `peer`; *enabled is 0 where the hardware cannot. Cheap when
 * it was asked before. */
vt_status enable_peer_access(int device, int peer, int *enabled);

/* --- Counters --------------------------------------------------------------------------------------- */

struct Counters {
  std::atomic<uint64_t> launches;   /* kernels; memory sets and copies are not among them */
  std::atomic<uint64_t> host_syncs; /* times the host waited for a device */
  std::atomic<uint64_t> graph_launches;
};
extern Counters counters;
inline void count(std::atomic<uint64_t> &counter) {
  counter.fetch_add(1, std::memory_order_relaxed);
}

/* --- Code ---------------------------------------------------------------------------------------------- */

/* The folder of the fatbins, copied. */
void set_fatbin_folder(const char *path);
/* Forgets devices, streams, events and code, so that another driver can fill the table. Only for
 * tests: nothing of the old one may be in use. */
void forget_everything();

}  // namespace vt_cuda
#endif
