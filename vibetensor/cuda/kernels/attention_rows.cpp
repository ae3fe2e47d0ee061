// The tables of attention_choices.h as rows of one kind, for vibetensor.backends.cuda.attention.
#include "vibetensor/cuda/attention_api.h"
#include "vibetensor/cuda/kernels/attention_choices.h"

int vt_attention_hopper_min_rows = vt_cuda::kHopperMinRows;

namespace vt_cuda {
namespace {

constexpr const char *kPrecisions[] = {"half", "tf32", "tf32x3"};

vt_attention_row row_of(const char *step, const Tile &t) {
  return {step,
          "plain",
          kPrecisions[t.precision],
          t.bound == kAny ? -1 : t.bound == kCausal,
          t.dim,
          kEvery,
          t.keys,
          1 << t.m,
          1 << t.n,
          t.warps,
          t.stages};
}

vt_attention_row row_of(const char *step, const HopperForward &t) {
  return {step,   "hopper", "half", t.causal,         t.dim,   t.max_rows,
          kEvery, t.m,      t.n,    4 * t.warpgroups, t.stages};
}

vt_attention_row row_of(const char *step, const HopperBackward &t) {
  return {t.shared ? "backward, shared keys" : step,
          "hopper",
          "half",
          t.shared ? 1 : -1,
          t.dim,
          t.max_rows,
          kEvery,
          t.m,
          t.n,
          8,
          t.stages};
}

// Takes row i of a table, or counts the table's rows off.
template <class Row, int N>
bool take(int &i, const char *step, const Row (&rows)[N], vt_attention_row *to) {
  if (i < N) {
    *to = row_of(step, rows[i]);
    return true;
  }
  i -= N;
  return false;
}

}  // namespace
}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" int vt_attention_row_at(int i, int major, vt_attention_row *row) {
  if (major == 9 &&
      (take(i, "forward", kHopperForward, row) || take(i, "backward", kHopperBackward, row))) {
    return 1;
  }
  return take(i, "forward, keys in one tile", kWholeTiles, row) ||
         take(i, "forward", kForwardTiles, row) ||
         take(i, "backward, keys in one tile", kShortTiles, row) ||
         take(i, "backward, query", kQueryTiles, row) ||
         take(i, "backward, key and value", kKeyTiles, row) ||
         take(i, "backward, mask", kBiasTiles, row);
}
