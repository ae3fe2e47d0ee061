/* Everything that makes the host wait for a device: counted, refused while a graph is captured, and
 * the place where errors that kernels found are reported. */
#include <string.h>

#include "vt/index_error.h"
#include "core/state.h"
#include "vibetensor/cuda/internal.h"

namespace vt_cuda {

namespace {

/* In page-locked host memory, so that looking at it after a synchronisation costs no copy. */
struct ErrorRecord {
  vt_index_error *host;
  vt_index_error *on_device;
} records[kMaxDevices];

thread_local KernelError reported;

vt_status checked(int device) { return take_kernel_error(device, &reported); }

}  // namespace

vt_status make_error_record(int device) {
  if (records[device].host) return VT_OK;
  void *host = nullptr;
  CUdeviceptr address = 0;
  VT_CUDA_CHECK(cuMemHostAlloc, &host, sizeof(vt_index_error),
                CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
  memset(host, 0, sizeof(vt_index_error));
  VT_CUDA_CHECK(cuMemHostGetDevicePointer, &address, host, 0);
  records[device] = {static_cast<vt_index_error *>(host),
                     reinterpret_cast<vt_index_error *>(address)};
  return VT_OK;
}

void forget_error_record(int device) { records[device] = {}; }

vt_index_error *index_error_slot(vt_context *ctx) { return records[ctx->device_index].on_device; }

vt_status take_kernel_error(int device, KernelError *error) {
  vt_index_error *record = records[device].host;
  if (__builtin_expect(!record || *static_cast<volatile int32_t *>(&record->raised) == 0, 1))
    return VT_OK;
  error->op = record->op;
  error->detail[0] = record->index;
  error->detail[1] = record->dim;
  error->detail[2] = record->size;
  error->message = vt_raised_message(record->raised);
  memset(record, 0, sizeof *record);
  if (error->message)
    return set_error(VT_ERROR_VALUE, "%s(): %s", vt_op_name(error->op), error->message);
  return set_error(
      VT_ERROR_INDEX, "%s(): index %lld is out of bounds for dimension %lld with size %lld",
      vt_op_name(error->op), static_cast<long long>(error->detail[0]),
      static_cast<long long>(error->detail[1]), static_cast<long long>(error->detail[2]));
}

const KernelError &last_kernel_error() { return reported; }

vt_status may_wait(CUstream stream, const char *what) {
  if (__builtin_expect(!stream_capturing(stream), 1)) return VT_OK;
  return set_error(VT_ERROR_VALUE,
                   "%s waits for the device, which cannot be captured into a CUDA graph", what);
}

vt_status synchronize_stream(int device, CUstream stream) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  if (vt_status status = may_wait(stream, "synchronizing the stream")) return status;
  count(counters.host_syncs);
  VT_CUDA_CHECK(cuStreamSynchronize, stream);
  return checked(device);
}

vt_status synchronize_device(int device) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  /* Any capture on the device would be broken, not that of the current stream alone; those of
   * others the driver reports. */
  if (vt_status status = may_wait(current_stream(device), "synchronize()")) return status;
  count(counters.host_syncs);
  VT_CUDA_CHECK(cuCtxSynchronize);
  return checked(device);
}

vt_status synchronize_event(int device, CUevent event) {
  count(counters.host_syncs);
  VT_CUDA_CHECK(cuEventSynchronize, event);
  return device < 0 ? VT_OK : checked(device);
}

vt_status wait(vt_context *ctx) {
  const vt_status status =
      synchronize_stream(ctx->device_index, static_cast<CUstream>(ctx->stream));
  if (status == VT_OK) return status;
  if (status == VT_ERROR_INDEX) {
    ctx->op = reported.op;
    memcpy(ctx->detail, reported.detail, sizeof ctx->detail);
  }
  ctx->message = last_error();
  return status;
}

vt_status read_back(vt_context *ctx, void *host, const void *device, size_t bytes) {
  const CUstream stream = static_cast<CUstream>(ctx->stream);
  if (vt_status status = may_wait(stream, "reading a value back to the host")) {
    ctx->message = last_error();
    return status;
  }
  const CUresult result =
      driver.cuMemcpyDtoHAsync(host, reinterpret_cast<CUdeviceptr>(device), bytes, stream);
  if (result != CUDA_SUCCESS) return driver_error(result, "cuMemcpyDtoHAsync", ctx);
  return wait(ctx);
}

}  // namespace vt_cuda
