// Arrays made from a formula: constants, ranges, and triangles of a matrix.
#include <string.h>

#include "core/state.h"
#include "vibetensor/cuda/kernels/copy.h"
#include "vibetensor/cuda/kernels/walk.h"
#include "vt/copy_args.h"

namespace vt_cuda {
namespace {

using vt::Pattern;

Kernel fill_kernel("fill", "vt_fill");
Kernel arange_integer("fill", "vt_arange_integer"), arange_real("fill", "vt_arange_real");
Kernel linspace_real("fill", "vt_linspace"), linspace_integer("fill", "vt_linspace_integer");
Kernel triangle_kernels[] = {{"fill", "vt_triangle_1"},
                             {"fill", "vt_triangle_2"},
                             {"fill", "vt_triangle_4"},
                             {"fill", "vt_triangle_8"},
                             {"fill", "vt_triangle_16"}};

bool all_bytes_equal(const unsigned char *bytes, int n) {
  return memcmp(bytes, bytes + 1, n - 1) == 0;
}

// The value as an element of `dtype`, in memory. Integers never pass through a float on their way to
// an integer; what does not fit wraps.
struct ValueElement {
  alignas(16) unsigned char bytes[16] = {};

  ValueElement(const vt_value &v, int dtype) {
    const bool exact = v.kind == VT_VALUE_INT;
    int64_t i = exact ? v.i : dtype < VT_F16 ? static_cast<int64_t>(v.re) : 0;
    if (dtype == VT_BOOL) i = exact ? v.i != 0 : v.re != 0 || v.im != 0;
    const float real = exact ? static_cast<float>(v.i) : static_cast<float>(v.re);
    const double real64 = exact ? static_cast<double>(v.i) : v.re;
    switch (dtype) {
      case VT_F16:
      case VT_BF16: {
        float from = real;
        char *const ptrs[] = {reinterpret_cast<char *>(bytes), reinterpret_cast<char *>(&from)};
        const int64_t strides[] = {2, 4, 0, 0};
        vt_cpu_casts[dtype][VT_F32](ptrs, strides, 1, 1, nullptr);
        break;
      }
      case VT_F32:
        put(real);
        break;
      case VT_F64:
        put(real64);
        break;
      case VT_C64: {
        const float z[] = {real, exact ? 0.f : static_cast<float>(v.im)};
        memcpy(bytes, z, sizeof(z));
        break;
      }
      case VT_C128: {
        const double z[] = {real64, exact ? 0. : v.im};
        memcpy(bytes, z, sizeof(z));
        break;
      }
      default:  // integers keep their low bytes
        put(i);
    }
  }

 private:
  template <class T>
  void put(T x) {
    memcpy(bytes, &x, sizeof(x));
  }
};

int64_t integer_of(const vt_value &v) {
  return v.kind == VT_VALUE_INT ? v.i : static_cast<int64_t>(v.re);
}

}  // namespace

vt_status fill_elements(char *to, const void *element, int size, int64_t count, vt_context *ctx) {
  const int64_t bytes = count * size;
  if (bytes == 0) return VT_OK;
  const auto *one = static_cast<const unsigned char *>(element);
  if (all_bytes_equal(one, size)) return memset_async(ctx, to, one[0], static_cast<size_t>(bytes));
  // By the place within 16 aligned bytes.
  Pattern pattern;
  const int past = static_cast<int>(reinterpret_cast<uintptr_t>(to) & 15);
  for (int i = 0; i < 16; i++) pattern.bytes[(past + i) & 15] = one[i % size];
  int64_t head = (16 - past) & 15;
  if (head > bytes) head = bytes;
  const int64_t per_block = int64_t(vt::kFillThreads) * vt::kFillUnits, whole = (bytes - head) / 16;
  return launch(ctx, fill_kernel, blocks_for(whole > 0 ? whole : 1, per_block), {vt::kFillThreads},
                0, to, pattern, bytes, static_cast<int>(head));
}

vt_status fill_array(const vt_array &to, const void *element, vt_context *ctx) {
  const int size = element_size(to.dtype);
  if (is_contiguous(to)) return fill_elements(to.data, element, size, to.numel, ctx);
  // As a copy of one element on the host.
  vt_iter it;
  it.noperands = 2;
  it.numel = to.numel;
  for (int k = 0; k < 2; k++) {
    it.dtype[k] = it.loop_dtype[k] = to.dtype;
    it.host[k] = k == 1;
  }
  it.data[0] = to.data;
  it.data[1] = static_cast<char *>(const_cast<void *>(element));
  Dims<1> dims = dims_of(-1, to);
  dims.sort();
  dims.coalesce();
  it.ndim = dims.ndim;
  for (int d = 0; d < dims.ndim; d++) {
    it.sizes[d] = dims.sizes[d];
    it.strides[0][d] = dims.strides[0][d] * size;
    it.strides[1][d] = 0;
  }
  return vt_cuda_copy(&it, ctx);
}

namespace {

// The part of every matrix below (or above) a diagonal.
vt_status triangle(const vt_array &input, const vt_array &out, int64_t diagonal, int lower,
                   vt_context *ctx) {
  if (out.numel == 0) return VT_OK;
  Dims<2> dims;
  for (int d = out.ndim - 1; d >= 0; d--) {  // columns and rows stay, even single ones
    dims.sizes[dims.ndim] = out.sizes[d];
    dims.strides[0][dims.ndim] = out.strides[d];
    dims.strides[1][dims.ndim] = input.strides[d];
    dims.ndim++;
  }
  const int size = element_size(out.dtype);
  return dims.for_walks([&](const Walk<2> &walk, const int64_t *offset) {
    return launch(ctx, triangle_kernels[size_slot(size)], blocks_for(walk.numel, 1024), {256}, 0,
                  walk, out.data + offset[0] * size,
                  static_cast<const char *>(input.data + offset[1] * size), diagonal, lower);
  });
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" {

// out; value.
vt_status fill_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const ValueElement element(v[0], a[0].dtype);
  return a[0].numel == 0 ? VT_OK : fill_array(a[0], element.bytes, ctx);
}

// out (n); start, step: start + i * step, exact where both are integers.
vt_status arange_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &out = a[0];
  const int dtype = out.dtype;
  if (dtype == VT_BOOL || dtype >= VT_C64) return VT_ERROR_DTYPE;
  if (out.numel == 0) return VT_OK;
  const int64_t stride = out.ndim > 0 ? out.strides[0] : 1;
  const Dim blocks = blocks_for(out.numel, vt::kFillThreads);
  if (dtype < VT_F16 || (v[0].kind == VT_VALUE_INT && v[1].kind == VT_VALUE_INT)) {
    return launch(ctx, arange_integer, blocks, {vt::kFillThreads}, 0, out.data, stride, out.numel,
                  dtype, integer_of(v[0]), integer_of(v[1]));
  }
  return launch(ctx, arange_real, blocks, {vt::kFillThreads}, 0, out.data, stride, out.numel, dtype,
                v[0].re, v[1].re);
}

// out (n); start, end.
vt_status linspace_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_array &out = a[0];
  const int64_t n = out.numel, stride = out.ndim > 0 ? out.strides[0] : 1;
  if (out.dtype == VT_BOOL) return VT_ERROR_DTYPE;
  if (n == 0) return VT_OK;
  const auto run = [&](Kernel &kernel, char *data, int64_t step_between, int dtype, double start,
                       double end) {
    // Rounded to the type the dtype computes in, and so is the step.
    double step = 0;
    if (dtype == VT_F64 || dtype < VT_F16) {
      if (n > 1) step = (end - start) / static_cast<double>(n - 1);
    } else {
      const float from = static_cast<float>(start), to = static_cast<float>(end);
      if (n > 1) step = (to - from) / static_cast<float>(n - 1);
      start = from;
      end = to;
    }
    return launch(ctx, kernel, blocks_for(n, vt::kFillThreads), {vt::kFillThreads}, 0, data,
                  step_between, n, dtype, start, end, step);
  };
  if (out.dtype < VT_F16) {
    // The ends are converted to the dtype first.
    double ends[2];
    for (int k = 0; k < 2; k++) {
      int64_t x = 0;
      const ValueElement element(v[k], out.dtype);
      const int bits = 64 - 8 * element_size(out.dtype);
      memcpy(&x, element.bytes, 8);
      const uint64_t high = static_cast<uint64_t>(x) << bits;
      x = out.dtype == VT_U8 ? static_cast<int64_t>(high >> bits)
                             : static_cast<int64_t>(high) >> bits;
      ends[k] = static_cast<double>(x);
    }
    return run(linspace_integer, out.data, stride, out.dtype, ends[0], ends[1]);
  }
  if (out.dtype < VT_C64) {
    return run(linspace_real, out.data, stride, out.dtype, v[0].re, v[1].re);
  }
  const int part = out.dtype == VT_C64 ? VT_F32 : VT_F64;
  const vt_status status = run(linspace_real, out.data, 2 * stride, part, v[0].re, v[1].re);
  if (status != VT_OK) return status;
  return run(linspace_real, out.data + element_size(part), 2 * stride, part, v[0].im, v[1].im);
}

// input (..., m, n), out; diagonal. `out` may be the input.
vt_status tril_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return triangle(a[0], a[1], v[0].i, 1, ctx);
}
vt_status triu_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return triangle(a[0], a[1], v[0].i, 0, ctx);
}
}
