#include "vibetensor/cuda/simulator_api.h"

#include "vibetensor/cuda/internal.h"
#include "vibetensor/cuda/simulator.h"

using namespace vt_cuda;

namespace {
/* Per thread, so that two readers do not share a copy. */
thread_local std::vector<SimulatorLogEntry> log_copy;
thread_local std::vector<std::string> violations_copy;
}  // namespace

void vt_simulator_install(int devices, size_t memory_bytes) {
  SimulatorOptions options;
  options.devices = devices;
  options.memory_bytes = memory_bytes;
  simulator_install(options);
}

void vt_simulator_set_completion(int completion, uint64_t seed) {
  simulator_set_completion(completion, seed);
}

void vt_simulator_finish_work(void) { simulator_finish_work(); }

int vt_simulator_fail(const char *function, uint64_t nth, int error, uint64_t times) {
  return simulator_fail(function, nth, error, times);
}

void vt_simulator_clear_failures(void) { simulator_clear_failures(); }
void vt_simulator_set_memory(int device, size_t bytes) { simulator_set_memory(device, bytes); }
void vt_simulator_set_strict(int strict) { simulator_set_strict(strict); }
void vt_simulator_record(int on) { simulator_record(on); }
void vt_simulator_clear(void) { simulator_clear(); }

void vt_simulator_snapshot(size_t *log_entries, size_t *violations) {
  log_copy = simulator_log();
  violations_copy = simulator_violations();
  *log_entries = log_copy.size();
  *violations = violations_copy.size();
}

const char *vt_simulator_violation(size_t i) { return violations_copy[i].c_str(); }

vt_simulator_entry vt_simulator_log_entry(size_t i) {
  const SimulatorLogEntry &e = log_copy[i];
  return {e.kind,
          e.name.c_str(),
          {e.grid[0], e.grid[1], e.grid[2]},
          {e.block[0], e.block[1], e.block[2]},
          e.shared_bytes,
          e.stream,
          e.bytes,
          e.captured,
          e.touched.size(),
          e.touched.data()};
}

vt_simulator_counters vt_simulator_get_counters(void) {
  const SimulatorCounters c = simulator_counters();
  return {c.launches,       c.copies,      c.memsets,    c.graph_launches, c.waits,
          c.implicit_waits, c.allocations, c.live_bytes, c.peak_bytes,     c.blocks};
}

uint64_t vt_simulator_calls(const char *function) { return simulator_calls(function); }

int vt_simulator_peek(void *host, uint64_t address, size_t bytes) {
  return simulator_peek(host, address, bytes);
}

int vt_simulator_poke(uint64_t address, const void *host, size_t bytes) {
  return simulator_poke(address, host, bytes);
}

int vt_simulator_launch(int device, void *stream, const char *name, const uint64_t *words,
                        size_t num_words, uint64_t reads, uint64_t writes) {
  static CUlibrary library = nullptr;
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return CUDA_ERROR_INVALID_CONTEXT;
  CUkernel kernel = nullptr;
  CUfunction function = nullptr;
  /* The library of an earlier installation is unknown to this one. */
  CUresult result = driver.cuLibraryGetKernel(&kernel, library, name);
  if (result == CUDA_ERROR_INVALID_HANDLE) {
    RelaxedCapture relaxed;
    result = driver.cuLibraryLoadData(&library, "none", nullptr, nullptr, 0, nullptr, nullptr, 0);
    if (result == CUDA_SUCCESS) result = driver.cuLibraryGetKernel(&kernel, library, name);
  }
  if (result != CUDA_SUCCESS) return result;
  {
    RelaxedCapture relaxed;
    if ((result = driver.cuKernelGetFunction(&function, kernel)) != CUDA_SUCCESS) return result;
  }
  size_t bytes = num_words * sizeof *words;
  ArgumentUse use = {reads, writes};
  void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER,
                   const_cast<uint64_t *>(words),
                   CU_LAUNCH_PARAM_BUFFER_SIZE,
                   &bytes,
                   CU_LAUNCH_PARAM_END,
                   const_cast<char *>(kUseFollows),
                   &use};
  return driver.cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, static_cast<CUstream>(stream),
                               nullptr, extra);
}
