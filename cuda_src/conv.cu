// conv1d: the columns that turn it into a product of matrices and back, and direct kernels for many
// groups, where the products would be too small.
#include "vt/conv_shape.h"
#include "vt/dtype.h"
#include "vt/grid.h"

namespace {

struct alignas(16) Bytes16 {
  uint64_t lo, hi;
};

// columns[(channel, kernel position), (item, output position)] = what the output position reads
// there, of the items [first, first + items).
template <class Unit>
__device__ void make_columns(const vt_conv_shape &s, const Unit *x, Unit *columns, int64_t first,
                             int64_t items) {
  const int64_t width = items * s.out_length, rows = s.groups * s.in_channels * s.kernel;
  vt::for_each_element(rows * width, [&](int64_t i) {
    const int64_t l = i % s.out_length, b = i / s.out_length % items, row = i / width;
    const int64_t k = row % s.kernel, c = row / s.kernel;
    const int64_t at = l * s.stride + k * s.dilation - s.padding;
    Unit value;
    memset(&value, 0, sizeof(value));
    if (at >= 0 && at < s.length) {
      value = x[(first + b) * s.x_stride[0] + c * s.x_stride[1] + at * s.x_stride[2]];
    }
    columns[i] = value;
  });
}

// The other way: every input position sums what the columns have for it. Columns are of the
// accumulation type.
template <class T, class A>
__device__ void sum_columns(const vt_conv_shape &s, const A *columns, T *x, int64_t first,
                            int64_t items) {
  const int64_t width = items * s.out_length, channels = s.groups * s.in_channels;
  vt::for_each_element(items * channels * s.length, [&](int64_t i) {
    const int64_t at = i % s.length, c = i / s.length % channels, b = i / s.length / channels;
    A sum = A(0);
    for (int64_t k = 0; k < s.kernel; k++) {
      const int64_t from = at + s.padding - k * s.dilation;
      if (from < 0 || from % s.stride != 0 || from / s.stride >= s.out_length) continue;
      sum += columns[(c * s.kernel + k) * width + b * s.out_length + from / s.stride];
    }
    x[(first + b) * s.x_stride[0] + c * s.x_stride[1] + at * s.x_stride[2]] = T(sum);
  });
}

// ---- direct ----

template <class T>
__device__ void forward(const vt_conv_shape &s, const T *x, const T *w, const T *bias,
                        int64_t bias_stride, T *y) {
  using A = vt::acc_t<T>;
  const int64_t channels = s.groups * s.out_channels;
  vt::for_each_element(s.batch * channels * s.out_length, [&](int64_t i) {
    const int64_t l = i % s.out_length, o = i / s.out_length % channels;
    const int64_t b = i / s.out_length / channels, g = o / s.out_channels;
    A sum = bias ? A(bias[o * bias_stride]) : A(0);
    for (int64_t c = 0; c < s.in_channels; c++) {
      const T *from = x + b * s.x_stride[0] + (g * s.in_channels + c) * s.x_stride[1];
      const T *weight = w + o * s.w_stride[0] + c * s.w_stride[1];
      for (int64_t k = 0; k < s.kernel; k++) {
        const int64_t at = l * s.stride + k * s.dilation - s.padding;
        if (at >= 0 && at < s.length) {
          sum += A(weight[k * s.w_stride[2]]) * A(from[at * s.x_stride[2]]);
        }
      }
    }
    y[b * s.y_stride[0] + o * s.y_stride[1] + l * s.y_stride[2]] = T(sum);
  });
}

template <class T>
__device__ void backward_input(const vt_conv_shape &s, const T *y, const T *w, T *x) {
  using A = vt::acc_t<T>;
  const int64_t channels = s.groups * s.in_channels;
  vt::for_each_element(s.batch * channels * s.length, [&](int64_t i) {
    const int64_t at = i % s.length, c = i / s.length % channels, b = i / s.length / channels;
    const int64_t g = c / s.in_channels;
    A sum = A(0);
    for (int64_t k = 0; k < s.kernel; k++) {
      const int64_t from = at + s.padding - k * s.dilation;
      if (from < 0 || from % s.stride != 0 || from / s.stride >= s.out_length) continue;
      const T *grad = y + b * s.y_stride[0] + from / s.stride * s.y_stride[2];
      const T *weight = w + (c - g * s.in_channels) * s.w_stride[1] + k * s.w_stride[2];
      for (int64_t o = g * s.out_channels; o < (g + 1) * s.out_channels; o++) {
        sum += A(weight[o * s.w_stride[0]]) * A(grad[o * s.y_stride[1]]);
      }
    }
    x[b * s.x_stride[0] + c * s.x_stride[1] + at * s.x_stride[2]] = T(sum);
  });
}

constexpr int kThreads = 256;

// A block per element of the weight's gradient.
template <class T>
__device__ void backward_weight(const vt_conv_shape &s, const T *y, const T *x, T *w) {
  using A = vt::acc_t<T>;
  __shared__ unsigned char bytes[kThreads * sizeof(A)] __attribute__((aligned(16)));
  A *const sums = reinterpret_cast<A *>(bytes);
  const int64_t total = s.groups * s.out_channels * s.in_channels * s.kernel;
  for (int64_t i = blockIdx.x; i < total; i += gridDim.x) {
    const int64_t k = i % s.kernel, c = i / s.kernel % s.in_channels;
    const int64_t o = i / s.kernel / s.in_channels, g = o / s.out_channels;
    const T *grad = y + o * s.y_stride[1];
    const T *from = x + (g * s.in_channels + c) * s.x_stride[1];
    A sum = A(0);
    for (int64_t j = threadIdx.x; j < s.batch * s.out_length; j += kThreads) {
      const int64_t l = j % s.out_length, b = j / s.out_length;
      const int64_t at = l * s.stride + k * s.dilation - s.padding;
      if (at >= 0 && at < s.length) {
        sum += A(grad[b * s.y_stride[0] + l * s.y_stride[2]]) *
               A(from[b * s.x_stride[0] + at * s.x_stride[2]]);
      }
    }
    sums[threadIdx.x] = sum;
    for (int d = kThreads / 2; d > 0; d /= 2) {
      __syncthreads();
      if (threadIdx.x < d) sums[threadIdx.x] += sums[threadIdx.x + d];
    }
    if (threadIdx.x == 0) {
      w[o * s.w_stride[0] + c * s.w_stride[1] + k * s.w_stride[2]] = T(sums[0]);
    }
    __syncthreads();
  }
}

}  // namespace

extern "C" {
#define VT_COLUMNS(T, suffix)                                                                    \
  __global__ void vt_conv_columns_##suffix(const T *x, T *columns, int64_t first, int64_t items, \
                                           const __grid_constant__ vt_conv_shape s) {            \
    make_columns(s, x, columns, first, items);                                                   \
  }
VT_COLUMNS(uint16_t, 2)
VT_COLUMNS(uint32_t, 4)
VT_COLUMNS(uint64_t, 8)
VT_COLUMNS(Bytes16, 16)

#define VT_CONV(T, suffix)                                                                       \
  __global__ void vt_conv_sum_columns_##suffix(const vt::acc_t<T> *columns, T *x, int64_t first, \
                                               int64_t items,                                    \
                                               const __grid_constant__ vt_conv_shape s) {        \
    sum_columns(s, columns, x, first, items);                                                    \
  }                                                                                              \
  __global__ void vt_conv_forward_##suffix(const T *x, const T *w, const T *bias,                \
                                           int64_t bias_stride, T *y,                            \
                                           const __grid_constant__ vt_conv_shape s) {            \
    forward(s, x, w, bias, bias_stride, y);                                                      \
  }                                                                                              \
  __global__ void vt_conv_backward_input_##suffix(const T *y, const T *w, T *x,                  \
                                                  const __grid_constant__ vt_conv_shape s) {     \
    backward_input(s, y, w, x);                                                                  \
  }                                                                                              \
  __global__ void __launch_bounds__(kThreads) vt_conv_backward_weight_##suffix(                  \
      const T *y, const T *x, T *w, const __grid_constant__ vt_conv_shape s) {                   \
    backward_weight(s, y, x, w);                                                                 \
  }
VT_CONV(vt::half, f16)
VT_CONV(vt::bfloat16, bf16)
VT_CONV(float, f32)
VT_CONV(double, f64)
VT_CONV(vt::complex64, c64)
VT_CONV(vt::complex128, c128)
}
