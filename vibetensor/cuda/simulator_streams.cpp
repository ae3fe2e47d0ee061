/* The simulated driver: streams and events. */
#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

namespace {

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

}  // namespace sim
}  // namespace vt_cuda
