/* The simulated driver: code, launches and what they touch. */
#include <string.h>

#include "vibetensor/cuda/internal.h"
#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *, void **, unsigned,
                           CUlibraryOption *, void **, unsigned) {
  VT_SIMULATE_UNSAFE(cuLibraryLoadData);
  if (!code) return CUDA_ERROR_INVALID_VALUE;
  Library *l = new Library;
  state().libraries.insert(l);
  *library = reinterpret_cast<CUlibrary>(l);
  return CUDA_SUCCESS;
}

CUresult cuLibraryUnload(CUlibrary library) {
  VT_SIMULATE_UNSAFE(cuLibraryUnload);
  Library *l = reinterpret_cast<Library *>(library);
  if (!state().libraries.erase(l)) return CUDA_ERROR_INVALID_HANDLE;
  for (auto &f : l->functions) state().functions.erase(f.second);
  return CUDA_SUCCESS;
}

/* The names in a compressed fatbin cannot be read here: every kernel is there. */
CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name) {
  VT_SIMULATE(cuLibraryGetKernel);
  Library *l = reinterpret_cast<Library *>(library);
  if (!state().libraries.count(l)) return CUDA_ERROR_INVALID_HANDLE;
  Function *&f = l->functions[name];
  if (!f) {
    f = new Function{name};
    state().functions.insert(f);
  }
  *kernel = reinterpret_cast<CUkernel>(f);
  return CUDA_SUCCESS;
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) {
  VT_SIMULATE_UNSAFE(cuKernelGetFunction);
  if (!current_device()) return CUDA_ERROR_INVALID_CONTEXT;
  *function = reinterpret_cast<CUfunction>(kernel);
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function) {
  VT_SIMULATE(cuFuncGetAttribute);
  Function *f = reinterpret_cast<Function *>(function);
  if (!state().functions.count(f)) return CUDA_ERROR_INVALID_HANDLE;
  *value = which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES ? f->shared_limit
           : which == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK       ? 1024
           : which == CU_FUNC_ATTRIBUTE_NUM_REGS                    ? 32
                                                                    : 0;
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value) {
  VT_SIMULATE(cuFuncSetAttribute);
  Function *f = reinterpret_cast<Function *>(function);
  if (!state().functions.count(f)) return CUDA_ERROR_INVALID_HANDLE;
  if (which == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) {
    if (value > 227 * 1024) return CUDA_ERROR_INVALID_VALUE;
    f->shared_limit = value;
  }
  return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction, int threads,
                                                     size_t shared) {
  VT_SIMULATE(cuOccupancyMaxActiveBlocksPerMultiprocessor);
  if (threads <= 0 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
  int by_threads = 2048 / threads;
  const int by_shared = shared ? static_cast<int>(228 * 1024 / (shared + 1024)) : 32;
  if (by_threads > 32) by_threads = 32;
  *blocks = by_threads < by_shared ? by_threads : by_shared;
  return CUDA_SUCCESS;
}

/* Every word of the packed arguments that is an address of ours. */
static void find_touches(void **extra, Work *work) {
  const char *buffer = nullptr;
  size_t bytes = 0;
  const ArgumentUse *use = nullptr;
  for (; extra && *extra != CU_LAUNCH_PARAM_END; extra += 2) {
    if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = static_cast<const char *>(extra[1]);
    if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t *>(extra[1]);
  }
  if (!buffer) return;
  if (extra[1] == kUseFollows) use = static_cast<const ArgumentUse *>(extra[2]);
  work->bytes = bytes;
  State &st = state();
  for (size_t i = 0; i < bytes / 8; ++i) {
    uintptr_t word;
    memcpy(&word, buffer + 8 * i, 8);
    if (word < 0x10000) continue;
    if (find_segment(word) == st.segments.end()) {
      auto gone = st.freed.upper_bound(word);
      if (gone == st.freed.begin() || word >= (--gone)->second) continue;
    }
    const uint64_t bit = i < 64 ? uint64_t(1) << i : 0;
    const Kind kind = use && (use->writes & bit)  ? kWrite
                      : use && (use->reads & bit) ? kRead
                                                  : kUnknown;
    work->touches.push_back({word, 0, kind});
  }
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                        unsigned by, unsigned bz, unsigned shared, CUstream handle, void **,
                        void **extra) {
  VT_SIMULATE(cuLaunchKernel);
  Stream *s = find_stream(handle);
  Function *f = reinterpret_cast<Function *>(function);
  Device *d = current_device();
  if (!s || !state().functions.count(f) || !d) return CUDA_ERROR_INVALID_HANDLE;
  /* A stream of another device than the current one. */
  if (s->device != d->index) return CUDA_ERROR_INVALID_HANDLE;
  const uint64_t threads = uint64_t(bx) * by * bz;
  if (!gx || !gy || !gz || !threads || threads > 1024 || bz > 64 || gx > 0x7fffffffu ||
      gy > 65535 || gz > 65535 || shared > static_cast<unsigned>(f->shared_limit)) {
    violation("launch: %s with grid (%u, %u, %u), block (%u, %u, %u), %u bytes of shared memory",
              f->name.c_str(), gx, gy, gz, bx, by, bz, shared);
    return CUDA_ERROR_INVALID_VALUE;
  }
  Work work;
  work.kind = "launch";
  work.name = f->name;
  const unsigned grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
  memcpy(work.grid, grid, sizeof grid);
  memcpy(work.block, block, sizeof block);
  work.shared_bytes = shared;
  find_touches(extra, &work);
  return enqueue(lock, *s, std::move(work));
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra) {
  return sim::cuLaunchKernel(f, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY,
                             c->blockDimZ, c->sharedMemBytes, c->hStream, params, extra);
}

/* The address comes first, as in the real thing; the order check finds it there. */
CUresult cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType, cuuint32_t rank, void *data,
                                const cuuint64_t *sizes, const cuuint64_t *strides,
                                const cuuint32_t *box, const cuuint32_t *, CUtensorMapInterleave,
                                CUtensorMapSwizzle, CUtensorMapL2promotion,
                                CUtensorMapFloatOOBfill) {
  VT_SIMULATE(cuTensorMapEncodeTiled);
  if (rank < 1 || rank > 5 || reinterpret_cast<uintptr_t>(data) % 16)
    return CUDA_ERROR_INVALID_VALUE;
  for (cuuint32_t i = 0; i < rank; ++i) {
    const bool good = sizes[i] > 0 && box[i] > 0 && box[i] <= 256 &&
                      (i + 1 == rank || (strides[i] % 16 == 0 && strides[i] < uint64_t(1) << 40));
    if (!good) return CUDA_ERROR_INVALID_VALUE;
  }
  memset(map, 0, sizeof *map);
  memcpy(map, &data, sizeof data);
  return CUDA_SUCCESS;
}

void library_call(const char *name, CUstream handle, const void *const *reads, int num_reads,
                  void *const *writes, int num_writes) {
  Lock lock(state().mutex);
  Stream *s = find_stream(handle);
  if (!s) return;
  Work work;
  work.kind = "launch";
  work.name = name;
  for (int i = 0; i < num_reads; ++i)
    if (reads[i]) work.touches.push_back({reinterpret_cast<uintptr_t>(reads[i]), 0, kRead});
  for (int i = 0; i < num_writes; ++i)
    if (writes[i]) work.touches.push_back({reinterpret_cast<uintptr_t>(writes[i]), 0, kWrite});
  enqueue(lock, *s, std::move(work));
}

}  // namespace sim
}  // namespace vt_cuda
