// What goes on around matrix products: strided copies of operands and results, C = factor * X where
// there is nothing to multiply, and GELU where the product cannot do it. And products so small that
// calling the library takes longer than making them.
#include "vt/activation.h"
#include "vt/copy_jobs.h"
#include "vt/dtype.h"
#include "vt/grid.h"
#include "vt/small_product_args.h"

namespace {

struct alignas(16) Bytes16 {
  uint64_t lo, hi;
};

// Index is uint32_t where the job has fewer than 2^31 units: a division costs several times as much
// in 64 bits.
template <class Unit, class Index>
__device__ void copy_units(const vt_copy_job &job) {
  const Unit *src = static_cast<const Unit *>(job.src);
  Unit *dst = static_cast<Unit *>(job.dst);
  const Index s1 = Index(job.size[1]), s2 = Index(job.size[2]), s3 = Index(job.size[3]);
  const Index n = Index(job.size[0]) * s1 * s2 * s3;
  const Index step = Index(gridDim.x) * blockDim.x;
  for (Index i = Index(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) {
    const Index r3 = i / s3, i3 = i - r3 * s3;
    const Index r2 = r3 / s2, i2 = r3 - r2 * s2;
    const Index i0 = r2 / s1, i1 = r2 - i0 * s1;
    dst[i0 * job.dst_stride[0] + i1 * job.dst_stride[1] + i2 * job.dst_stride[2] +
        i3 * job.dst_stride[3]] = src[i0 * job.src_stride[0] + i1 * job.src_stride[1] +
                                      i2 * job.src_stride[2] + i3 * job.src_stride[3]];
  }
}

template <class Unit>
__device__ void copy_jobs(const vt_copy_jobs &jobs) {
  const vt_copy_job &job = jobs.job[blockIdx.y];
  const int64_t n = job.size[0] * job.size[1] * job.size[2] * job.size[3];
  if (n < int64_t(1) << 31) {
    copy_units<Unit, uint32_t>(job);
  } else {
    copy_units<Unit, uint64_t>(job);
  }
}

template <class T>
__device__ T scaled(T x, double re, double) {
  using A = vt::acc_t<T>;
  return T(A(x) * A(re));
}
template <class T>
__device__ vt::complex<T> scaled(vt::complex<T> x, double re, double im) {
  return x * vt::complex<T>(T(re), T(im));
}

// out = factor * x over (batch, row, column), or zero without x.
template <class T>
__device__ void scale(T *out, const T *x, int64_t batch, int64_t rows, int64_t cols,
                      int64_t out_batch, int64_t out_row, int64_t out_col, int64_t x_batch,
                      int64_t x_row, int64_t x_col, double re, double im) {
  vt::for_each_element(batch * rows * cols, [=](int64_t i) {
    const int64_t c = i % cols, rest = i / cols, r = rest % rows, b = rest / rows;
    T y;
    memset(&y, 0, sizeof(y));
    if (x) y = scaled(x[b * x_batch + r * x_row + c * x_col], re, im);
    out[b * out_batch + r * out_row + c * out_col] = y;
  });
}

// An element of C to a thread. As in BLAS, a factor of zero means that the products do not count.
template <class T>
__device__ void small_product(T *c, const T *a, const T *b, const T *init, const T *bias,
                              const vt::SmallProductArgs &p) {
  const int i = threadIdx.x;
  if (i >= p.m * p.n) return;
  const int row = i / p.n, col = i - row * p.n;
  const T *x = a + row * p.a_row, *y = b + col * p.b_col;
  float sum = 0;
#pragma unroll 8
  for (int j = 0; j < p.k; j++) sum += float(x[j * p.a_col]) * float(y[j * p.b_row]);
  sum = p.alpha == 0 ? 0 : p.alpha * sum;
  if (init) sum += p.beta * float(init[row * p.init_row + col * p.init_col]);
  if (bias) sum += float(bias[col * p.bias]);
  c[row * p.c_row + col * p.c_col] = T(sum);
}

}  // namespace

extern "C" {
__global__ void vt_strided_copy_2(const __grid_constant__ vt_copy_jobs j) {
  copy_jobs<uint16_t>(j);
}
__global__ void vt_strided_copy_4(const __grid_constant__ vt_copy_jobs j) {
  copy_jobs<uint32_t>(j);
}
__global__ void vt_strided_copy_8(const __grid_constant__ vt_copy_jobs j) {
  copy_jobs<uint64_t>(j);
}
__global__ void vt_strided_copy_16(const __grid_constant__ vt_copy_jobs j) {
  copy_jobs<Bytes16>(j);
}

#define VT_SCALE(T, suffix)                                                                       \
  __global__ void vt_matrix_scale_##suffix(T *out, const T *x, int64_t batch, int64_t rows,       \
                                           int64_t cols, int64_t out_batch, int64_t out_row,      \
                                           int64_t out_col, int64_t x_batch, int64_t x_row,       \
                                           int64_t x_col, double re, double im) {                 \
    scale(out, x, batch, rows, cols, out_batch, out_row, out_col, x_batch, x_row, x_col, re, im); \
  }
VT_SCALE(vt::half, f16)
VT_SCALE(vt::bfloat16, bf16)
VT_SCALE(float, f32)
VT_SCALE(double, f64)
VT_SCALE(vt::complex64, c64)
VT_SCALE(vt::complex128, c128)
#undef VT_SCALE

#define VT_SMALL_PRODUCT(T, suffix)                                                         \
  __global__ void __launch_bounds__(vt::kSmallProduct *vt::kSmallProduct)                   \
      vt_small_product_##suffix(T *c, const T *a, const T *b, const T *init, const T *bias, \
                                const vt::SmallProductArgs p) {                             \
    small_product(c, a, b, init, bias, p);                                                  \
  }
VT_SMALL_PRODUCT(vt::half, f16)
VT_SMALL_PRODUCT(vt::bfloat16, bf16)
VT_SMALL_PRODUCT(float, f32)
#undef VT_SMALL_PRODUCT

// For products whose epilogue cannot do it; see linear_epilogue.cpp.
#define VT_GELU(T, suffix)                                                                      \
  __global__ void vt_matrix_gelu_##suffix(T *out, const T *x, int64_t n) {                      \
    vt::for_each_element(n, [=](int64_t i) { out[i] = T(vt::gelu_tanh(vt::acc_t<T>(x[i]))); }); \
  }                                                                                             \
  __global__ void vt_matrix_gelu_backward_##suffix(T *out, const T *x, int64_t n) {             \
    vt::for_each_element(n, [=](int64_t i) {                                                    \
      using A = vt::acc_t<T>;                                                                   \
      out[i] = T(vt::gelu_tanh_backward(A(out[i]), A(x[i])));                                   \
    });                                                                                         \
  }
VT_GELU(vt::half, f16)
VT_GELU(vt::bfloat16, bf16)
VT_GELU(float, f32)
VT_GELU(double, f64)
#undef VT_GELU
}
