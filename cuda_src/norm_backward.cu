// The gradients of layer norm and rms norm, of x or of residual + dropout(x). With v = (x - mean) * rstd and h = g * weight,
//   dx = rstd * (h - mean(h) - v * mean(h * v)), without mean(h) for rms norm,
//   dweight = sum over rows of g * v, dbias = sum over rows of g.
// The sums over rows are taken in pieces, whose results a second kernel adds in order.
#include "vt/norm.cuh"

namespace VT_NS {
namespace {

// What becomes of a row of dx: it is stored.
template <class T>
struct StoredRows {
  static constexpr int E = norm_slice(sizeof(T));
  using Slice = RowSlice<T, E>;
  const NormBackwardArgs &norm;

  __device__ __forceinline__ void announce(void *, int, int) const {}
  __device__ __forceinline__ void put(acc_t<T> (&dx)[E], const void *, int row, int n) const {
    Slice::store(dx, static_cast<T *>(norm.dx) + row * norm.dx_stride, n, 1, true);
  }
};

// The gradient that comes from elsewhere is added before, and what was dropped gets its share. There are
// no registers to fetch a row of `extra` ahead, but it has `room` in shared memory: a thread copies what
// it will need itself.
template <class T, class X>
struct SharedRows {
  static constexpr int E = norm_slice(sizeof(T));
  using V = acc_t<T>;
  using Slice = RowSlice<T, E>;
  static constexpr int K = Slice::K;
  const AddNormBackwardArgs &a;
  const NormBackwardArgs &norm;

  __device__ __forceinline__ explicit SharedRows(const AddNormBackwardArgs &args)
      : a(args), norm(args.norm) {}
  static __device__ __forceinline__ int slot(int p) {
    return p * kNormThreads + int(threadIdx.y * blockDim.x + threadIdx.x);
  }
  __device__ __forceinline__ void announce(void *room, int row, int n) const {
    if (!a.extra || !norm.dx) return;
    const unsigned to = unsigned(__cvta_generic_to_shared(room));
    const T *const extra = static_cast<const T *>(a.extra) + row * a.extra_stride;
#pragma unroll
    for (int p = 0; p < Slice::P; p++) {
      const int i = Slice::index(true, p * K);
      if (i < n) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + slot(p) * 16),
                     "l"(extra + i)
                     : "memory");
      }
    }
  }
  __device__ __forceinline__ void put(V (&dx)[E], const void *room, int row, int n) const {
    if (a.extra) asm volatile("cp.async.wait_all;" ::: "memory");
    T *const to = static_cast<T *>(norm.dx) + row * norm.dx_stride;
    X *const dropped = static_cast<X *>(a.dropped) + row * a.dropped_stride;
#pragma unroll
    for (int p = 0; p < Slice::P; p++) {
      const int i = Slice::index(true, p * K);
      if (i >= n) continue;
      V d[K];
#pragma unroll
      for (int k = 0; k < K; k++) d[k] = dx[p * K + k];
      if (a.extra) {
        const Pack<T, K> more = static_cast<const Pack<T, K> *>(room)[slot(p)];
#pragma unroll
        for (int k = 0; k < K; k++) d[k] += static_cast<V>(more.x[k]);
      }
      Pack<T, K> out;
#pragma unroll
      for (int k = 0; k < K; k++) out.x[k] = store_as<T>(d[k]);
      store_pack<T, K>(to + i, out);
      if (!a.dropped) continue;
      if (a.dropout.active) a.dropout.template apply<V, K>(d, row * norm.n + i);
      Pack<X, K> share;
#pragma unroll
      for (int k = 0; k < K; k++) share.x[k] = static_cast<X>(d[k]);
      store_pack<X, K>(dropped + i, share);
    }
  }
};

// Each group takes every so many-th row, made of whole packs, and keeps its sums over rows in
// registers. The next row is fetched while one is worked on.
// The gradient of the norm is of type G.
template <class T, class G, class Rows>
__device__ __forceinline__ void backward_rows(const Rows &out_rows) {
  const NormBackwardArgs &a = out_rows.norm;
  using V = acc_t<T>;
  constexpr int E = norm_slice(sizeof(T));
  using Slice = RowSlice<T, E>;
  __shared__ Two<V> room[Group<V>::kRoom];
  alignas(16) __shared__ V sums[kNormThreads * E];  // at the end; before, room for rows to come
  Group<Two<V>> group(room);
  constexpr int K = Slice::K;
  const G *const gs = static_cast<const G *>(a.g);
  const T *const xs = static_cast<const T *>(a.x);
  const V *const means = static_cast<const V *>(a.mean), *const rstds =
                                                             static_cast<const V *>(a.rstd);
  // 32 bits, for want of registers.
  const int rows = int(a.rows), step = gridDim.x * blockDim.y;
  const bool rms = a.rms;
  const V scale = V(1) / static_cast<V>(a.n);
  int first = blockIdx.x * blockDim.y, row = first + threadIdx.y;
  typename Slice::Raw raw_x;
  Pack<G, K> raw_g[Slice::P];
  V dw[E], db[E];
#pragma unroll
  for (int e = 0; e < E; e++) dw[e] = db[e] = V(0);
  const int width = int(a.n);
  V next_mean = V(0), next_rstd = V(0);
  const auto fetch = [&](int r) {
    const int n = r < rows ? width : 0;
#pragma unroll
    for (int p = 0; p < Slice::P; p++) {
      const int i = Slice::index(true, p * K);
      if (i < n) raw_g[p] = load_pack<G, K>(gs + r * a.g_stride + i);
    }
    Slice::fetch(raw_x, xs + r * a.x_stride, n, 1, true);
    if (n > 0) {
      next_rstd = rstds[r];
      if (!rms) next_mean = means[r];
    }
  };
  fetch(row);
  out_rows.announce(sums, row, row < rows ? width : 0);
#pragma unroll 1
  for (; first < rows; first += step, row += step) {
    const int n = row < rows ? width : 0;
    const V mean = next_mean, rstd = next_rstd;
    V g[E], v[E];
#pragma unroll
    for (int e = 0; e < E; e++) {
      g[e] = Slice::index(true, e) < n ? static_cast<V>(raw_g[e / K].x[e % K]) : V(0);
    }
    Slice::unpack(v, raw_x, n, true, mean);
    fetch(row + step);
#pragma unroll
    for (int e = 0; e < E; e++) {
      v[e] = (v[e] - mean) * rstd;
      dw[e] += g[e] * v[e];
      db[e] += g[e];
    }
    if (!a.dx) continue;
    map_parameter<T>(g, a.weight, n, [](V p, V w) { return p * w; });
    Two<V> s = {V(0), V(0)};
#pragma unroll
    for (int e = 0; e < E; e++) {
      s.a += g[e];
      s.b += g[e] * v[e];
    }
    s = group.fold(s, AddTwo<V>());
    const V shift = rms ? V(0) : s.a * scale, slope = s.b * scale;
#pragma unroll
    for (int e = 0; e < E; e++) g[e] = (g[e] - shift - v[e] * slope) * rstd;
    out_rows.put(g, sums, row, n);
    out_rows.announce(sums, row + step, row + step < rows ? width : 0);
  }

  // Groups that share a warp add their sums by shuffles; then a thread for each column adds what the
  // groups or warps of the block have, in order.
  const unsigned threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
  const unsigned team = blockDim.x < 32 ? 32 : blockDim.x;
  const auto put = [&](V(&part)[E], void *to) {
    if (!to) return;
    for (unsigned d = 16; d >= blockDim.x; d /= 2) {
#pragma unroll
      for (int e = 0; e < E; e++) part[e] += __shfl_xor_sync(0xffffffffu, part[e], d);
    }
    __syncthreads();
    if (thread % team < blockDim.x) {
#pragma unroll
      for (int e = 0; e < E; e++) {
        const int i = Slice::index(true, e);
        if (i < width) sums[thread / team * width + i] = part[e];
      }
    }
    __syncthreads();
    V *const out = static_cast<V *>(to) + blockIdx.x * a.n;
    for (int i = thread; i < width; i += threads) {
      V sum = sums[i];
      for (unsigned t = 1; t < threads / team; t++) sum += sums[t * width + i];
      out[i] = sum;
    }
  };
  put(dw, a.weight_sums);
  put(db, a.bias_sums);
}

// ---- rows of any length and alignment: read twice for dx, once more for the sums over rows ----

template <class T, class G>
__device__ __forceinline__ void backward_long(const NormBackwardArgs &a) {
  using V = acc_t<T>;
  __shared__ Two<V> room[Group<V>::kRoom];
  Group<Two<V>> group(room);
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const bool live = row < a.rows, rms = a.rms, has_weight = a.weight.data;
  const int64_t n = live ? a.n : 0;
  const G *const g = static_cast<const G *>(a.g) + row * a.g_stride;
  const T *const x = static_cast<const T *>(a.x) + row * a.x_stride;
  T *const dx = static_cast<T *>(a.dx) + row * a.dx_stride;
  const V mean = live && !rms ? static_cast<const V *>(a.mean)[row] : V(0);
  const V rstd = live ? static_cast<const V *>(a.rstd)[row] : V(0);
  const bool packed = in_phase(x, g) && same_phase<T>(x, dx);
  with_floating(a.weight.data, a.weight.dtype, [&](auto weight) {
    Two<V> s = {V(0), V(0)};
    for_row(x, n, packed, [&](auto count, int64_t i) {
      constexpr int N = decltype(count)::value;
      const Pack<T, N> p = load_pack<T, N>(x + i);
      const Pack<G, N> q = load_pack<G, N>(g + i);
#pragma unroll
      for (int k = 0; k < N; k++) {
        const V v = (static_cast<V>(p.x[k]) - mean) * rstd;
        V h = static_cast<V>(q.x[k]);
        if (has_weight) h *= as_compute<V>(weight[i + k]);
        s.a += h;
        s.b += h * v;
      }
    });
    s = group.fold(s, AddTwo<V>());
    const V scale = V(1) / static_cast<V>(a.n);
    const V shift = rms ? V(0) : s.a * scale, slope = s.b * scale;
    for_row(x, n, packed, [&](auto count, int64_t i) {
      constexpr int N = decltype(count)::value;
      const Pack<T, N> p = load_pack<T, N>(x + i);
      const Pack<G, N> q = load_pack<G, N>(g + i);
      Pack<T, N> out;
#pragma unroll
      for (int k = 0; k < N; k++) {
        const V v = (static_cast<V>(p.x[k]) - mean) * rstd;
        V h = static_cast<V>(q.x[k]);
        if (has_weight) h *= as_compute<V>(weight[i + k]);
        out.x[k] = store_as<T>((h - shift - v * slope) * rstd);
      }
      store_pack<T, N>(dx + i, out);
    });
  });
}

// After backward_long, for the same rows: what SharedRows does.
template <class T, class X>
__device__ __forceinline__ void share_long(const AddNormBackwardArgs &a) {
  using V = acc_t<T>;
  const int64_t row = int64_t(blockIdx.x) * blockDim.y + threadIdx.y;
  const int64_t n = row < a.norm.rows ? a.norm.n : 0;
  const T *const extra = static_cast<const T *>(a.extra) + row * a.extra_stride;
  T *const dx = static_cast<T *>(a.norm.dx) + row * a.norm.dx_stride;
  X *const dropped = static_cast<X *>(a.dropped) + row * a.dropped_stride;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
    V d[1] = {static_cast<V>(dx[i])};
    if (a.extra) {
      d[0] += static_cast<V>(extra[i]);
      dx[i] = store_as<T>(d[0]);
    }
    if (!a.dropped) continue;
    if (a.dropout.active) a.dropout.template apply<V, 1>(d, row * a.norm.n + i);
    dropped[i] = static_cast<X>(d[0]);
  }
}

// A thread per column and piece of the rows.
template <class T, class G>
__device__ __forceinline__ void backward_columns(const NormBackwardArgs &a) {
  using V = acc_t<T>;
  const int64_t c = int64_t(blockIdx.x) * blockDim.x + threadIdx.x, piece = blockIdx.y;
  if (c >= a.n) return;
  const G *const g = static_cast<const G *>(a.g) + c;
  const T *const x = static_cast<const T *>(a.x) + c;
  const V *const means = static_cast<const V *>(a.mean), *const rstds =
                                                             static_cast<const V *>(a.rstd);
  V dw = V(0), db = V(0);
#pragma unroll 4
  for (int64_t r = piece; r < a.rows; r += a.pieces) {
    const V q = static_cast<V>(g[r * a.g_stride]);
    const V mean = a.rms ? V(0) : means[r];
    dw += q * ((static_cast<V>(x[r * a.x_stride]) - mean) * rstds[r]);
    db += q;
  }
  if (a.weight_sums) static_cast<V *>(a.weight_sums)[piece * a.n + c] = dw;
  if (a.bias_sums) static_cast<V *>(a.bias_sums)[piece * a.n + c] = db;
}

// The sums of the pieces: blockIdx.y is 0 for the weight, 1 for the bias.
template <class V>
__device__ __forceinline__ void finish(const NormFinishArgs &a) {
  __shared__ V room[kNormFinishY][kNormFinishX];
  const bool bias = blockIdx.y == 1;
  const V *const from = static_cast<const V *>(bias ? a.bias_sums : a.weight_sums);
  void *const to = bias ? a.bias : a.weight;
  if (!to) return;
  const int64_t c = int64_t(blockIdx.x) * kNormFinishX + threadIdx.x;
  V sum = V(0);
  if (c < a.n) {
#pragma unroll 4
    for (int64_t p = threadIdx.y; p < a.pieces; p += kNormFinishY) sum += from[p * a.n + c];
  }
  room[threadIdx.y][threadIdx.x] = sum;
  for (int half = kNormFinishY / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.y < half) {
      room[threadIdx.y][threadIdx.x] += room[threadIdx.y + half][threadIdx.x];
    }
  }
  if (threadIdx.y > 0 || c >= a.n) return;
  with_floating(to, bias ? a.bias_dtype : a.weight_dtype, [&](auto typed) {
    using W = typename pointee<decltype(typed)>::type;
    const_cast<W *>(typed)[c] = static_cast<W>(static_cast<acc_t<W>>(room[0][threadIdx.x]));
  });
}

}  // namespace
}  // namespace VT_NS

// SUFFIX names T, the type of the rows, or G, that of the gradient of the norm.
#define VT_NORM_BACKWARD_COLUMNS(SUFFIX, T, G)                                            \
  extern "C" __global__ void __launch_bounds__(vt::kNormColumns)                          \
      vt_norm_backward_columns_##SUFFIX(const __grid_constant__ vt::NormBackwardArgs a) { \
    vt::backward_columns<T, G>(a);                                                        \
  }
#define VT_NORM_BACKWARD_KERNELS(SUFFIX, T)                                            \
  extern "C" __global__ void __maxnreg__(vt::kNormBackwardRegisters)                   \
      vt_norm_backward_rows_##SUFFIX(const __grid_constant__ vt::NormBackwardArgs a) { \
    vt::backward_rows<T, T>(vt::StoredRows<T>{a});                                     \
  }                                                                                    \
  extern "C" __global__ void __launch_bounds__(vt::kNormLong, 1)                       \
      vt_norm_backward_long_##SUFFIX(const __grid_constant__ vt::NormBackwardArgs a) { \
    vt::backward_long<T, T>(a);                                                        \
  }                                                                                    \
  VT_NORM_BACKWARD_COLUMNS(SUFFIX, T, T)
#define VT_ADD_NORM_BACKWARD_KERNELS(SUFFIX, T, X, G)                                         \
  extern "C" __global__ void __maxnreg__(vt::kNormBackwardRegisters)                          \
      vt_add_norm_backward_rows_##SUFFIX(const __grid_constant__ vt::AddNormBackwardArgs a) { \
    vt::backward_rows<T, G>(vt::SharedRows<T, X>(a));                                         \
  }                                                                                           \
  extern "C" __global__ void __launch_bounds__(vt::kNormLong, 1)                              \
      vt_add_norm_backward_long_##SUFFIX(const __grid_constant__ vt::AddNormBackwardArgs a) { \
    vt::backward_long<T, G>(a.norm);                                                          \
    vt::share_long<T, X>(a);                                                                  \
  }
#define VT_NORM_FINISH_KERNEL(SUFFIX, V)                                           \
  extern "C" __global__ void __launch_bounds__(vt::kNormFinishX *vt::kNormFinishY) \
      vt_norm_finish_##SUFFIX(const __grid_constant__ vt::NormFinishArgs a) {      \
    vt::finish<V>(a);                                                              \
  }

VT_NORM_BACKWARD_KERNELS(f16, vt::half)
VT_NORM_BACKWARD_KERNELS(bf16, vt::bfloat16)
VT_NORM_BACKWARD_KERNELS(f32, float)
VT_NORM_BACKWARD_KERNELS(f64, double)
VT_NORM_FINISH_KERNEL(f32, float)
VT_NORM_FINISH_KERNEL(f64, double)

VT_ADD_NORM_BACKWARD_KERNELS(f16, vt::half, vt::half, vt::half)
VT_ADD_NORM_BACKWARD_KERNELS(bf16, vt::bfloat16, vt::bfloat16, vt::bfloat16)
VT_ADD_NORM_BACKWARD_KERNELS(f32, float, float, float)
VT_ADD_NORM_BACKWARD_KERNELS(f64, double, double, double)
// A half type added to float; the gradient of the norm is of either.
VT_ADD_NORM_BACKWARD_KERNELS(f16_f32, float, vt::half, float)
VT_ADD_NORM_BACKWARD_KERNELS(bf16_f32, float, vt::bfloat16, float)
VT_ADD_NORM_BACKWARD_KERNELS(f16_low, float, vt::half, vt::half)
VT_ADD_NORM_BACKWARD_KERNELS(bf16_low, float, vt::bfloat16, vt::bfloat16)
VT_NORM_BACKWARD_COLUMNS(f16_low, float, vt::half)
VT_NORM_BACKWARD_COLUMNS(bf16_low, float, vt::bfloat16)
