/* The simulated driver: devices and contexts. */
#include <stdio.h>
#include <string.h>

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
thread_local Device *context = nullptr;

bool known(CUdevice d) { return d >= 0 && d < static_cast<int>(state().devices.size()); }

}  // namespace

Device *current_device() {
  /* A context of before the last installation is none. */
  for (auto &d : state().devices)
    if (d.get() == context) return context;
  return nullptr;
}

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

}  // namespace sim
}  // namespace vt_cuda
