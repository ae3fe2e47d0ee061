/* Loading of device code, launches, and the small services of launch.h. */
#include "vibetensor/cuda/launch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <mutex>
#include <string>

#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/internal.h"

namespace vt_cuda {

namespace {

constexpr unsigned kSharedWithoutAsking = 48 * 1024;

/* The fatbin of a family, loaded into no context yet. */
struct Library {
  std::string family;
  CUlibrary handle;
  Library *next;
};

std::mutex load_mutex;
std::string *fatbin_folder = nullptr;
Library *libraries = nullptr;

bool read_file(const std::string &path, std::string *content) {
  FILE *file = fopen(path.c_str(), "rb");
  if (!file) return false;
  char buffer[65536];
  for (size_t n; (n = fread(buffer, 1, sizeof buffer, file)) > 0;) content->append(buffer, n);
  const bool good = !ferror(file);
  fclose(file);
  return good;
}

/* Under load_mutex. */
vt_status library_of(const char *family, CUlibrary *found) {
  for (Library *l = libraries; l; l = l->next)
    if (l->family == family) {
      *found = l->handle;
      return VT_OK;
    }
  const std::string path =
      (fatbin_folder ? *fatbin_folder : std::string(".")) + "/" + family + ".fatbin";
  std::string image;
  if (!read_file(path, &image))
    return set_error(VT_ERROR_VALUE, "the CUDA kernels of '%s' cannot be read: %s: %s", family,
                     path.c_str(), strerror(errno));
  CUlibrary handle;
  /* The driver copies the image. */
  VT_CUDA_CHECK(cuLibraryLoadData, &handle, image.data(), nullptr, nullptr, 0, nullptr, nullptr, 0);
  libraries = new Library{family, handle, libraries};
  *found = handle;
  return VT_OK;
}

vt_status find_function(const char *family, const char *name, CUfunction *function) {
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  if (vt_status status = library_of(family, &library)) return status;
  const CUresult result = driver.cuLibraryGetKernel(&kernel, library, name);
  if (result == CUDA_ERROR_NOT_FOUND)
    return set_error(VT_ERROR_VALUE, "%s.fatbin has no kernel '%s'", family, name);
  if (result != CUDA_SUCCESS) return driver_error(result, "cuLibraryGetKernel");
  /* Brings the code into the current context now, and not at the first launch. */
  VT_CUDA_CHECK(cuKernelGetFunction, function, kernel);
  return VT_OK;
}

}  // namespace

/* Every kernel that holds a function, so that all can be made to forget. */
struct Loaded {
  static Kernel *first;
  static void add(Kernel *k) {
    for (Kernel *at = first; at; at = at->next_)
      if (at == k) return;
    k->next_ = first;
    first = k;
  }
  static void forget() {
    for (Kernel *k = first; k; k = k->next_) k->forget();
  }
};
Kernel *Loaded::first = nullptr;

void *Kernel::load(vt_context *ctx) {
  std::lock_guard<std::mutex> lock(load_mutex);
  std::atomic<void *> &slot = functions_[ctx->device_index];
  if (void *f = slot.load(std::memory_order_acquire)) return f;
  const std::string name = suffix_ ? std::string(name_) + "_" + suffix_ : std::string(name_);
  CUfunction function = nullptr;
  RelaxedCapture relaxed; /* a first use inside a capture loads code as any other */
  if (find_function(family_, name.c_str(), &function) != VT_OK) {
    ctx->message = last_error();
    return nullptr;
  }
  Loaded::add(this);
  slot.store(function, std::memory_order_release);
  return function;
}

void Kernel::forget() {
  for (auto &f : functions_) f = nullptr;
  for (auto &bytes : shared_) bytes = 0;
}

vt_status Kernel::allow_shared(vt_context *ctx, unsigned bytes) {
  std::atomic<unsigned> &allowed = shared_[ctx->device_index];
  if (bytes <= kSharedWithoutAsking || bytes <= allowed.load(std::memory_order_acquire))
    return VT_OK;
  void *f = function(ctx);
  if (!f) return VT_ERROR_VALUE;
  std::lock_guard<std::mutex> lock(load_mutex);
  if (bytes <= allowed.load(std::memory_order_acquire)) return VT_OK;
  RelaxedCapture relaxed;
  const CUresult result = driver.cuFuncSetAttribute(static_cast<CUfunction>(f),
                                                    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                                                    static_cast<int>(bytes));
  if (result != CUDA_SUCCESS) return driver_error(result, "cuFuncSetAttribute", ctx);
  allowed.store(bytes, std::memory_order_release);
  return VT_OK;
}

vt_status launch_packed(vt_context *ctx, Kernel &k, Dim grid, Dim block, unsigned shared_bytes,
                        const void *arguments, size_t bytes, const ArgumentUse *use) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return VT_OK;
  void *f = k.function(ctx);
  if (__builtin_expect(f == nullptr, 0)) return VT_ERROR_VALUE;
  if (__builtin_expect(shared_bytes > kSharedWithoutAsking, 0))
    if (vt_status status = k.allow_shared(ctx, shared_bytes)) return status;
  /* The driver stops at END; the simulated one looks behind it for what is known of the arguments. */
  void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER,
                   const_cast<void *>(arguments),
                   CU_LAUNCH_PARAM_BUFFER_SIZE,
                   &bytes,
                   CU_LAUNCH_PARAM_END,
                   const_cast<char *>(kUseFollows),
                   const_cast<ArgumentUse *>(use)};
  count(counters.launches);
  const CUresult result = driver.cuLaunchKernel(static_cast<CUfunction>(f), grid.x, grid.y, grid.z,
                                                block.x, block.y, block.z, shared_bytes,
                                                static_cast<CUstream>(ctx->stream), nullptr, extra);
  if (__builtin_expect(result == CUDA_SUCCESS, 1)) return VT_OK;
  return driver_error(result, "cuLaunchKernel", ctx);
}

const char kUseFollows[] = "vibetensor: use of the arguments";

Scratch::Scratch(vt_context *ctx, size_t bytes) {
  if (bytes == 0) return;
  Block *block = allocate(ctx->device_index, static_cast<CUstream>(ctx->stream), bytes);
  block_ = block;
  ok_ = block != nullptr;
  if (ok_) {
    data_ = block_data(block);
  } else {
    ctx->detail[0] = static_cast<int64_t>(bytes);
    set_error(VT_ERROR_OUT_OF_MEMORY, "%s", memory_error());
    ctx->message = last_error();
  }
}

Scratch::~Scratch() {
  if (block_) release(static_cast<Block *>(block_));
}

bool capturing(const vt_context *ctx) {
  return stream_capturing(static_cast<CUstream>(ctx->stream));
}

vt_status memset_async(vt_context *ctx, void *dst, int value, size_t bytes) {
  if (bytes == 0) return VT_OK;
  const CUresult result =
      driver.cuMemsetD8Async(reinterpret_cast<CUdeviceptr>(dst), static_cast<unsigned char>(value),
                             bytes, static_cast<CUstream>(ctx->stream));
  return result == CUDA_SUCCESS ? VT_OK : driver_error(result, "cuMemsetD8Async", ctx);
}

vt_status copy_async(vt_context *ctx, void *dst, const void *src, size_t bytes) {
  if (bytes == 0 || dst == src) return VT_OK;
  const CUresult result = driver.cuMemcpyDtoDAsync(reinterpret_cast<CUdeviceptr>(dst),
                                                   reinterpret_cast<CUdeviceptr>(src), bytes,
                                                   static_cast<CUstream>(ctx->stream));
  return result == CUDA_SUCCESS ? VT_OK : driver_error(result, "cuMemcpyDtoDAsync", ctx);
}

void set_fatbin_folder(const char *path) {
  std::lock_guard<std::mutex> lock(load_mutex);
  if (!fatbin_folder) fatbin_folder = new std::string;
  *fatbin_folder = path;
}

void forget_code() {
  forget_triton_code();
  std::lock_guard<std::mutex> lock(load_mutex);
  Loaded::forget();
  while (libraries) {
    Library *next = libraries->next;
    delete libraries;
    libraries = next;
  }
}

}  // namespace vt_cuda
