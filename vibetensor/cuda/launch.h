/* How the host side of a kernel launches it, and what else it may ask of the device. Needs no CUDA
 * header, and nothing here waits, allocates from the driver or looks anything up on the usual path.
 *
 *   static vt_cuda::KernelSet softmax("softmax", "vt_softmax");  // vt_softmax_f32, ... of softmax.fatbin
 *   return vt_cuda::launch(ctx, softmax[a.dtype], {rows}, {256}, 0, out, in, n);
 */
#ifndef VT_CUDA_LAUNCH_H
#define VT_CUDA_LAUNCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <atomic>
#include <type_traits>
#include <utility>

#include "vibetensor/types.h"

struct vt_index_error; /* vt/index_error.h */

namespace vt_cuda {

constexpr int kMaxDevices = 16;

struct Dim {
  unsigned x, y = 1, z = 1;
};

/* A __global__ function of FAMILY.fatbin, found at first use and kept per device. For objects with
 * static storage: they are constant-initialised and never destroyed. */
class Kernel {
 public:
  constexpr Kernel(const char *family, const char *name, const char *suffix = nullptr)
      : family_(family), name_(name), suffix_(suffix) {}
  constexpr Kernel() : Kernel(nullptr, nullptr) {}

  /* The CUfunction on a device whose context is current, NULL with ctx->message set. */
  void *function(vt_context *ctx) {
    void *f = functions_[ctx->device_index].load(std::memory_order_acquire);
    return __builtin_expect(f != nullptr, 1) ? f : load(ctx);
  }
  /* Lets the kernel have this much dynamic shared memory (beyond 48 KiB it has to be asked for). */
  vt_status allow_shared(vt_context *ctx, unsigned bytes);
  /* Forgets what was loaded, when the driver is exchanged. */
  void forget();

 private:
  void *load(vt_context *ctx);

  const char *family_, *name_, *suffix_;
  std::atomic<void *> functions_[kMaxDevices] = {};
  std::atomic<unsigned> shared_[kMaxDevices] = {}; /* what was asked for so far */
  Kernel *next_ = nullptr;                         /* list of the loaded ones */
  friend struct Loaded;
};

/* One kernel per dtype: NAME_f32, NAME_i64 ..., indexed by vt_dtype. Those that the family lacks do
 * no harm unless they are launched. */
class KernelSet {
 public:
  constexpr KernelSet(const char *family, const char *name)
      : kernels_{{family, name, "bool"}, {family, name, "u8"},   {family, name, "i8"},
                 {family, name, "i16"},  {family, name, "i32"},  {family, name, "i64"},
                 {family, name, "f16"},  {family, name, "bf16"}, {family, name, "f32"},
                 {family, name, "f64"},  {family, name, "c64"},  {family, name, "c128"}} {}
  Kernel &operator[](int dtype) { return kernels_[dtype]; }

 private:
  Kernel kernels_[VT_NUM_DTYPES];
};

/* What is known of the arguments, for the simulated driver's check of stream order: bit i stands for
 * the i-th 8-byte word of the packed arguments. A pointer to const is read, another one written;
 * what lies inside a structure is not known. */
struct ArgumentUse {
  uint64_t reads, writes;
};

/* `arguments` holds `bytes` of packed arguments. A grid with a zero in it launches nothing. */
vt_status launch_packed(vt_context *ctx, Kernel &k, Dim grid, Dim block, unsigned shared_bytes,
                        const void *arguments, size_t bytes, const ArgumentUse *use);

namespace detail {

constexpr size_t align_up(size_t n, size_t a) { return (n + a - 1) / a * a; }

/* How an argument lies among the parameters of a kernel. */
template <class A>
struct Parameter {
  static constexpr size_t size = sizeof(A), align = alignof(A);
  static constexpr bool pointer = std::is_pointer_v<A>;
  static constexpr bool constant = std::is_const_v<std::remove_pointer_t<A>>;
  static void pack(char *to, const A &argument) { memcpy(to, &argument, sizeof(A)); }
};

/* Offsets of the arguments, as the compiler of the kernel lays its parameters out. */
template <class... A>
struct Layout {
  static constexpr size_t count = sizeof...(A);
  size_t offset[count + 1] = {};
  ArgumentUse use = {0, 0};

  constexpr Layout() {
    const size_t sizes[] = {Parameter<A>::size..., 0}, aligns[] = {Parameter<A>::align..., 1};
    const bool pointer[] = {Parameter<A>::pointer..., false};
    const bool constant[] = {Parameter<A>::constant..., false};
    size_t at = 0;
    for (size_t i = 0; i < count; ++i) {
      at = align_up(at, aligns[i]);
      offset[i] = at;
      if (pointer[i] && at / 8 < 64)
        (constant[i] ? use.reads : use.writes) |= uint64_t(1) << (at / 8);
      at += sizes[i];
    }
    offset[count] = at;
  }
};

template <class... A>
inline constexpr Layout<A...> layout{};

template <class... A, size_t... I>
inline void pack([[maybe_unused]] char *buffer, std::index_sequence<I...>, const A &...args) {
  (Parameter<A>::pack(buffer + layout<A...>.offset[I], args), ...);
}

}  // namespace detail

/* Enqueues on ctx->stream, on the device that ctx is for (its context is current). The arguments
 * must have exactly the types of the __global__ function's parameters. */
template <class... A>
inline vt_status launch(vt_context *ctx, Kernel &k, Dim grid, Dim block, unsigned shared_bytes,
                        const A &...args) {
  static_assert((std::is_trivially_copyable_v<A> && ...), "kernel arguments are copied as bytes");
  static_assert(!(std::is_array_v<A> || ...), "pass an array inside a structure");
  constexpr const detail::Layout<A...> &layout = detail::layout<A...>;
  constexpr size_t bytes = layout.offset[sizeof...(A)];
  static_assert(bytes <= 32764, "a kernel takes at most 32764 bytes of arguments");
  if constexpr (sizeof...(A) == 1) {
    /* Large tables come alone: no copy. */
    const void *only[] = {&args...};
    return launch_packed(ctx, k, grid, block, shared_bytes, only[0], bytes, &layout.use);
  } else {
    alignas(16) char buffer[bytes ? bytes : 1] = {};
    detail::pack<A...>(buffer, std::index_sequence_for<A...>{}, args...);
    return launch_packed(ctx, k, grid, block, shared_bytes, buffer, bytes, &layout.use);
  }
}

/* Stream-ordered scratch memory from the caching allocator: given back when it goes out of scope,
 * for the next user on the stream. */
class Scratch {
 public:
  Scratch(vt_context *ctx, size_t bytes);
  ~Scratch();
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  /* False: return VT_ERROR_OUT_OF_MEMORY. True of no bytes, though there is no address. */
  bool ok() const { return ok_; }
  template <class T>
  T *as() const {
    return static_cast<T *>(data_);
  }

 private:
  void *block_ = nullptr, *data_ = nullptr;
  bool ok_ = true;
};

/* Of a device; read once, when it is first used. */
struct Properties {
  int sm_count, max_threads_per_sm, max_threads_per_block, max_blocks_per_sm;
  int max_shared_per_block, max_shared_per_block_optin, max_shared_per_sm;
  int regs_per_sm, warp_size, l2_bytes, max_persisting_l2_bytes;
  int major, minor; /* compute capability */
  int clock_khz, memory_clock_khz, memory_bus_bits;
  int integrated, multi_gpu_board, can_map_host, concurrent_managed, virtual_memory;
  int pci_bus, pci_device, pci_domain;
  size_t total_memory;
  unsigned char uuid[16];
  char name[128];
};
extern Properties device_properties[kMaxDevices];
inline const Properties &properties(const vt_context *ctx) {
  return device_properties[ctx->device_index];
}

vt_status memset_async(vt_context *ctx, void *dst, int value, size_t bytes);
/* Device to device. */
vt_status copy_async(vt_context *ctx, void *dst, const void *src, size_t bytes);
/* To the host, which waits for it: counted, and refused while the stream is captured. */
vt_status read_back(vt_context *ctx, void *host, const void *device, size_t bytes);
/* Whether the stream is being captured into a graph. */
bool capturing(const vt_context *ctx);
/* The device's record of the first bad index, which kernels write (vt/index_error.h) and the next
 * synchronising call reports. */
vt_index_error *index_error_slot(vt_context *ctx);

}  // namespace vt_cuda
#endif
