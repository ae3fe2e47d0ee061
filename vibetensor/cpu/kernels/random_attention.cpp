// The choice of attention's dropout, written out; the attention kernels make it as they go.
#include "vibetensor/cpu/kernel_utils.h"
#include "vibetensor/cpu/parallel.h"
#include "vt/attention_dropout.h"

namespace VT_NS {

namespace {

template <class T>
void write_row(T *to, int64_t keys, uint64_t head, uint32_t query, uint64_t seed, uint64_t offset,
               uint32_t threshold) {
  const T scale = T(attention_keep_scale(threshold));
  for (int64_t j = 0; j < keys; j++) {
    const PhiloxBlock bits = attention_bits(seed, offset, head, query, uint32_t(j));
    const bool kept = attention_piece(bits, int(j / 8 % kDropoutPieces)) < threshold;
    to[j] = kept ? scale : T(0);
  }
}

}  // namespace

// query (B, H, ...; not read), out (B, H, Tq, Tk) float or double; dropout_p, seed, offset.
vt_status attention_dropout_cpu(const vt_array *a, const vt_value *v, vt_context *) {
  const int64_t queries = a[1].sizes[2], keys = a[1].sizes[3];
  const uint32_t threshold = attention_threshold(v[0].re);
  const uint64_t seed = uint64_t(v[1].i), offset = uint64_t(v[2].i);
  const int64_t rows = a[1].sizes[0] * a[1].sizes[1] * queries;
  parallel_for(rows, 1 + 4096 / (keys + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const uint64_t head = uint64_t(row / queries);
      const uint32_t query = uint32_t(row % queries);
      if (a[1].dtype == VT_F64) {
        write_row(data_of<double>(a[1]) + row * keys, keys, head, query, seed, offset, threshold);
      } else {
        write_row(data_of<float>(a[1]) + row * keys, keys, head, query, seed, offset, threshold);
      }
    }
  });
  return VT_OK;
}

}  // namespace VT_NS
