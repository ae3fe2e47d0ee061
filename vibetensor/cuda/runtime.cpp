/* Start of the driver, devices, and the thread's current device and context. */
#include "vibetensor/cuda/runtime.h"

#include <pthread.h>
#include <string.h>

#include <mutex>

#include "vibetensor/cuda/internal.h"

namespace vt_cuda {

__thread ThreadState thread_state;
std::atomic<CUcontext> device_contexts[kMaxDevices];
Properties device_properties[kMaxDevices];
Counters counters;

namespace {

std::mutex start_mutex;
std::atomic<int> num_devices{-1}; /* -1: not initialised */
std::atomic<bool> forked{false};

void in_forked_child() {
  if (num_devices.load() >= 0) forked = true;
}

vt_status after_fork() {
  return set_error(VT_ERROR_VALUE,
                   "Cannot re-initialize CUDA in forked subprocess. To use CUDA with "
                   "multiprocessing, you must use the 'spawn' start method");
}

int attribute(CUdevice device, CUdevice_attribute which) {
  int value = 0;
  /* One that an older driver does not know stays 0. */
  if (driver.cuDeviceGetAttribute(&value, which, device) != CUDA_SUCCESS) value = 0;
  return value;
}

vt_status read_properties(CUdevice device, Properties *p) {
  memset(p, 0, sizeof *p);
  const struct {
    int *field;
    CUdevice_attribute which;
  } table[] = {
      {&p->sm_count, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT},
      {&p->max_threads_per_sm, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR},
      {&p->max_threads_per_block, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK},
      {&p->max_blocks_per_sm, CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR},
      {&p->max_shared_per_block, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK},
      {&p->max_shared_per_block_optin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN},
      {&p->max_shared_per_sm, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR},
      {&p->regs_per_sm, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR},
      {&p->warp_size, CU_DEVICE_ATTRIBUTE_WARP_SIZE},
      {&p->l2_bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE},
      {&p->max_persisting_l2_bytes, CU_DEVICE_ATTRIBUTE_MAX_PERSISTING_L2_CACHE_SIZE},
      {&p->major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR},
      {&p->minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR},
      {&p->clock_khz, CU_DEVICE_ATTRIBUTE_CLOCK_RATE},
      {&p->memory_clock_khz, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE},
      {&p->memory_bus_bits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH},
      {&p->integrated, CU_DEVICE_ATTRIBUTE_INTEGRATED},
      {&p->multi_gpu_board, CU_DEVICE_ATTRIBUTE_MULTI_GPU_BOARD},
      {&p->can_map_host, CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY},
      {&p->concurrent_managed, CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS},
      {&p->virtual_memory, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED},
      {&p->pci_bus, CU_DEVICE_ATTRIBUTE_PCI_BUS_ID},
      {&p->pci_device, CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID},
      {&p->pci_domain, CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID},
  };
  for (const auto &entry : table) *entry.field = attribute(device, entry.which);
  CUuuid uuid;
  VT_CUDA_CHECK(cuDeviceGetName, p->name, sizeof p->name, device);
  VT_CUDA_CHECK(cuDeviceTotalMem, &p->total_memory, device);
  VT_CUDA_CHECK(cuDeviceGetUuid, &uuid, device);
  memcpy(p->uuid, uuid.bytes, sizeof p->uuid);
  return VT_OK;
}

}  // namespace

bool is_initialised() { return num_devices.load(std::memory_order_acquire) >= 0; }

int device_count() {
  const int n = num_devices.load(std::memory_order_acquire);
  return n < 0 ? 0 : n;
}

vt_status initialise() {
  if (forked) return after_fork();
  if (is_initialised()) return VT_OK;
  std::lock_guard<std::mutex> lock(start_mutex);
  if (is_initialised()) return VT_OK;
  if (!driver.cuInit) return set_error(VT_ERROR_VALUE, "the CUDA driver has not been loaded");
  static const int registered = pthread_atfork(nullptr, nullptr, in_forked_child);
  (void)registered;
  VT_CUDA_CHECK(cuInit, 0);
  int n = 0;
  VT_CUDA_CHECK(cuDeviceGetCount, &n);
  num_devices.store(n < kMaxDevices ? n : kMaxDevices, std::memory_order_release);
  return VT_OK;
}

vt_status use_device(int device) {
  if (forked) return after_fork();
  if (device < 0 || device >= device_count())
    return set_error(VT_ERROR_VALUE,
                     "CUDA error: invalid device ordinal (device %d was asked for, there are %d)",
                     device, device_count());
  if (device_contexts[device].load(std::memory_order_acquire)) return VT_OK;
  std::lock_guard<std::mutex> lock(start_mutex);
  if (device_contexts[device].load(std::memory_order_acquire)) return VT_OK;
  CUdevice handle;
  CUcontext context, before = nullptr;
  VT_CUDA_CHECK(cuDeviceGet, &handle, device);
  if (vt_status status = read_properties(handle, &device_properties[device])) return status;
  RelaxedCapture relaxed;
  VT_CUDA_CHECK(cuDevicePrimaryCtxRetain, &context, handle);
  driver.cuCtxGetCurrent(&before);
  VT_CUDA_CHECK(cuCtxSetCurrent, context);
  const vt_status status = make_error_record(device);
  /* A thread that had no context keeps this one: the next look at it finds it. */
  if (before) driver.cuCtxSetCurrent(before);
  if (status == VT_OK) device_contexts[device].store(context, std::memory_order_release);
  return status;
}

vt_status set_device(int device) {
  if (vt_status status = use_device(device)) return status;
  thread_state.device = device;
  /* Another library in the process, torch for one, asks the driver which device is current. */
  VT_CUDA_CHECK(cuCtxSetCurrent, device_contexts[device].load(std::memory_order_relaxed));
  return VT_OK;
}

vt_status enter_slow(int device, vt_context *ctx, CUcontext current) {
  vt_status status = use_device(device);
  if (status == VT_OK) {
    const CUcontext wanted = device_contexts[device].load(std::memory_order_acquire);
    if (!current) driver.cuCtxGetCurrent(&current);
    if (current == wanted) return VT_OK;
    status = driver_error(driver.cuCtxSetCurrent(wanted), "cuCtxSetCurrent");
    /* A thread that had none keeps this one. */
    if (status == VT_OK && current && !thread_state.restore) thread_state.restore = current;
  }
  if (status != VT_OK) ctx->message = last_error();
  return status;
}

void leave_slow() {
  driver.cuCtxSetCurrent(thread_state.restore);
  thread_state.restore = nullptr;
}

ContextGuard::ContextGuard(int device) {
  if ((status_ = use_device(device)) != VT_OK) return;
  const CUcontext wanted = device_contexts[device].load(std::memory_order_acquire);
  driver.cuCtxGetCurrent(&before_);
  if (before_ == wanted) return;
  status_ = driver_error(driver.cuCtxSetCurrent(wanted), "cuCtxSetCurrent");
  changed_ = status_ == VT_OK && before_ != nullptr;
}

ContextGuard::~ContextGuard() {
  if (changed_) driver.cuCtxSetCurrent(before_);
}

vt_status memory_info(int device, size_t *free_bytes, size_t *total_bytes) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  VT_CUDA_CHECK(cuMemGetInfo, free_bytes, total_bytes);
  return VT_OK;
}

vt_status can_access_peer(int device, int peer, int *can) {
  *can = 0;
  for (int d : {device, peer})
    if (d < 0 || d >= device_count())
      return set_error(VT_ERROR_VALUE, "Invalid device id: %d (there are %d)", d, device_count());
  if (device == peer) return VT_OK;
  CUdevice from, to;
  VT_CUDA_CHECK(cuDeviceGet, &from, device);
  VT_CUDA_CHECK(cuDeviceGet, &to, peer);
  VT_CUDA_CHECK(cuDeviceCanAccessPeer, can, from, to);
  return VT_OK;
}

namespace {
/* 0: not asked, 1: enabled, 2: the hardware cannot. */
std::atomic<char> peer_state[kMaxDevices][kMaxDevices];
}  // namespace

vt_status enable_peer_access(int device, int peer, int *enabled) {
  *enabled = 1;
  if (device == peer) return VT_OK;
  if (vt_status status = use_device(peer)) return status;
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  std::atomic<char> &state = peer_state[device][peer];
  if (state.load(std::memory_order_acquire) == 0) {
    int can = 0;
    if (vt_status status = can_access_peer(device, peer, &can)) return status;
    if (can) {
      RelaxedCapture relaxed;
      const CUresult result = driver.cuCtxEnablePeerAccess(device_contexts[peer].load(), 0);
      if (result != CUDA_SUCCESS && result != CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED)
        return driver_error(result, "cuCtxEnablePeerAccess");
    }
    state.store(can ? 1 : 2, std::memory_order_release);
  }
  *enabled = state.load(std::memory_order_acquire) == 1;
  return VT_OK;
}

void forget_everything() {
  std::lock_guard<std::mutex> lock(start_mutex);
  forget_streams();
  forget_code();
  forget_blas();
  for (int d = 0; d < kMaxDevices; ++d) {
    device_contexts[d] = nullptr;
    forget_error_record(d);
    for (auto &state : peer_state[d]) state = 0;
  }
  thread_state = ThreadState{};
  counters.launches = counters.host_syncs = counters.graph_launches = 0;
  num_devices = -1;
}

}  // namespace vt_cuda
