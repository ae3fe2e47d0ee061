/* Pools of streams and events, and the order between streams. */
#include <mutex>
#include <vector>

#include "vibetensor/cuda/internal.h"

namespace vt_cuda {

namespace {

constexpr int kStreamsPerPool = 32;
constexpr int kPriorities = 8; /* levels kept apart; devices have up to 6 */

struct DevicePools {
  std::mutex mutex;
  CUstream streams[kPriorities][kStreamsPerPool] = {};
  unsigned next[kPriorities] = {};
  bool know_priorities = false;
  int greatest = 0;
  std::vector<CUevent> events;
};

DevicePools *pools() {
  /* Never destroyed: threads may outlive the destructors of statics. */
  static DevicePools *all = new DevicePools[kMaxDevices];
  return all;
}

vt_status read_priorities(DevicePools *p) {
  if (p->know_priorities) return VT_OK;
  int least = 0;
  VT_CUDA_CHECK(cuCtxGetStreamPriorityRange, &least, &p->greatest);
  p->know_priorities = true;
  return VT_OK;
}

}  // namespace

vt_status greatest_priority(int device, int *priority) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  DevicePools *p = &pools()[device];
  std::lock_guard<std::mutex> lock(p->mutex);
  const vt_status status = read_priorities(p);
  *priority = p->greatest;
  return status;
}

vt_status pool_stream(int device, int priority, CUstream *stream) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  DevicePools *p = &pools()[device];
  std::lock_guard<std::mutex> lock(p->mutex);
  if (vt_status status = read_priorities(p)) return status;
  if (priority > 0) priority = 0;
  if (priority < p->greatest) priority = p->greatest;
  int level = -priority;
  if (level >= kPriorities) level = kPriorities - 1;
  CUstream *slot = &p->streams[level][p->next[level] % kStreamsPerPool];
  if (!*slot) {
    RelaxedCapture relaxed;
    /* Non-blocking: the legacy default stream does not wait for it, as for PyTorch's. */
    VT_CUDA_CHECK(cuStreamCreateWithPriority, slot, CU_STREAM_NON_BLOCKING, priority);
  }
  ++p->next[level];
  *stream = *slot;
  return VT_OK;
}

CUevent take_event(int device) {
  DevicePools *p = &pools()[device];
  {
    std::lock_guard<std::mutex> lock(p->mutex);
    if (!p->events.empty()) {
      const CUevent event = p->events.back();
      p->events.pop_back();
      return event;
    }
  }
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return nullptr;
  RelaxedCapture relaxed;
  CUevent event = nullptr;
  if (driver_error(driver.cuEventCreate(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate") != VT_OK)
    return nullptr;
  return event;
}

void give_event(int device, CUevent event) {
  if (!event) return;
  DevicePools *p = &pools()[device];
  std::lock_guard<std::mutex> lock(p->mutex);
  p->events.push_back(event);
}

vt_status order_streams(int consumer_device, CUstream consumer, int producer_device,
                        CUstream producer) {
  if (consumer == producer && consumer_device == producer_device) return VT_OK;
  ContextGuard guard(producer_device);
  if (guard.status() != VT_OK) return guard.status();
  const CUevent event = take_event(producer_device);
  if (!event) return VT_ERROR_VALUE;
  vt_status status = driver_error(driver.cuEventRecord(event, producer), "cuEventRecord");
  if (status == VT_OK) {
    /* The default stream is named by NULL, which means that of the current context. */
    ContextGuard there(consumer_device);
    status = there.status();
    if (status == VT_OK)
      status = driver_error(driver.cuStreamWaitEvent(consumer, event, CU_EVENT_WAIT_DEFAULT),
                            "cuStreamWaitEvent");
  }
  /* The wait holds what was recorded; recording the event anew does not change it. */
  give_event(producer_device, event);
  return status;
}

vt_status stream_done(int device, CUstream stream, int *done) {
  *done = 0;
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  if (vt_status status = may_wait(stream, "querying the stream")) return status;
  const CUresult result = driver.cuStreamQuery(stream);
  *done = result == CUDA_SUCCESS;
  return result == CUDA_ERROR_NOT_READY ? VT_OK : driver_error(result, "cuStreamQuery");
}

bool stream_capturing(CUstream stream) {
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  /* Of the legacy stream it fails while a blocking stream is captured. */
  const CUresult result = driver.cuStreamIsCapturing(stream, &status);
  return result == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT ||
         (result == CUDA_SUCCESS && status != CU_STREAM_CAPTURE_STATUS_NONE);
}

void forget_streams() {
  for (int d = 0; d < kMaxDevices; ++d) {
    DevicePools *p = &pools()[d];
    for (auto &level : p->streams)
      for (CUstream &stream : level) stream = nullptr;
    for (unsigned &next : p->next) next = 0;
    p->know_priorities = false;
    p->greatest = 0;
    p->events.clear();
  }
}

}  // namespace vt_cuda
