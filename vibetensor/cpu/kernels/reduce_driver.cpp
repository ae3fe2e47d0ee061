#include "vibetensor/cpu/kernels/reduce.h"

namespace VT_NS {

namespace {
// Below this many elements a split over threads or pieces costs more than it gives.
constexpr int64_t kPieceWork = 65536;
constexpr int64_t kGrainWork = 32768;
constexpr int64_t kMaxPieces = 64;
}  // namespace

vt_status run_reduction(const Reducer &r, const vt_array &in, const vt_array &out,
                        double correction) {
  if (out.numel == 0) return VT_OK;
  ReduceInfo info;
  info.count = in.numel / out.numel;
  info.correction = correction;
  if (out.numel == 1 && in.contiguous && in.numel <= kGrainWork) {
    alignas(64) char state[64];
    r.init(state, 1);
    r.block(in.data, 0, 1, 1, in.numel, state);
    r.finish(state, 1, out.data, 1, info);
    return VT_OK;
  }

  Layout<2> kept;
  Layout<1> reduced;
  for (int d = in.ndim - 1; d >= 0; d--) {
    if (in.sizes[d] == 1) continue;
    if (out.sizes[d] == 1) {
      reduced.push(in.sizes[d], in.strides[d]);
    } else {
      kept.push(in.sizes[d], in.strides[d], out.strides[d]);
    }
  }
  kept.sort();
  kept.coalesce();
  reduced.sort();
  reduced.coalesce();

  const int64_t in_size = dtype_size(in.dtype), out_size = dtype_size(out.dtype);
  const int64_t outer = kept.ndim > 0 ? kept.sizes[0] : 1;
  const int64_t outer_stride = inner_stride(kept, 0), out_stride = inner_stride(kept, 1);
  const int64_t stride = inner_stride(reduced, 0);
  const bool by_rows = llabs(stride) < llabs(outer_stride);
  int64_t tile = r.tile;
  if (by_rows) tile = clamp_to<int64_t>(kGrainWork / max_of<int64_t>(info.count, 1), 1, tile);
  tile = min_of(tile, outer);
  const int64_t tiles = div_up(outer, tile);
  tile = div_up(outer, tiles);
  const int64_t tasks = tiles * (out.numel / outer);

  const auto address = [&](const Walker<2, 1> &w, int64_t t) {
    return in.data + (w.offset[0] + t * tile * outer_stride) * in_size;
  };
  const auto target = [&](const Walker<2, 1> &w, int64_t t) {
    return out.data + (w.offset[1] + t * tile * out_stride) * out_size;
  };
  const auto fold = [&](const char *x, int64_t n, int64_t begin, int64_t end, char *states) {
    r.init(states, n);
    for_runs(reduced, begin, end, [&](const int64_t *offset, int64_t run) {
      r.block(x + offset[0] * in_size, outer_stride, stride, n, run, states);
    });
  };

  if (tasks >= 16 || in.numel < 2 * kPieceWork) {
    const int64_t grain = max_of<int64_t>(1, kGrainWork / max_of<int64_t>(in.numel / tasks, 1));
    parallel_for(tasks, grain, [&](int64_t begin, int64_t end) {
      alignas(64) char states[kReduceStateBytes];
      Walker<2, 1> w(kept, begin / tiles);
      int64_t t = begin % tiles;
      for (int64_t i = begin; i < end; i++) {
        const int64_t n = min_of(tile, outer - t * tile);
        fold(address(w, t), n, 0, info.count, states);
        r.finish(states, n, target(w, t), out_stride, info);
        if (++t == tiles) {
          t = 0;
          w.next();
        }
      }
    });
    return VT_OK;
  }

  // Few outputs, each of many elements: cut the reduced elements into pieces too.
  const int64_t limit = min_of(kMaxPieces / tasks + 1, in.numel / kPieceWork);
  const int64_t length = (div_up(info.count, limit) + 63) & ~int64_t(63);
  const int64_t pieces = div_up(info.count, length);
  const int64_t room = (tile * r.state_size + 63) & ~int64_t(63);
  Scratch<char, kReduceStateBytes> partial(tasks * pieces * room);
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  parallel_for(tasks * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t task = i / pieces, piece = i % pieces, t = task % tiles;
      const Walker<2, 1> w(kept, task / tiles);
      fold(address(w, t), min_of(tile, outer - t * tile), piece * length,
           min_of((piece + 1) * length, info.count), partial.data() + i * room);
    }
  });
  for (int64_t task = 0; task < tasks; task++) {
    const int64_t t = task % tiles, n = min_of(tile, outer - t * tile);
    const Walker<2, 1> w(kept, task / tiles);
    char *states = partial.data() + task * pieces * room;
    for (int64_t k = 1; k < pieces; k++) r.merge(states, states + k * room, n);
    r.finish(states, n, target(w, t), out_stride, info);
  }
  return VT_OK;
}

}  // namespace VT_NS
