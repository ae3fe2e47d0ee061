// Optimizer steps, gradient norm, scaling and casts over lists of tensors: one launch for up to some 700 of
// them, whose addresses travel as kernel parameters (vt/optim_args.h). No copies, no waiting.
#include <math.h>

#include <list>

#include "vibetensor/cuda/kernels/contiguous.h"
#include "vt/optim_args.h"

using namespace vt_cuda;

namespace {

constexpr int kThreads = 256;
constexpr int64_t kLeastChunk = 1024, kMostChunk = 16 << 10;

// ---- memory order ----

// Whether an array fills its memory without gaps, in whatever order of dimensions.
bool is_dense(const vt_array &a) {
  if (is_contiguous(a)) return true;
  Dims<1> dims = dims_of(-1, a);
  dims.sort();
  dims.coalesce();
  return dims.ndim <= 1 && (dims.ndim == 0 || dims.strides[0][0] == 1);
}

bool same_strides(const vt_array &a, const vt_array &b) {
  for (int d = 0; d < a.ndim; d++) {
    if (a.sizes[d] != 1 && a.strides[d] != b.strides[d]) return false;
  }
  return true;
}

// ---- launches over lists ----

// One kernel in its two sizes.
struct Kernels {
  KernelSet small, large;
};

// How one operator uses its lists: `lists` of them, the arrays of list l used as uses[l] says.
template <int Lists>
struct Operands {
  const vt_value *lists[Lists];  // NULL: not there
  Contiguous::Use uses[Lists];
};

vt_status check_floating(const vt_value &list) {
  for (int64_t k = 0; k < list.n; k++) {
    if (!in_set(kFloatingSet, list.arrays[k].dtype)) return VT_ERROR_DTYPE;
  }
  return VT_OK;
}

// Enough blocks to fill the device, but no more than long runs need.
int64_t chunk_for(const vt_context *ctx, int64_t total) {
  const int64_t blocks = 8 * int64_t(properties(ctx).sm_count);
  const int64_t chunk = div_up(div_up(total, blocks), kLeastChunk) * kLeastChunk;
  return chunk < kLeastChunk ? kLeastChunk : chunk > kMostChunk ? kMostChunk : chunk;
}

// Collects the tensors of one dtype into a table and launches it whenever it is full.
template <class Args>
class Batch {
 public:
  using Table = typename Args::Table;
  static constexpr int kLists = Table::lists;

  // launched(args, blocks) is told before each launch, to complete the arguments.
  template <class F>
  static vt_status run(vt_context *ctx, KernelSet &kernels, const Operands<kLists> &operands,
                       int dtype, int64_t chunk, Args &args, const F &launched) {
    Table &table = args.table;
    const vt_value &first = *operands.lists[0];
    std::list<Contiguous> copies;  // of arrays in another order, for the current table
    int64_t blocks = 0;
    table.chunk = chunk;
    const auto flush = [&]() -> vt_status {
      if (table.count == 0) return VT_OK;
      launched(args, blocks);
      vt_status status =
          launch(ctx, kernels[dtype], {static_cast<unsigned>(blocks)}, {kThreads}, 0, args);
      for (Contiguous &copy : copies) {
        if (status == VT_OK) status = copy.finish();
      }
      copies.clear();
      table.count = 0;
      blocks = 0;
      return status;
    };
    for (int64_t k = 0; k < first.n; k++) {
      const vt_array &a = first.arrays[k];
      if (a.dtype != dtype || a.numel == 0) continue;
      const int64_t more = div_up(a.numel, chunk);
      if (table.count == Table::capacity || blocks + more > INT32_MAX) {
        const vt_status status = flush();
        if (status != VT_OK) return status;
      }
      const int slot = table.count;
      bool flat = is_dense(a);
      for (int l = 1; l < kLists; l++) {
        if (operands.lists[l]) flat = flat && same_strides(a, operands.lists[l]->arrays[k]);
      }
      for (int l = 0; l < kLists; l++) {
        if (!operands.lists[l]) continue;
        const vt_array &x = operands.lists[l]->arrays[k];
        table.data[l][slot] = x.data;
        if (flat || is_contiguous(x)) continue;
        copies.emplace_back(ctx, x, operands.uses[l]);
        if (copies.back().status() != VT_OK) return copies.back().status();
        table.data[l][slot] = copies.back().data();
      }
      table.numel[slot] = a.numel;
      table.start[slot] = static_cast<int32_t>(blocks);
      table.count++;
      blocks += more;
    }
    return flush();
  }
};

struct Census {
  int64_t count[VT_NUM_DTYPES] = {}, total[VT_NUM_DTYPES] = {};
  explicit Census(const vt_value &list) {
    for (int64_t k = 0; k < list.n; k++) {
      count[list.arrays[k].dtype] += list.arrays[k].numel > 0;
      total[list.arrays[k].dtype] += list.arrays[k].numel;
    }
  }
};

// Launches over all tensors, dtype by dtype. fill(args) sets what is not in the table,
// launched(args, blocks) is called before each launch.
template <class Small, class Large, class Fill, class F>
vt_status run_lists(vt_context *ctx, Kernels &kernels,
                    const Operands<Small::Table::lists> &operands, const Fill &fill,
                    const F &launched) {
  const Census census(*operands.lists[0]);
  for (int dtype = 0; dtype < VT_NUM_DTYPES; dtype++) {
    const int64_t count = census.count[dtype];
    if (count == 0) continue;
    const int64_t chunk = chunk_for(ctx, census.total[dtype]);
    vt_status status;
    if (count <= Small::Table::capacity) {
      Small args = {};
      fill(args);
      status = Batch<Small>::run(ctx, kernels.small, operands, dtype, chunk, args, launched);
    } else {
      Large args = {};
      fill(args);
      status = Batch<Large>::run(ctx, kernels.large, operands, dtype, chunk, args, launched);
    }
    if (status != VT_OK) return status;
  }
  return VT_OK;
}

const auto nothing_more = [](auto &, int64_t) {};

// A number given by value, or as a list of one array that the kernel reads when it runs.
vt::DeviceNumber number_of(const vt_value &v) {
  if (v.kind == VT_VALUE_ARRAYS && v.n == 1) {
    return {v.arrays[0].data, 0.0, static_cast<int64_t>(v.arrays[0].dtype)};
  }
  return {nullptr, v.re, VT_F64};
}

// An optional number: a list of one array, or of none.
float *flag_of(const vt_value &v) {
  return v.kind == VT_VALUE_ARRAYS && v.n == 1 ? reinterpret_cast<float *>(v.arrays[0].data)
                                               : nullptr;
}

Kernels adam_kernels = {{"optim", "vt_adam_small"}, {"optim", "vt_adam_large"}};
Kernels sgd_kernels = {{"optim", "vt_sgd_small"}, {"optim", "vt_sgd_large"}};
Kernels muon_kernels = {{"optim", "vt_muon_small"}, {"optim", "vt_muon_large"}};
Kernels norm_kernels = {{"optim", "vt_norm_small"}, {"optim", "vt_norm_large"}};
Kernels scale_kernels = {{"optim", "vt_scale_small"}, {"optim", "vt_scale_large"}};
Kernels unscale_kernels = {{"optim", "vt_unscale_small"}, {"optim", "vt_unscale_large"}};
Kernels cast_kernels = {{"optim", "vt_cast_list_small"}, {"optim", "vt_cast_list_large"}};
Kernel finish_kernel("optim", "vt_norm_finish");
Kernel update_scale_kernel("optim", "vt_update_scale");

vt::NormKind norm_kind(double p) {
  return p == 2              ? vt::kNormSquares
         : p == 1            ? vt::kNormSum
         : p == 0            ? vt::kNormCount
         : isinf(p) && p > 0 ? vt::kNormLargest
         : isinf(p)          ? vt::kNormSmallest
                             : vt::kNormPower;
}

}  // namespace

extern "C" {

// No arrays; lists params, grads, exp_avgs, exp_avg_sqs, then lr, beta1, beta2, eps, weight_decay,
// step (from 1), maximize, decoupled (AdamW's weight decay rather than L2). For captured graphs lr
// and step may each be a list of one 0-d array on the device instead of a number. Then two lists of at
// most one float: found_inf (nothing happens where it is not zero), and how many steps that was so in.
vt_status adamw_cuda(const vt_array *, const vt_value *v, vt_context *ctx) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  vt::AdamValues values = {};
  values.lr = number_of(v[4]);
  values.step = number_of(v[9]);
  values.found_inf = flag_of(v[12]);
  values.skipped = flag_of(v[13]);
  values.beta1 = v[5].re;
  values.beta2 = v[6].re;
  values.eps = v[7].re;
  values.decay = v[8].re;
  values.maximize = v[10].i != 0;
  values.decoupled = v[11].i != 0;
  const vt::AdamFactors factors = vt::adam_factors(values, values.lr.value, values.step.value);
  const Operands<4> operands = {
      {&v[0], &v[1], &v[2], &v[3]},
      {Contiguous::kUpdate, Contiguous::kRead, Contiguous::kUpdate, Contiguous::kUpdate}};
  return run_lists<vt::AdamSmall, vt::AdamLarge>(
      ctx, adam_kernels, operands,
      [&](auto &args) {
        args.values = values;
        args.factors = factors;
      },
      nothing_more);
}

// No arrays; lists params, grads, momentum buffers (may be empty), then lr (a number or, as in
// adamw_cuda, an array), momentum, dampening, weight_decay, nesterov, maximize, first_step (the
// buffers are written, not read), found_inf as in adamw_cuda.
vt_status sgd_cuda(const vt_array *, const vt_value *v, vt_context *ctx) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  const bool has_momentum = v[2].n > 0 && v[4].re != 0;
  const Operands<3> operands = {{&v[0], &v[1], has_momentum ? &v[2] : nullptr},
                                {Contiguous::kUpdate, Contiguous::kRead, Contiguous::kUpdate}};
  return run_lists<vt::SgdSmall, vt::SgdLarge>(
      ctx, sgd_kernels, operands,
      [&](auto &args) {
        args.lr = number_of(v[3]);
        args.found_inf = flag_of(v[10]);
        args.momentum = v[4].re;
        args.dampening = v[5].re;
        args.decay = v[6].re;
        args.nesterov = v[7].i != 0;
        args.maximize = v[8].i != 0;
        args.first = v[9].i != 0;
        args.has_momentum = has_momentum;
      },
      nothing_more);
}

// No arrays; lists grads, momentum buffers, updates (written), then momentum, nesterov. The buffers move
// towards the gradients; the updates are they, or a look ahead.
vt_status muon_cuda(const vt_array *, const vt_value *v, vt_context *ctx) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  const Operands<3> operands = {{&v[0], &v[1], &v[2]},
                                {Contiguous::kRead, Contiguous::kUpdate, Contiguous::kWrite}};
  return run_lists<vt::MuonSmall, vt::MuonLarge>(
      ctx, muon_kernels, operands,
      [&](auto &args) {
        args.momentum = v[3].re;
        args.nesterov = v[4].i != 0;
      },
      nothing_more);
}

// out (float or double, one element); list of gradients, p (2, infinity or any other order). Blocks
// leave their parts in scratch memory, one more launch adds them in order.
vt_status grad_norm_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  if (a[0].dtype != VT_F32 && a[0].dtype != VT_F64) return VT_ERROR_DTYPE;
  const vt_value &list = v[0];
  const Census census(list);
  int64_t parts = 0;
  for (int64_t k = 0; k < list.n; k++) {
    const vt_array &x = list.arrays[k];
    parts += div_up(x.numel, chunk_for(ctx, census.total[x.dtype]));
  }
  Scratch partial(ctx, static_cast<size_t>(parts) * sizeof(double));
  if (!partial.ok()) return VT_ERROR_OUT_OF_MEMORY;
  const int kind = norm_kind(v[1].re);
  const Operands<1> operands = {{&list}, {Contiguous::kRead}};
  double *next = partial.as<double>();
  status = run_lists<vt::NormSmall, vt::NormLarge>(
      ctx, norm_kernels, operands,
      [&](auto &args) {
        args.p = v[1].re;
        args.kind = kind;
      },
      [&](auto &args, int64_t blocks) {
        args.partial = next;
        next += blocks;
      });
  if (status != VT_OK) return status;
  return launch(ctx, finish_kernel, {1}, {1024}, 0, static_cast<void *>(a[0].data),
                static_cast<int32_t>(a[0].dtype == VT_F64),
                static_cast<const double *>(partial.as<double>()), parts,
                static_cast<int32_t>(kind), v[1].re);
}

// scale (floating, one element); list of tensors, multiplied in place. The factor stays on the device;
// where it is 1 nothing is written.
vt_status scale_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  if (!in_set(kFloatingSet, a[0].dtype)) return VT_ERROR_DTYPE;
  const Operands<1> operands = {{&v[0]}, {Contiguous::kUpdate}};
  return run_lists<vt::ScaleSmall, vt::ScaleLarge>(
      ctx, scale_kernels, operands,
      [&](auto &args) {
        args.scale = a[0].data;
        args.scale_dtype = a[0].dtype;
      },
      nothing_more);
}

// inv_scale and found_inf (float, one element each); list of tensors, multiplied in place.
vt_status unscale_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  const vt_status status = check_floating(v[0]);
  if (status != VT_OK) return status;
  if (a[0].dtype != VT_F32 || a[1].dtype != VT_F32) return VT_ERROR_DTYPE;
  const Operands<1> operands = {{&v[0]}, {Contiguous::kUpdate}};
  return run_lists<vt::ScaleSmall, vt::ScaleLarge>(
      ctx, unscale_kernels, operands,
      [&](auto &args) {
        args.scale = a[0].data;
        args.scale_dtype = a[0].dtype;
        args.found_inf = reinterpret_cast<float *>(a[1].data);
      },
      nothing_more);
}

// No arrays of its own; list of float32 arrays, list of arrays of one half type that they are written to.
vt_status cast_tensors_cuda(const vt_array *, const vt_value *v, vt_context *ctx) {
  const vt_value &from = v[0], &to = v[1];
  for (int64_t k = 0; k < from.n; k++) {
    const int dtype = to.arrays[k].dtype;
    if (from.arrays[k].dtype != VT_F32 || (dtype != VT_F16 && dtype != VT_BF16) ||
        dtype != to.arrays[0].dtype) {
      return VT_ERROR_DTYPE;
    }
  }
  const Operands<2> operands = {{&from, &to}, {Contiguous::kRead, Contiguous::kWrite}};
  return run_lists<vt::CastSmall, vt::CastLarge>(
      ctx, cast_kernels, operands, [&](auto &args) { args.to = to.arrays[0].dtype; }, nothing_more);
}

// scale (float), growth_tracker (int32), found_inf (float), one element each; growth factor, backoff
// factor, growth interval.
vt_status update_scale_cuda(const vt_array *a, const vt_value *v, vt_context *ctx) {
  return launch(ctx, update_scale_kernel, {1}, {1}, 0, reinterpret_cast<float *>(a[0].data),
                reinterpret_cast<int32_t *>(a[1].data),
                static_cast<const float *>(reinterpret_cast<float *>(a[2].data)), v[0].re, v[1].re,
                v[2].i);
}

}  // extern "C"
