/* Texts of failures, per thread. */
#include <stdarg.h>
#include <stdio.h>

#include "vibetensor/cuda/runtime.h"

namespace vt_cuda {

namespace {
/* Long enough for the allocator's account of an out-of-memory error. */
constexpr size_t kTextBytes = 2048;
thread_local char text[kTextBytes] = "";
}  // namespace

const char *last_error() { return text; }

vt_status set_error(vt_status status, const char *format, ...) {
  /* The arguments may point into the old text. */
  char next[kTextBytes];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(next, sizeof next, format, arguments);
  va_end(arguments);
  snprintf(text, sizeof text, "%s", next);
  return status;
}

static const char *advice(CUresult result) {
  switch (result) {
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_FAILED:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_ASSERT:
      return ". A kernel that ran earlier caused it, and the device cannot be used any more in "
             "this "
             "process; with CUDA_LAUNCH_BLOCKING=1 the call at fault is the one that fails";
    case CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED:
    case CUDA_ERROR_STREAM_CAPTURE_INVALIDATED:
    case CUDA_ERROR_STREAM_CAPTURE_IMPLICIT:
    case CUDA_ERROR_STREAM_CAPTURE_ISOLATION:
    case CUDA_ERROR_CAPTURED_EVENT:
      return ". It cannot be done while a stream is captured into a graph";
    case CUDA_ERROR_NO_BINARY_FOR_GPU:
      return ". The library was built without code for this GPU: build it with -Dgpu_arch";
    default:
      return "";
  }
}

vt_status driver_error(CUresult result, const char *call) {
  if (result == CUDA_SUCCESS) return VT_OK;
  const char *name = nullptr, *description = nullptr;
  if (driver.cuGetErrorName(result, &name) != CUDA_SUCCESS || !name) name = "unknown error";
  if (driver.cuGetErrorString(result, &description) != CUDA_SUCCESS || !description)
    description = "no description";
  return set_error(result == CUDA_ERROR_OUT_OF_MEMORY ? VT_ERROR_OUT_OF_MEMORY : VT_ERROR_VALUE,
                   "CUDA error: %s (%s in %s)%s", description, name, call, advice(result));
}

vt_status driver_error(CUresult result, const char *call, vt_context *ctx) {
  const vt_status status = driver_error(result, call);
  if (status != VT_OK) ctx->message = text;
  return status;
}

}  // namespace vt_cuda
