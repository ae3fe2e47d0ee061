/* The C side of runtime.h, for the Cython modules. */
#include "vibetensor/cuda/runtime_api.h"

#include <string.h>

#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/host_allocator.h"
#include "vibetensor/cuda/runtime.h"

using namespace vt_cuda;

namespace {

CUstream stream_of(void *handle) { return static_cast<CUstream>(handle); }
CUevent event_of(void *handle) { return static_cast<CUevent>(handle); }

}  // namespace

const char *vt_cuda_last_error(void) { return last_error(); }

/* --- the driver table --- */

int vt_cuda_num_driver_functions(void) { return kNumDriverFunctions; }

const char *vt_cuda_driver_name(int number) { return driver_names[number]; }

void vt_cuda_set_driver_function(int number, void *function) {
  /* The simulator's own entries mean that it is in place. */
  driver.block_allocated = nullptr;
  driver.block_released = nullptr;
  driver.library_call = nullptr;
  driver_slots()[number] = function;
}

int vt_cuda_simulated(void) { return simulated(); }

vt_status vt_cuda_driver_version(int *version) {
  VT_CUDA_CHECK(cuDriverGetVersion, version);
  return VT_OK;
}

/* --- start --- */

vt_status vt_cuda_initialise(void) { return initialise(); }

int vt_cuda_is_initialised(void) { return is_initialised(); }

void vt_cuda_set_fatbin_folder(const char *path) { set_fatbin_folder(path); }

int vt_cuda_forget_everything(void) {
  /* Memory that waits for other streams is given back only when they are done. */
  for (int d = 0; d < device_count(); ++d) {
    if (!device_contexts[d].load()) continue;
    ContextGuard guard(d);
    driver.cuCtxSynchronize();
  }
  empty_cache();
  host_empty_cache();
  if (!reset_allocator() || !host_reset()) {
    set_error(VT_ERROR_VALUE, "memory of the CUDA driver in use has not been freed");
    return 0;
  }
  forget_everything();
  return 1;
}

/* --- devices --- */

int vt_cuda_device_count(void) { return device_count(); }
int vt_cuda_current_device(void) { return current_device(); }
vt_status vt_cuda_set_device(int device) { return set_device(device); }
vt_status vt_cuda_synchronize(int device) { return synchronize_device(device); }
vt_status vt_cuda_use_device(int device) { return use_device(device); }

vt_status vt_cuda_memory_info(int device, size_t *free_bytes, size_t *total_bytes) {
  return memory_info(device, free_bytes, total_bytes);
}

vt_status vt_cuda_can_access_peer(int device, int peer, int *can) {
  return can_access_peer(device, peer, can);
}

vt_status vt_cuda_enable_peer_access(int device, int peer, int *enabled) {
  const vt_status status = enable_peer_access(device, peer, enabled);
  if (status == VT_OK && *enabled) allow_peer(peer, device);
  return status;
}

int64_t vt_cuda_property(int device, const char *name) {
  const Properties &p = device_properties[device];
#define VT_PROPERTY(field) \
  if (!strcmp(name, #field)) return static_cast<int64_t>(p.field)
  VT_PROPERTY(sm_count);
  VT_PROPERTY(max_threads_per_sm);
  VT_PROPERTY(max_threads_per_block);
  VT_PROPERTY(max_shared_per_block);
  VT_PROPERTY(max_shared_per_block_optin);
  VT_PROPERTY(max_shared_per_sm);
  VT_PROPERTY(regs_per_sm);
  VT_PROPERTY(warp_size);
  VT_PROPERTY(l2_bytes);
  VT_PROPERTY(major);
  VT_PROPERTY(minor);
  VT_PROPERTY(clock_khz);
  VT_PROPERTY(memory_clock_khz);
  VT_PROPERTY(memory_bus_bits);
  VT_PROPERTY(integrated);
  VT_PROPERTY(multi_gpu_board);
  VT_PROPERTY(pci_bus);
  VT_PROPERTY(pci_device);
  VT_PROPERTY(pci_domain);
  VT_PROPERTY(total_memory);
#undef VT_PROPERTY
  return -1;
}

const char *vt_cuda_device_name(int device) { return device_properties[device].name; }
const unsigned char *vt_cuda_device_uuid(int device) { return device_properties[device].uuid; }

/* --- streams --- */

void *vt_cuda_current_stream(int device) { return current_stream(device); }

void *vt_cuda_exchange_stream(int device, void *stream) {
  return exchange_stream(device, stream_of(stream));
}

vt_status vt_cuda_pool_stream(int device, int priority, void **stream) {
  CUstream found = nullptr;
  const vt_status status = pool_stream(device, priority, &found);
  *stream = found;
  return status;
}

vt_status vt_cuda_greatest_priority(int device, int *priority) {
  return greatest_priority(device, priority);
}

vt_status vt_cuda_stream_priority(int device, void *stream, int *priority) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  VT_CUDA_CHECK(cuStreamGetPriority, stream_of(stream), priority);
  return VT_OK;
}

vt_status vt_cuda_stream_done(int device, void *stream, int *done) {
  return stream_done(device, stream_of(stream), done);
}

vt_status vt_cuda_stream_synchronize(int device, void *stream) {
  return synchronize_stream(device, stream_of(stream));
}

vt_status vt_cuda_order_streams(int consumer_device, void *consumer, int producer_device,
                                void *producer) {
  return order_streams(consumer_device, stream_of(consumer), producer_device, stream_of(producer));
}

int vt_cuda_stream_capturing(int device, void *stream) {
  /* A device that was not used captures nothing, and asking should not start it. */
  if (device >= device_count() || !device_contexts[device].load()) return 0;
  ContextGuard guard(device);
  return guard.status() == VT_OK && stream_capturing(stream_of(stream));
}

/* --- events --- */

vt_status vt_cuda_event_create(int device, int timing, int blocking, int interprocess,
                               void **event) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  RelaxedCapture relaxed;
  unsigned flags = CU_EVENT_DEFAULT;
  if (!timing) flags |= CU_EVENT_DISABLE_TIMING;
  if (blocking) flags |= CU_EVENT_BLOCKING_SYNC;
  if (interprocess) flags |= CU_EVENT_INTERPROCESS;
  CUevent created = nullptr;
  VT_CUDA_CHECK(cuEventCreate, &created, flags);
  *event = created;
  return VT_OK;
}

void vt_cuda_event_destroy(int device, void *event) {
  if (!is_initialised()) return; /* its driver was exchanged */
  ContextGuard guard(device);
  if (guard.status() == VT_OK) driver.cuEventDestroy(event_of(event));
}

vt_status vt_cuda_event_record(void *event, int device, void *stream, int external) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  VT_CUDA_CHECK(cuEventRecordWithFlags, event_of(event), stream_of(stream),
                external && stream_capturing(stream_of(stream)) ? CU_EVENT_RECORD_EXTERNAL
                                                                : CU_EVENT_RECORD_DEFAULT);
  return VT_OK;
}

vt_status vt_cuda_event_wait(void *event, int device, void *stream, int external) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  VT_CUDA_CHECK(cuStreamWaitEvent, stream_of(stream), event_of(event),
                external && stream_capturing(stream_of(stream)) ? CU_EVENT_WAIT_EXTERNAL
                                                                : CU_EVENT_WAIT_DEFAULT);
  return VT_OK;
}

vt_status vt_cuda_event_done(int device, void *event, int *done) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  const CUresult result = driver.cuEventQuery(event_of(event));
  *done = result == CUDA_SUCCESS;
  return result == CUDA_ERROR_NOT_READY ? VT_OK : driver_error(result, "cuEventQuery");
}

vt_status vt_cuda_event_synchronize(int device, void *event) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  if (vt_status status = may_wait(current_stream(device), "Event.synchronize()")) return status;
  return synchronize_event(device, event_of(event));
}

vt_status vt_cuda_event_elapsed(int device, void *start, void *end, float *milliseconds) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  VT_CUDA_CHECK(cuEventElapsedTime, milliseconds, event_of(start), event_of(end));
  return VT_OK;
}

vt_status vt_cuda_event_ipc_handle(int device, void *event, char *handle) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  CUipcEventHandle made;
  VT_CUDA_CHECK(cuIpcGetEventHandle, &made, event_of(event));
  memcpy(handle, &made, sizeof made);
  return VT_OK;
}

vt_status vt_cuda_event_open(int device, const char *handle, void **event) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  CUipcEventHandle given;
  CUevent opened = nullptr;
  memcpy(&given, handle, sizeof given);
  VT_CUDA_CHECK(cuIpcOpenEventHandle, &opened, given);
  *event = opened;
  return VT_OK;
}

/* --- counters --- */

vt_cuda_counters vt_cuda_get_counters(void) {
  return {counters.launches.load(), counters.host_syncs.load(), counters.graph_launches.load()};
}

/* --- tests and benchmarks --- */

static Kernel delay("delay", "vt_delay");

vt_status vt_cuda_sleep(int64_t cycles) {
  vt_context ctx = {};
  ctx.op = -1;
  vt_status status = enter(current_device(), &ctx);
  if (status == VT_OK) status = launch(&ctx, delay, {1}, {1}, 0, cycles);
  leave(&ctx);
  return status;
}

vt_status vt_cuda_bare_launches(int n) {
  vt_context ctx = {};
  vt_status status = enter(current_device(), &ctx);
  if (status != VT_OK) return status;
  int64_t cycles = 0;
  void *arguments[] = {&cycles};
  CUfunction f = static_cast<CUfunction>(delay.function(&ctx));
  CUresult result = f ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
  for (int i = 0; i < n && result == CUDA_SUCCESS; i++)
    result = driver.cuLaunchKernel(f, 1, 1, 1, 1, 1, 1, 0, static_cast<CUstream>(ctx.stream),
                                   arguments, nullptr);
  leave(&ctx);
  return driver_error(result, "cuLaunchKernel");
}
