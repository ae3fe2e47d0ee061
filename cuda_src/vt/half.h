// half and bfloat16: storage types that convert to and from float with one rounding.
#ifndef VT_HALF_H
#define VT_HALF_H

#include "vt/config.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#elif defined(__F16C__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace VT_NS {

// Bit tricks without branches, so that loops over them vectorise. Exact for every value: denormals
// keep their value and a NaN stays a (quiet) NaN with its sign and upper payload bits.
VT_HD float half_bits_to_float(uint16_t h) {
  uint32_t magnitude = uint32_t(h & 0x7fffu) << 13;
  uint32_t sign = uint32_t(h & 0x8000u) << 16;
  // Exponent and fraction moved to their places; the exponent is short by 112.
  uint32_t normal = magnitude + (112u << 23);
  uint32_t special = (magnitude | 0x7f800000u) | (magnitude > 0x0f800000u ? 0x00400000u : 0u);
  // A denormal: give it the exponent of the smallest normal, then take that normal away.
  uint32_t denormal =
      bit_cast<uint32_t>(bit_cast<float>(magnitude + (113u << 23)) - bit_cast<float>(113u << 23));
  uint32_t bits = magnitude >= 0x0f800000u ? special : normal;
  bits = magnitude < 0x00800000u ? denormal : bits;
  return bit_cast<float>(bits | sign);
}

VT_HD uint16_t float_to_half_bits(float f) {
  uint32_t bits = bit_cast<uint32_t>(f);
  uint32_t sign = (bits >> 16) & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  // Adding one half less an ulp, plus the lowest kept bit, rounds to nearest even; the carry runs
  // into the exponent as it should.
  uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Below the smallest normal half the float adder rounds: 0.5 has the ulp of a half denormal.
  uint32_t denormal = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  uint32_t special =
      magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x3ffu) : uint32_t(0x7c00u);
  uint32_t r = magnitude < (113u << 23) ? denormal : normal;
  r = magnitude >= 0x477ff000u ? special : r;
  return uint16_t(r | sign);
}

VT_HD float bfloat16_bits_to_float(uint16_t b) { return bit_cast<float>(uint32_t(b) << 16); }

VT_HD uint16_t float_to_bfloat16_bits(float f) {
  uint32_t bits = bit_cast<uint32_t>(f);
  uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  uint32_t nan = (bits >> 16) | 0x40u;
  return uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

struct half {
  uint16_t bits;
  half() = default;
  VT_HD explicit half(float f) {
#if defined(__CUDA_ARCH__)
    bits = __half_as_ushort(__float2half_rn(f));
#elif defined(__F16C__) && !defined(__CUDACC__)
    bits = uint16_t(_cvtss_sh(f, 0));
#else
    bits = float_to_half_bits(f);
#endif
  }
  VT_HD operator float() const {
#if defined(__CUDA_ARCH__)
    return __half2float(__ushort_as_half(bits));
#elif defined(__F16C__) && !defined(__CUDACC__)
    return _cvtsh_ss(bits);
#else
    return half_bits_to_float(bits);
#endif
  }
};

struct bfloat16 {
  uint16_t bits;
  bfloat16() = default;
  VT_HD explicit bfloat16(float f) {
#if defined(__CUDA_ARCH__)
    bits = __bfloat16_as_ushort(__float2bfloat16_rn(f));
#else
    bits = float_to_bfloat16_bits(f);
#endif
  }
  VT_HD operator float() const { return bfloat16_bits_to_float(bits); }
};

template <>
struct acc_type<half> {
  using type = float;
};
template <>
struct acc_type<bfloat16> {
  using type = float;
};

#ifndef __CUDACC__
// Whole runs at a time: the compiler does not vectorise the conversions of `half` by itself.
inline void load_run(float *to, const half *from, int64_t n) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8) {
    __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i *>(from + i));
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(h));
  }
  for (; i < n; i++) to[i] = float(from[i]);
#else
#pragma omp simd
  for (i = 0; i < n; i++) to[i] = half_bits_to_float(from[i].bits);
#endif
}

inline void store_run(half *to, const float *from, int64_t n) {
  int64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= n; i += 8) {
    __m128i h = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), h);
  }
  for (; i < n; i++) to[i] = half(from[i]);
#else
#pragma omp simd
  for (i = 0; i < n; i++) to[i].bits = float_to_half_bits(from[i]);
#endif
}

inline void load_run(float *to, const bfloat16 *from, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) to[i] = bfloat16_bits_to_float(from[i].bits);
}

inline void store_run(bfloat16 *to, const float *from, int64_t n) {
  int64_t i = 0;
#ifdef __AVX2__
  auto rounded = [](const float *p) {
    __m256 x = _mm256_loadu_ps(p);
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    __m256 chosen = _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(nan), is_nan);
    return _mm256_srli_epi32(_mm256_castps_si256(chosen), 16);
  };
  for (; i + 16 <= n; i += 16) {
    // Packing interleaves the halves of the registers; the permutation undoes it.
    __m256i packed = _mm256_packus_epi32(rounded(from + i), rounded(from + i + 8));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to + i),
                        _mm256_permute4x64_epi64(packed, 0xd8));
  }
  for (; i < n; i++) to[i] = bfloat16(from[i]);
#else
#pragma omp simd
  for (i = 0; i < n; i++) to[i].bits = float_to_bfloat16_bits(from[i]);
#endif
}
#endif

}  // namespace VT_NS
#endif
