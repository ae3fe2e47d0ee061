/* Triton's kernels from the host code of operators: a kernel of vibetensor/kernels by name, its
 * specialisations by a small structure of choices, launched as a CUDA kernel is. Needs neither a CUDA
 * header nor the GIL.
 *
 *   struct Choice {          // at most 8 bytes without gaps: what the code depends on
 *     uint8_t dtype, block;  // block: power of two
 *     uint16_t causal;
 *   };
 *   void describe(const Choice &c, vt_cuda::TritonSpec &spec) {  // called once per specialisation
 *     spec.pointer("x", c.dtype).pointer("y", c.dtype).arg("n", "i32");
 *     spec.constant("BLOCK", 1 << c.block).constant("CAUSAL", c.causal != 0).option("num_warps", 4);
 *   }
 *   vt_cuda::TritonKernel<Choice> kernel("scale.py:scale_kernel", describe);
 *
 *   if (kernel.available(ctx, choice))
 *     return kernel.launch(ctx, choice, {blocks}, x, y, int32_t(n));
 *
 * The first use of a choice on a device takes the GIL and asks Python for machine code: shipped with
 * the package, or from the disk cache, or compiled. Each later launch is a look-up without lock, the
 * packing of the arguments and cuLaunchKernelEx. Works inside a capture. */
#ifndef VT_CUDA_TRITON_KERNEL_H
#define VT_CUDA_TRITON_KERNEL_H

#include <initializer_list>
#include <string>
#include <vector>

#include "vibetensor/cuda/launch.h"

namespace vt_cuda {

/* A strided array that the kernel reaches through the tensor memory accelerator: a host descriptor of
 * Triton (`tensordesc<bf16[64, 64]>` in the kernel's signature). The last stride is 1, the others are
 * multiples of 16 bytes, as is the address; sizes and strides are in elements, slowest first. The box
 * and the swizzling are the compiled kernel's. Of const T it is read, else also written. */
template <class T, int rank>
struct TensorDescriptor {
  T *data;
  int64_t sizes[rank], strides[rank];
};

namespace detail {

/* 128 bytes of CUtensorMap, encoded by the launch; then the sizes and the strides. */
template <class T, int rank>
struct Parameter<TensorDescriptor<T, rank>> {
  static constexpr size_t strides_at = 128 + (4 * rank + 7) / 8 * 8;
  static constexpr size_t size = strides_at + 8 * rank, align = 64;
  static constexpr bool pointer = true, constant = std::is_const_v<T>;
  static void pack(char *to, const TensorDescriptor<T, rank> &d) {
    for (int i = 0; i < rank; ++i) {
      const int32_t n = static_cast<int32_t>(d.sizes[i]);
      memcpy(to + 128 + 4 * i, &n, 4);
    }
    memcpy(to + strides_at, d.strides, sizeof d.strides);
  }
};

/* A descriptor's place among the arguments, and what it describes. */
struct DescriptorAt {
  size_t offset;
  const void *data;
  const int64_t *sizes, *strides;
  int rank;
};
template <class A>
inline constexpr int is_descriptor = 0;
template <class T, int rank>
inline constexpr int is_descriptor<TensorDescriptor<T, rank>> = 1;
template <class A>
inline void add_descriptor(DescriptorAt *&, size_t, const A &) {}
template <class T, int rank>
inline void add_descriptor(DescriptorAt *&to, size_t at, const TensorDescriptor<T, rank> &d) {
  *to++ = {at, d.data, d.sizes, d.strides, rank};
}

}  // namespace detail

/* What a specialisation is, told once: the arguments in the kernel's order, its constexpr parameters,
 * the compiler's options. The text of it names the code in the shipped archive. */
class TritonSpec {
 public:
  /* Triton's type: "i32", "i64", "fp32", "*bf16", "tensordesc<fp16[64, 64]>". `divisible`: always a
   * multiple of 16, an address as well as a number. */
  TritonSpec &arg(const char *name, const char *type, bool divisible = false);
  /* An address of elements of a vt_dtype. */
  TritonSpec &pointer(const char *name, int dtype, bool divisible = true);
  TritonSpec &descriptor(const char *name, int dtype, std::initializer_list<int> block);
  TritonSpec &constant(const char *name, int64_t value);
  TritonSpec &constant(const char *name, int value) { return constant(name, int64_t(value)); }
  TritonSpec &constant(const char *name, bool value);
  TritonSpec &constant(const char *name, double value);
  TritonSpec &constant(const char *name, const char *text);
  /* num_warps, num_stages, maxnreg ... */
  TritonSpec &option(const char *name, int64_t value) { return constant(name, value); }

  const std::string &text() const { return text_; }

 private:
  std::string text_;
};

/* "bf16" for VT_BF16: how Triton calls an element type. NULL for one that it lacks. */
const char *triton_dtype(int dtype);

constexpr int kMaxDescriptors = 12;

/* How a descriptor's memory is read: of the compiled kernel. */
struct TensorMapLayout {
  int dtype, swizzle; /* CUtensorMapDataType, CUtensorMapSwizzle */
  int element_bytes, rank;
  unsigned box[5]; /* slowest first */
};

/* Machine code on one device. Never changes once it is in a table. */
struct TritonCode {
  uint64_t key = 0;
  int device = 0;
  TritonCode *next = nullptr;
  bool missing = false; /* neither shipped nor can be compiled here */
  void *function = nullptr;
  unsigned threads = 0, shared = 0, cluster = 1;
  bool cooperative = false, dependent = false; /* launch attributes */
  size_t global_scratch = 0;                   /* bytes per block of the cluster */
  size_t argument_bytes = 0;
  uint64_t pointers = 0; /* bit i: the i-th 8-byte word of the arguments is an address */
  int num_descriptors = 0;
  TensorMapLayout descriptors[kMaxDescriptors] = {};
  /* Where each parameter of the kernel lies in the packed arguments, if it has descriptors: the
   * compiler aligns those in the constant bank, which does not begin at a multiple of 64, so that the
   * buffer as a whole is not what the kernel reads. */
  std::vector<uint16_t> parameters;
};

/* Enqueues on ctx->stream. `arguments` ends with two pointers for scratch memory, in `bytes`. */
vt_status launch_triton(vt_context *ctx, const TritonCode &code, Dim grid, char *arguments,
                        size_t bytes, const ArgumentUse *use);
/* Encodes one tensor map into 128 bytes at `to`. */
vt_status encode_tensor_map(vt_context *ctx, const TensorMapLayout &layout, const void *data,
                            const int64_t *sizes, const int64_t *strides, void *to);
/* Encodes the tensor maps of the descriptors among the arguments. */
vt_status encode_descriptors(vt_context *ctx, const TritonCode &code,
                             const detail::DescriptorAt *descriptors, int n, char *arguments);
/* Whether operators may use Triton's kernels; vibetensor.kernels.enable changes it. */
bool triton_enabled();

/* The part of TritonKernel that does not depend on the choice. */
class TritonKernelBase {
 public:
  /* The code for a key on the context's device; NULL with ctx->message set. */
  const TritonCode *code(vt_context *ctx, uint64_t key) {
    const TritonCode *c = buckets_[bucket(key, ctx->device_index)].load(std::memory_order_acquire);
    for (; c; c = c->next)
      if (c->key == key && c->device == ctx->device_index) return c;
    return load(ctx, key);
  }
  void forget();

 protected:
  using Describe = void (*)(const TritonKernelBase *kernel, uint64_t key, TritonSpec &spec);
  constexpr TritonKernelBase(const char *source, Describe describe)
      : source_(source), describe_(describe) {}

 private:
  static constexpr int kBuckets = 64;
  static int bucket(uint64_t key, int device) {
    return static_cast<int>(((key + static_cast<uint64_t>(device)) * 0x9e3779b97f4a7c15u) >> 58);
  }
  const TritonCode *load(vt_context *ctx, uint64_t key);

  const char *source_;
  Describe describe_;
  std::atomic<TritonCode *> buckets_[kBuckets] = {};
  TritonKernelBase *next_ = nullptr; /* list of those that hold code */
  friend struct TritonLoaded;
};

/* A @triton.jit or @gluon.jit function of vibetensor/kernels ("folder/file.py:function") with its
 * specialisations. For objects with static storage. */
template <class Choice>
class TritonKernel : public TritonKernelBase {
  static_assert(std::is_trivially_copyable_v<Choice> && sizeof(Choice) <= 8 &&
                    std::has_unique_object_representations_v<Choice>,
                "a choice has at most 8 bytes, none of which is padding");

 public:
  constexpr TritonKernel(const char *source, void (*describe)(const Choice &, TritonSpec &))
      : TritonKernelBase(source, call), describe_choice_(describe) {}

  /* False where there is no machine code and no Triton to make it, and where Triton's kernels are
   * disabled: the caller takes another way. */
  bool available(vt_context *ctx, const Choice &choice) {
    if (!triton_enabled()) return false;
    const TritonCode *c = code(ctx, key_of(choice));
    return !c || !c->missing; /* other failures are the launch's to report */
  }

  /* Enqueues on ctx->stream. The arguments are those of the spec, in its order, with the same sizes:
   * int32_t for i32, int64_t for i64, float for fp32, T * (const, if it is only read), and a
   * TensorDescriptor for a tensordesc. */
  template <class... A>
  vt_status launch(vt_context *ctx, const Choice &choice, Dim grid, const A &...args) {
    static_assert((std::is_trivially_copyable_v<A> && ...), "kernel arguments are copied as bytes");
    const TritonCode *c = code(ctx, key_of(choice));
    if (__builtin_expect(c == nullptr, 0)) return VT_ERROR_VALUE;
    /* Behind the arguments come the addresses of two kinds of scratch memory. */
    constexpr const auto &layout = detail::layout<A..., uint64_t, uint64_t>;
    constexpr size_t bytes = layout.offset[sizeof...(A) + 2];
    alignas(64) char buffer[bytes] = {};
    detail::pack<A..., uint64_t, uint64_t>(buffer, std::make_index_sequence<sizeof...(A) + 2>{},
                                           args..., 0, 0);
    constexpr int n = (0 + ... + detail::is_descriptor<A>);
    if constexpr (n > 0) {
      static_assert(n <= kMaxDescriptors);
      detail::DescriptorAt at[n], *to = at;
      size_t i = 0;
      (detail::add_descriptor(to, layout.offset[i++], args), ...);
      if (vt_status status = encode_descriptors(ctx, *c, at, n, buffer)) return status;
    }
    return launch_triton(ctx, *c, grid, buffer, bytes, &layout.use);
  }

 private:
  static uint64_t key_of(const Choice &choice) {
    uint64_t key = 0;
    memcpy(&key, &choice, sizeof choice);
    return key;
  }
  static void call(const TritonKernelBase *kernel, uint64_t key, TritonSpec &spec) {
    Choice choice;
    memcpy(&choice, &key, sizeof choice);
    static_cast<const TritonKernel *>(kernel)->describe_choice_(choice, spec);
  }

  void (*describe_choice_)(const Choice &, TritonSpec &);
};

}  // namespace vt_cuda
#endif
