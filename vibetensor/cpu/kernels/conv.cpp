// conv1d and its gradients, as products of matrices over tiles in which every position of the
// kernel has its row of the input ("columns").

#include "vibetensor/cpu/kernels/gemm.h"
#include "vibetensor/cpu/kernels/simd.h"
#include "vibetensor/cpu/kernels/workspace.h"

namespace VT_NS {
namespace {

// Channels are counted within one group.
struct ConvShape {
  int64_t batch, groups, in_channels, out_channels, length, out_length, kernel;
  int64_t stride, padding, dilation;

  int64_t columns() const { return in_channels * kernel; }
  // Input position that output 0 reads at kernel position k.
  int64_t origin(int64_t k) const { return k * dilation - padding; }
};

int64_t int_of(const vt_value &v) { return v.kind == VT_VALUE_INTS ? v.ints[0] : v.i; }

// input (N, groups * in_channels, L), weight (groups * out_channels, in_channels, K), out
// (N, groups * out_channels, L'); values: stride, padding, dilation, groups.
ConvShape conv_shape(const vt_array &input, const vt_array &weight, const vt_array &out,
                     const vt_value *values) {
  ConvShape s;
  s.batch = input.sizes[0];
  s.groups = int_of(values[3]);
  s.in_channels = weight.sizes[1];
  s.out_channels = weight.sizes[0] / s.groups;
  s.length = input.sizes[2];
  s.out_length = out.sizes[2];
  s.kernel = weight.sizes[2];
  s.stride = int_of(values[0]);
  s.padding = int_of(values[1]);
  s.dilation = int_of(values[2]);
  return s;
}

// Positions [begin, end) of [first, first + n) whose input lies inside at kernel position k.
struct Inside {
  int64_t begin, end;
};
Inside inside(const ConvShape &s, int64_t k, int64_t first, int64_t n) {
  const int64_t origin = s.origin(k);
  const int64_t begin = origin >= 0 ? 0 : div_up(-origin, s.stride);
  const int64_t end = s.length > origin ? (s.length - 1 - origin) / s.stride + 1 : 0;
  return {clamp_to(begin, first, first + n), clamp_to(end, first, first + n)};
}

// An array (N, C, L).
template <class S>
struct Channels {
  S *data;
  int64_t batch, channel, position; /* strides */

  explicit Channels(const vt_array &a)
      : data(data_of<S>(a)), batch(a.strides[0]), channel(a.strides[1]), position(a.strides[2]) {}
  S *at(int64_t b, int64_t c) const { return data + b * batch + c * channel; }
};

// Row (c, k) of `to` becomes what output positions [first, first + n) read of channel c at kernel
// position k.
template <class S>
void make_columns(const ConvShape &s, const S *x, int64_t channel, int64_t position,
                  int64_t channels, int64_t first, int64_t n, S *to, int64_t to_row) {
  for (int64_t c = 0; c < channels; c++, x += channel) {
    for (int64_t k = 0; k < s.kernel; k++, to += to_row) {
      const Inside in = inside(s, k, first, n);
      const int64_t before = in.begin - first, count = max_of(int64_t(0), in.end - in.begin);
      if (before > 0) memset(static_cast<void *>(to), 0, sizeof(S) * before);
      if (count > 0) {
        load_row(to + before, x + (in.begin * s.stride + s.origin(k)) * position,
                 s.stride * position, count);
      }
      const int64_t after = n - before - count;
      if (after > 0) memset(static_cast<void *>(to + before + count), 0, sizeof(S) * after);
    }
  }
}

// The weight as a matrix: the rows of one group are out_channels x columns.
template <class S>
struct WeightMatrix {
  const S *data;
  int64_t row, col;

  // Copies the weight where channels and kernel positions are not one dimension. False: no memory.
  bool set(Workspace &frame, const vt_array &w) {
    const int64_t rows = w.sizes[0], channels = w.sizes[1], kernel = w.sizes[2];
    if (channels == 1 || kernel == 1 || w.strides[1] == kernel * w.strides[2]) {
      data = data_of<const S>(w);
      row = w.strides[0];
      col = kernel == 1 ? w.strides[1] : w.strides[2];
      return true;
    }
    S *copy = frame.take<S>(w.numel);
    if (!copy) return false;
    data = copy;
    row = channels * kernel;
    col = 1;
    for (int64_t r = 0; r < rows; r++) {
      const S *from = data_of<const S>(w) + r * w.strides[0];
      for (int64_t c = 0; c < channels; c++) {
        load_row(copy, from + c * w.strides[1], w.strides[2], kernel);
        copy += kernel;
      }
    }
    return true;
  }
};

// Bytes of columns that are made at a time: they should still be in the second-level cache when
// they are multiplied.
constexpr int64_t kColumnBytes = 128 << 10;
// Multiply-adds that are worth a thread of their own.
constexpr int64_t kGrainWork = 1 << 20;

// Output positions per tile.
int64_t tile_length(int64_t columns, int64_t size, int64_t out_length) {
  const int64_t n = kColumnBytes / (max_of(columns, int64_t(1)) * size) / 64 * 64;
  return min_of(max_of(n, int64_t(64)), max_of(out_length, int64_t(1)));
}

int64_t grain_of(int64_t work) { return 1 + kGrainWork / (work + 1); }

void fail(vt_status &status, vt_status error) {
  __atomic_store_n(&status, error, __ATOMIC_RELAXED);
}

// One output channel of a group with stride one, as scaled and shifted rows: a product with a
// single row would not be worth its columns. `y` is contiguous.
template <class S>
void add_shifted_rows(const ConvShape &s, const S *x, int64_t channel, const S *w, int64_t w_col,
                      int64_t first, int64_t n, S start, S *y) {
  for (int64_t l = 0; l < n; l++) y[l] = start;
  y -= first;
  for (int64_t c = 0; c < s.in_channels; c++, x += channel) {
    for (int64_t k = 0; k < s.kernel; k++, w += w_col) {
      const Inside in = inside(s, k, first, n);
      const S *from = x + s.origin(k);
      const S factor = *w;
#pragma omp simd
      for (int64_t l = in.begin; l < in.end; l++) y[l] += factor * from[l];
    }
  }
}

template <class S>
vt_status forward(const ConvShape &s, const vt_array &input, const vt_array &weight,
                  const vt_array &bias, const vt_array &out) {
  constexpr int dtype = TypeTraits<S>::code;
  Workspace frame;
  WeightMatrix<S> w;
  if (!w.set(frame, weight)) return VT_ERROR_OUT_OF_MEMORY;
  const Channels<const S> x(input);
  const Channels<S> y(out);
  // A kernel of one position reads the input where it lies.
  const bool in_place = s.kernel == 1 && s.stride == 1 && s.padding == 0;
  const bool by_rows =
      is_floating<S> && s.out_channels == 1 && s.stride == 1 && x.position == 1 && y.position == 1;
  const int64_t tile = tile_length(s.columns(), sizeof(S), s.out_length);
  const int64_t tiles = div_up(s.out_length, tile);
  vt_status status = VT_OK;
  const auto run = [&](int64_t begin, int64_t end) {
    Workspace frame;
    S *const columns = in_place ? nullptr : frame.take<S>(s.columns() * tile);
    if (!in_place && !columns) return fail(status, VT_ERROR_OUT_OF_MEMORY);
    for (int64_t i = begin; i < end; i++) {
      const int64_t first = i % tiles * tile, n = min_of(tile, s.out_length - first);
      const int64_t g = i / tiles % s.groups, b = i / tiles / s.groups;
      const S *from = x.at(b, g * s.in_channels);
      if constexpr (is_floating<S>) {
        if (by_rows) {
          const S start = given(bias) ? data_of<S>(bias)[g * bias.strides[0]] : S(0);
          add_shifted_rows(s, from, x.channel, w.data + g * w.row, w.col, first, n, start,
                           y.at(b, g) + first);
          continue;
        }
      }
      Product p;
      p.dtype = dtype;
      p.m = s.out_channels;
      p.k = s.columns();
      p.n = n;
      p.a = {w.data + g * s.out_channels * w.row, w.row, w.col};
      if (in_place) {
        p.b = {from + first * x.position, x.channel, x.position};
      } else {
        make_columns(s, from, x.channel, x.position, s.in_channels, first, n, columns, n);
        p.b = {columns, n, 1};
      }
      p.c = y.at(b, g * s.out_channels) + first * y.position;
      p.c_row = y.channel;
      p.c_col = y.position;
      if (given(bias)) {
        p.init = {data_of<S>(bias) + g * s.out_channels * bias.strides[0], bias.strides[0], 0};
      }
      const vt_status error = gemm_serial(p);
      if (error != VT_OK) return fail(status, error);
    }
  };
  parallel_for(s.batch * s.groups * tiles, grain_of(s.out_channels * s.columns() * tile), run);
  return status;
}

template <class S>
vt_status backward_input(const ConvShape &s, const vt_array &grad, const vt_array &weight,
                         const vt_array &grad_input) {
  using T = acc_t<S>;
  constexpr int dtype = TypeTraits<T>::code;
  Workspace frame;
  WeightMatrix<S> w;
  if (!w.set(frame, weight)) return VT_ERROR_OUT_OF_MEMORY;
  const Channels<const S> y(grad);
  const Channels<S> x(grad_input);
  // Input channels per unit of work; different channels share nothing.
  const int64_t fitting =
      kColumnBytes / int64_t(sizeof(T)) / max_of(int64_t(1), s.kernel * s.out_length);
  const int64_t chunk = clamp_to(fitting, min_of(int64_t(16), s.in_channels), s.in_channels);
  const int64_t chunks = div_up(s.in_channels, chunk);
  vt_status status = VT_OK;
  const auto run = [&](int64_t begin, int64_t end) {
    constexpr bool kConvert = !std::is_same<S, T>::value;
    Workspace frame;
    T *const columns = frame.take<T>(chunk * s.kernel * s.out_length);
    T *const row = frame.take<T>(s.length);
    // Half types are multiplied as float, so that the sum over kernel positions rounds once.
    T *const weight_copy = kConvert ? frame.take<T>(s.out_channels * chunk * s.kernel) : nullptr;
    T *const grad_copy = kConvert ? frame.take<T>(s.out_channels * s.out_length) : nullptr;
    if (!columns || !row || (kConvert && (!weight_copy || !grad_copy))) {
      return fail(status, VT_ERROR_OUT_OF_MEMORY);
    }
    for (int64_t i = begin; i < end; i++) {
      const int64_t c0 = i % chunks * chunk, channels = min_of(chunk, s.in_channels - c0);
      const int64_t g = i / chunks % s.groups, b = i / chunks / s.groups;
      const S *w_from = w.data + g * s.out_channels * w.row + c0 * s.kernel * w.col;
      const S *y_from = y.at(b, g * s.out_channels);
      Product p;
      p.dtype = dtype;
      p.m = channels * s.kernel;
      p.k = s.out_channels;
      p.n = s.out_length;
      if constexpr (kConvert) {
        for (int64_t o = 0; o < s.out_channels; o++) {
          read_run(weight_copy + o * p.m, w_from + o * w.row, w.col, p.m);
          read_run(grad_copy + o * p.n, y_from + o * y.channel, y.position, p.n);
        }
        p.a = {weight_copy, 1, p.m};
        p.b = {grad_copy, p.n, 1};
      } else {
        p.a = {w_from, w.col, w.row};
        p.b = {y_from, y.channel, y.position};
      }
      p.c = columns;
      p.c_row = s.out_length;
      p.c_col = 1;
      const vt_status error = gemm_serial(p);
      if (error != VT_OK) return fail(status, error);
      for (int64_t c = 0; c < channels; c++) {
        memset(static_cast<void *>(row), 0, sizeof(T) * s.length);
        for (int64_t k = 0; k < s.kernel; k++) {
          const Inside in = inside(s, k, 0, s.out_length);
          const T *from = columns + (c * s.kernel + k) * s.out_length;
          T *to = row + s.origin(k);
          if (s.stride == 1) {
#pragma omp simd
            for (int64_t l = in.begin; l < in.end; l++) to[l] += from[l];
          } else {
            for (int64_t l = in.begin; l < in.end; l++) to[l * s.stride] += from[l];
          }
        }
        write_run(x.at(b, g * s.in_channels + c0 + c), x.position, row, s.length);
      }
    }
  };
  parallel_for(s.batch * s.groups * chunks,
               grain_of(s.out_channels * s.out_length * chunk * s.kernel), run);
  return status;
}

template <class S>
vt_status backward_weight(const ConvShape &s, const vt_array &grad, const vt_array &input,
                          const vt_array &grad_weight) {
  using T = acc_t<S>;
  constexpr int dtype = TypeTraits<T>::code;
  constexpr bool kConvert = !std::is_same<S, T>::value;
  const Channels<const S> y(grad), x(input);
  // A unit of work is some input channels against some output channels, over the whole batch.
  const int64_t chunk = min_of(s.in_channels, div_up(int64_t(128), s.kernel));
  const int64_t chunks = div_up(s.in_channels, chunk);
  const int64_t wanted = div_up(int64_t(vt_get_num_threads()), s.groups * chunks);
  const int64_t out_chunk = clamp_to(s.out_channels / wanted, min_of(int64_t(8), s.out_channels),
                                     max_of(s.out_channels, int64_t(1)));
  const int64_t out_chunks = div_up(s.out_channels, out_chunk);
  const int64_t tile = tile_length(chunk * s.kernel, sizeof(T), s.out_length);
  vt_status status = VT_OK;
  const auto run = [&](int64_t begin, int64_t end) {
    Workspace frame;
    S *const columns = frame.take<S>(chunk * s.kernel * tile);
    T *const sums = frame.take<T>(out_chunk * chunk * s.kernel);
    T *const columns_copy = kConvert ? frame.take<T>(chunk * s.kernel * tile) : nullptr;
    T *const grad_copy = kConvert ? frame.take<T>(out_chunk * tile) : nullptr;
    if (!columns || !sums || (kConvert && (!columns_copy || !grad_copy))) {
      return fail(status, VT_ERROR_OUT_OF_MEMORY);
    }
    for (int64_t i = begin; i < end; i++) {
      const int64_t o0 = i % out_chunks * out_chunk, outs = min_of(out_chunk, s.out_channels - o0);
      const int64_t c0 = i / out_chunks % chunks * chunk;
      const int64_t channels = min_of(chunk, s.in_channels - c0), g = i / out_chunks / chunks;
      const int64_t width = channels * s.kernel;
      memset(static_cast<void *>(sums), 0, sizeof(T) * outs * width);
      for (int64_t b = 0; b < s.batch; b++) {
        const S *y_from = y.at(b, g * s.out_channels + o0);
        for (int64_t first = 0; first < s.out_length; first += tile) {
          const int64_t n = min_of(tile, s.out_length - first);
          make_columns(s, x.at(b, g * s.in_channels + c0), x.channel, x.position, channels, first,
                       n, columns, n);
          Product p;
          p.dtype = dtype;
          p.m = outs;
          p.k = n;
          p.n = width;
          if constexpr (kConvert) {
            read_run(columns_copy, columns, 1, width * n);
            for (int64_t o = 0; o < outs; o++) {
              read_run(grad_copy + o * n, y_from + o * y.channel + first * y.position, y.position,
                       n);
            }
            p.a = {grad_copy, n, 1};
            p.b = {columns_copy, 1, n};
          } else {
            p.a = {y_from + first * y.position, y.channel, y.position};
            p.b = {columns, 1, n};
          }
          p.c = sums;
          p.c_row = width;
          p.c_col = 1;
          p.init = {sums, width, 1};
          const vt_status error = gemm_serial(p);
          if (error != VT_OK) return fail(status, error);
        }
      }
      for (int64_t o = 0; o < outs; o++) {
        for (int64_t c = 0; c < channels; c++) {
          S *to = data_of<S>(grad_weight) + (g * s.out_channels + o0 + o) * grad_weight.strides[0] +
                  (c0 + c) * grad_weight.strides[1];
          write_run(to, grad_weight.strides[2], sums + o * width + c * s.kernel, s.kernel);
        }
      }
    }
  };
  parallel_for(s.groups * chunks * out_chunks,
               grain_of(out_chunk * chunk * s.kernel * s.out_length * s.batch), run);
  return status;
}

constexpr unsigned kConvTypes = kIntegers | kFloating | kComplex;

}  // namespace

// arrays: input (N, Cin, L), weight (Cout, Cin / groups, K), bias (Cout) or none,
// out (N, Cout, L'); values: stride, padding, dilation (each an int or a list of one), groups.
vt_status conv1d_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const ConvShape s = conv_shape(arrays[0], arrays[1], arrays[3], values);
  return dispatch<kConvTypes>(arrays[3].dtype, [&](auto tag) {
    return forward<typename decltype(tag)::type>(s, arrays[0], arrays[1], arrays[2], arrays[3]);
  });
}

// arrays: grad (N, Cout, L'), weight (Cout, Cin / groups, K), grad_input (N, Cin, L); values as in
// conv1d_cpu.
vt_status conv1d_backward_input_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const ConvShape s = conv_shape(arrays[2], arrays[1], arrays[0], values);
  return dispatch<kConvTypes>(arrays[2].dtype, [&](auto tag) {
    return backward_input<typename decltype(tag)::type>(s, arrays[0], arrays[1], arrays[2]);
  });
}

// arrays: grad (N, Cout, L'), input (N, Cin, L), grad_weight (Cout, Cin / groups, K); values as in
// conv1d_cpu.
vt_status conv1d_backward_weight_cpu(const vt_array *arrays, const vt_value *values, vt_context *) {
  const ConvShape s = conv_shape(arrays[1], arrays[2], arrays[0], values);
  return dispatch<kConvTypes>(arrays[2].dtype, [&](auto tag) {
    return backward_weight<typename decltype(tag)::type>(s, arrays[0], arrays[1], arrays[2]);
  });
}

}  // namespace VT_NS
