// Vector pieces that reductions over rows share: loads of any floating type as its compute type,
// folds over the lanes of a vector, the ragged end of a row.
#ifndef VT_CPU_KERNELS_LANES_H
#define VT_CPU_KERNELS_LANES_H

#include "vibetensor/cpu/kernels/simd.h"

namespace VT_NS {

// kLanes<acc_t<T>> elements from unaligned memory, converted where T is a half type.
template <class T>
VT_INLINE vec<T> load_lanes(const T *p) {
  return load(p);
}
VT_INLINE vec<float> load_lanes(const half *p) {
#if defined(__AVX512F__)
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
#elif defined(__F16C__)
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
#else
  alignas(kVectorBytes) float to[kLanes<float>];
  load_run(to, p, kLanes<float>);
  return load(to);
#endif
}
VT_INLINE vec<float> load_lanes(const bfloat16 *p) {
#if defined(__AVX512F__)
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
#elif defined(__AVX2__)
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
#else
  alignas(kVectorBytes) float to[kLanes<float>];
  load_run(to, p, kLanes<float>);
  return load(to);
#endif
}

// A mask of lanes, as comparisons of T vectors give it.
template <class T>
using lane_mask = decltype(vec<T>{} < vec<T>{});

template <class T>
using lane_index = std::make_signed_t<typename RawBytes<sizeof(T)>::type>;

namespace lanes_detail {
// Vector constants are spelled out from a sequence: filled in a loop they are built anew on each
// use.
template <class T, class M, int... I>
VT_INLINE M last_lanes(int64_t n, std::integer_sequence<int, I...>) {
  const M lane = {static_cast<lane_index<T>>(I)...};
  return lane >= static_cast<lane_index<T>>(int64_t(sizeof...(I)) - n);
}

template <int H, class T, class V, class Combine, int... I>
VT_INLINE V fold_step(V v, const Combine &combine, std::integer_sequence<int, I...> all) {
  if constexpr (H > 0) {
    typedef lane_index<T> Index __attribute__((vector_size(sizeof(V))));
    const Index other = {static_cast<lane_index<T>>(I ^ H)...};
    return fold_step<H / 2, T>(combine(v, (V)__builtin_shuffle(v, other)), combine, all);
  } else {
    return v;
  }
}

template <int Bytes, class T, class V, class Combine>
VT_INLINE T fold(V v, const Combine &combine) {
  if constexpr (Bytes > 16) {
    typedef T Half __attribute__((vector_size(Bytes / 2)));
    Half parts[2];
    memcpy(parts, &v, sizeof(v));
    return fold<Bytes / 2, T>(combine(parts[0], parts[1]), combine);
  } else {
    constexpr int n = 16 / sizeof(T);
    return fold_step<n / 2, T>(v, combine, std::make_integer_sequence<int, n>{})[0];
  }
}
}  // namespace lanes_detail

// True in the last `n` lanes.
template <class T>
VT_INLINE lane_mask<T> last_lanes(int64_t n) {
  return lanes_detail::last_lanes<T, lane_mask<T>>(n, std::make_integer_sequence<int, kLanes<T>>{});
}

// All lanes combined into one, halves first. Combine takes and gives vectors of any width.
template <class T, class Combine>
VT_INLINE T fold_lanes(vec<T> v, const Combine &combine) {
  return lanes_detail::fold<kVectorBytes, T>(v, combine);
}

// The first `count` elements at p, fewer than a vector; the other lanes are `pad`. Nothing beyond
// them is touched.
template <class T>
VT_INLINE vec<T> load_part(const T *p, int64_t count, T pad) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) {
    const vec<int32_t> v =
        (vec<int32_t>)_mm512_mask_loadu_epi32((__m512i)splat(pad), __mmask16((1u << count) - 1), p);
    return (vec<T>)v;
  } else if constexpr (sizeof(T) == 8) {
    const vec<int64_t> v =
        (vec<int64_t>)_mm512_mask_loadu_epi64((__m512i)splat(pad), __mmask8((1u << count) - 1), p);
    return (vec<T>)v;
  }
#elif defined(__AVX2__)
  const auto beyond = last_lanes<T>(kLanes<T> - count);
  if constexpr (sizeof(T) == 4) {
    const __m256i v = _mm256_maskload_epi32(reinterpret_cast<const int *>(p), (__m256i)~beyond);
    return beyond ? splat(pad) : (vec<T>)v;
  } else if constexpr (sizeof(T) == 8) {
    const __m256i v =
        _mm256_maskload_epi64(reinterpret_cast<const long long *>(p), (__m256i)~beyond);
    return beyond ? splat(pad) : (vec<T>)v;
  }
#endif
  alignas(kVectorBytes) T room[kLanes<T>];
  store(room, splat(pad));
  for (int64_t i = 0; i < count; i++) room[i] = p[i];
  return load(room);
}

// Stores the first `count` lanes, fewer than all.
template <class T>
VT_INLINE void store_part(T *p, int64_t count, vec<T> v) {
  static_assert(sizeof(T) >= 4, "at most two halvings below 16 bytes");
  alignas(kVectorBytes) unsigned char room[kVectorBytes];
  memcpy(room, &v, sizeof(v));
  char *to = reinterpret_cast<char *>(p);
  const unsigned char *from = room;
  const int64_t bytes = count * int64_t(sizeof(T));
#pragma GCC unroll 8
  for (int64_t size = kVectorBytes / 2; size >= int64_t(sizeof(T)); size /= 2) {
    if (bytes & size) {
      __builtin_memcpy(to, from, size);
      to += size;
      from += size;
    }
  }
}

}  // namespace VT_NS

#endif
