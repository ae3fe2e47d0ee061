/* The driver table: every call into CUDA's driver goes through `driver`, whose pointers come from
 * cuda.bindings.cydriver (_driver.pyx) or from the simulated driver (simulator.cpp).
 *
 * cuda.h renames some functions by macro (cuMemAlloc is cuMemAlloc_v2). The same macro renames the
 * field here and at every use, so code writes `driver.cuMemAlloc(...)` and gets the version that the
 * headers mean; `driver_names` has the plain names, by which cydriver lists its functions. */
#ifndef VT_CUDA_DRIVER_H
#define VT_CUDA_DRIVER_H

#include <cuda.h>
#include <stddef.h>
#include <stdint.h>

/* The one list of driver functions. A new one is added here and gets a body in the simulator. */
#define VT_CUDA_DRIVER_FUNCTIONS(X)              \
  /* devices */                                  \
  X(cuInit)                                      \
  X(cuDriverGetVersion)                          \
  X(cuDeviceGetCount)                            \
  X(cuDeviceGet)                                 \
  X(cuDeviceGetName)                             \
  X(cuDeviceGetUuid)                             \
  X(cuDeviceGetAttribute)                        \
  X(cuDeviceTotalMem)                            \
  X(cuDeviceCanAccessPeer)                       \
  X(cuDevicePrimaryCtxRetain)                    \
  X(cuDevicePrimaryCtxRelease)                   \
  X(cuDevicePrimaryCtxGetState)                  \
  /* contexts */                                 \
  X(cuCtxGetCurrent)                             \
  X(cuCtxSetCurrent)                             \
  X(cuCtxGetDevice)                              \
  X(cuCtxSynchronize)                            \
  X(cuCtxGetStreamPriorityRange)                 \
  X(cuCtxEnablePeerAccess)                       \
  /* memory */                                   \
  X(cuMemGetInfo)                                \
  X(cuMemAlloc)                                  \
  X(cuMemFree)                                   \
  X(cuMemHostAlloc)                              \
  X(cuMemFreeHost)                               \
  X(cuMemHostGetDevicePointer)                   \
  X(cuMemHostRegister)                           \
  X(cuMemHostUnregister)                         \
  X(cuPointerGetAttribute)                       \
  X(cuMemcpyAsync)                               \
  X(cuMemcpyHtoDAsync)                           \
  X(cuMemcpyDtoHAsync)                           \
  X(cuMemcpyDtoDAsync)                           \
  X(cuMemcpyPeerAsync)                           \
  X(cuMemsetD8Async)                             \
  X(cuMemsetD16Async)                            \
  X(cuMemsetD32Async)                            \
  /* virtual memory */                           \
  X(cuMemGetAllocationGranularity)               \
  X(cuMemAddressReserve)                         \
  X(cuMemAddressFree)                            \
  X(cuMemCreate)                                 \
  X(cuMemRelease)                                \
  X(cuMemMap)                                    \
  X(cuMemUnmap)                                  \
  X(cuMemSetAccess)                              \
  /* streams */                                  \
  X(cuStreamCreateWithPriority)                  \
  X(cuStreamDestroy)                             \
  X(cuStreamSynchronize)                         \
  X(cuStreamQuery)                               \
  X(cuStreamWaitEvent)                           \
  X(cuStreamGetPriority)                         \
  X(cuStreamGetFlags)                            \
  X(cuLaunchHostFunc)                            \
  /* events */                                   \
  X(cuEventCreate)                               \
  X(cuEventDestroy)                              \
  X(cuEventRecord)                               \
  X(cuEventRecordWithFlags)                      \
  X(cuEventQuery)                                \
  X(cuEventSynchronize)                          \
  X(cuEventElapsedTime)                          \
  X(cuIpcGetEventHandle)                         \
  X(cuIpcOpenEventHandle)                        \
  /* code and launches */                        \
  X(cuLibraryLoadData)                           \
  X(cuLibraryUnload)                             \
  X(cuLibraryGetKernel)                          \
  X(cuKernelGetFunction)                         \
  X(cuFuncGetAttribute)                          \
  X(cuFuncSetAttribute)                          \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor) \
  X(cuLaunchKernel)                              \
  X(cuLaunchKernelEx)                            \
  X(cuTensorMapEncodeTiled)                      \
  /* capture and graphs */                       \
  X(cuThreadExchangeStreamCaptureMode)           \
  X(cuStreamBeginCapture)                        \
  X(cuStreamEndCapture)                          \
  X(cuStreamIsCapturing)                         \
  X(cuStreamGetCaptureInfo)                      \
  X(cuGraphDestroy)                              \
  X(cuGraphGetNodes)                             \
  X(cuGraphDebugDotPrint)                        \
  X(cuGraphInstantiate)                          \
  X(cuGraphExecDestroy)                          \
  X(cuGraphUpload)                               \
  X(cuGraphLaunch)                               \
  /* errors */                                   \
  X(cuGetErrorName)                              \
  X(cuGetErrorString)

namespace vt_cuda {

struct Driver {
#define VT_FIELD(name) decltype(&::name) name;
  VT_CUDA_DRIVER_FUNCTIONS(VT_FIELD)
#undef VT_FIELD

  /* --- Not CUDA's: set by the simulator alone, NULL with a real driver ---
   * The caching allocator says which part of a segment it hands out and takes back, so that order
   * and lifetime are checked per block. `stream` is the one that the block belongs to. */
  void (*block_allocated)(const void *data, size_t bytes, CUstream stream);
  void (*block_released)(const void *data);
  /* For calls of libraries that launch by themselves (cuBLASLt, CUB): one launch of `name` on
   * `stream`, which reads and writes these buffers. */
  void (*library_call)(const char *name, CUstream stream, const void *const *reads, int num_reads,
                       void *const *writes, int num_writes);
};

extern Driver driver;

enum {
#define VT_COUNT(name) +1
  kNumDriverFunctions = 0 VT_CUDA_DRIVER_FUNCTIONS(VT_COUNT)
#undef VT_COUNT
};
/* The plain names, in the order of the table. */
extern const char *const driver_names[kNumDriverFunctions];
/* The table as an array of pointers, for those who fill it. */
inline void **driver_slots() { return reinterpret_cast<void **>(&driver); }

/* Whether the simulated driver fills the table. */
inline bool simulated() { return driver.block_allocated != nullptr; }

}  // namespace vt_cuda
#endif
