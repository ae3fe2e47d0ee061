// Where cuBLASLt comes from: the library that Python found, or one that is loaded already.

#include <dlfcn.h>
#include <stdio.h>

#include <atomic>
#include <mutex>

#include "vibetensor/cuda/blas.h"
#include "vibetensor/cuda/driver.h"

namespace vt_cuda {

CublasLt cublaslt;

namespace {

constexpr const char *kSoname = "libcublasLt.so.13";

std::mutex load_lock;
std::atomic<bool> loaded{false};
std::atomic<vt_cuda_path_finder> path_finder{nullptr};

bool fill_from(void *library, const char **missing) {
#define VT_SYMBOL(result, name, arguments)                                          \
  cublaslt.name = reinterpret_cast<decltype(cublaslt.name)>(dlsym(library, #name)); \
  if (!cublaslt.name) {                                                             \
    *missing = #name;                                                               \
    return false;                                                                   \
  }
  VT_CUBLASLT_FUNCTIONS(VT_SYMBOL)
#undef VT_SYMBOL
  return true;
}

// The path that Python found comes first, then what the dynamic linker finds by name.
void *open_library(const char *path) {
  // A copy that is there already, PyTorch's for example, saves reading another half gigabyte.
  void *library = dlopen(kSoname, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  if (!library && path[0]) library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) library = dlopen(kSoname, RTLD_NOW | RTLD_LOCAL);
  return library;
}

}  // namespace

const char *load_cublaslt() {
  if (__builtin_expect(loaded.load(std::memory_order_acquire), 1)) return nullptr;
  static char why[640];
  char path[4096] = "";
  // The finder takes the GIL, and other threads that hold it may wait for our lock.
  const vt_cuda_path_finder finder = path_finder.load();
  if (!simulated() && finder && !finder(path, sizeof(path))) path[0] = 0;

  std::lock_guard<std::mutex> guard(load_lock);
  if (loaded.load(std::memory_order_relaxed)) return nullptr;
  if (simulated()) {
    fill_simulated_cublaslt(&cublaslt);
  } else {
    void *library = open_library(path);
    const char *missing = nullptr;
    if (!library) {
      const char *error = dlerror();
      snprintf(why, sizeof(why),
               "matrix products on CUDA need cuBLAS 13 (pip install 'nvidia-cublas>=13,<14'): %s",
               error ? error : "not found");
      return why;
    }
    if (!fill_from(library, &missing)) {
      snprintf(why, sizeof(why), "the cuBLASLt found has no function %s", missing);
      return why;
    }
  }
  loaded.store(true, std::memory_order_release);
  return nullptr;
}

void forget_cublaslt() {
  std::lock_guard<std::mutex> guard(load_lock);
  loaded.store(false, std::memory_order_release);
}

}  // namespace vt_cuda

void vt_cuda_set_blas_finder(vt_cuda_path_finder finder) { vt_cuda::path_finder.store(finder); }

size_t vt_cuda_blas_version(const char **why) {
  *why = vt_cuda::load_cublaslt();
  return *why ? 0 : vt_cuda::cublaslt.cublasLtGetVersion();
}
