// silu(gate) * up of two arrays, or of the halves of the rows of one.
#include "vibetensor/cuda/kernels/norm_rows.h"
#include "vt/swiglu_args.h"

using namespace vt_cuda;

namespace {

KernelSet forward_kernels("swiglu", "vt_swiglu"), backward_kernels("swiglu", "vt_swiglu_backward");

// One half of the rows of an array.
struct Half {
  int64_t sizes[VT_MAX_DIMS];
  vt_array array;

  Half(const vt_array &whole, bool second) : array(whole) {
    const int last = whole.ndim - 1;
    for (int d = 0; d < last; d++) sizes[d] = whole.sizes[d];
    sizes[last] = whole.sizes[last] / 2;
    array.sizes = sizes;
    array.numel = whole.numel / 2;
    array.contiguous = 0;
    if (second) array.data += sizes[last] * whole.strides[last] * element_size(whole.dtype);
  }
};

// The rows of an operand; of one that is not given nothing is asked.
struct Rows {
  bool given;
  NormRows rows;
  Rows(vt_context *ctx, const vt_array &a, const vt_array &like, int64_t n, Contiguous::Use use)
      : given(a.data != nullptr),
        rows(ctx, given ? a : like, n, given ? use : Contiguous::kNothing) {}
  char *data() const { return given ? rows.data() : nullptr; }
};

struct Shape {
  Dim grid, block;
  Shape(int64_t rows, int64_t n, int64_t per_thread) {
    const int64_t units = div_up(n, per_thread);
    const int64_t x = clamp(power_of_two_from(units), 1, vt::kSwigluThreads);
    const int64_t y = vt::kSwigluThreads / x;
    // A few rounds of the loop where rows are long.
    grid = {static_cast<unsigned>(div_up(rows, y)),
            static_cast<unsigned>(clamp(div_up(units, 4 * x), 1, 65535))};
    block = {static_cast<unsigned>(x), static_cast<unsigned>(y)};
  }
};

vt_status forward(const vt_array &gate, const vt_array &up, const vt_array &out, vt_context *ctx) {
  const int dtype = out.dtype;
  const int64_t n = out.sizes[out.ndim - 1], pack = 16 / element_size(dtype);
  NormRows a(ctx, gate, n, Contiguous::kRead), b(ctx, up, n, Contiguous::kRead);
  NormRows y(ctx, out, n, Contiguous::kWrite);
  for (vt_status s : {a.status(), b.status(), y.status()}) {
    if (s != VT_OK) return s;
  }
  vt::SwigluArgs args = {};
  args.gate = a.data();
  args.up = b.data();
  args.out = y.data();
  args.rows = out.numel / n;
  args.n = n;
  args.gate_stride = a.stride();
  args.up_stride = b.stride();
  args.out_stride = y.stride();
  args.packed = n % pack == 0 && a.in_packs(pack) && b.in_packs(pack) && y.in_packs(pack);
  const Shape shape(args.rows, n, args.packed ? pack : 1);
  const vt_status status = launch(ctx, forward_kernels[dtype], shape.grid, shape.block, 0, args);
  return status == VT_OK ? y.finish() : status;
}

vt_status backward(const vt_array &grad, const vt_array &gate, const vt_array &up,
                   const vt_array &grad_gate, const vt_array &grad_up, vt_context *ctx) {
  const int dtype = gate.dtype;
  const int64_t n = gate.sizes[gate.ndim - 1], pack = 16 / element_size(dtype);
  NormRows g(ctx, grad, n, Contiguous::kRead), a(ctx, gate, n, Contiguous::kRead);
  NormRows b(ctx, up, n, Contiguous::kRead);
  Rows da(ctx, grad_gate, gate, n, Contiguous::kWrite), db(ctx, grad_up, up, n, Contiguous::kWrite);
  for (vt_status s : {g.status(), a.status(), b.status(), da.rows.status(), db.rows.status()}) {
    if (s != VT_OK) return s;
  }
  vt::SwigluBackwardArgs args = {};
  args.g = g.data();
  args.gate = a.data();
  args.up = b.data();
  args.dgate = da.data();
  args.dup = db.data();
  args.rows = gate.numel / n;
  args.n = n;
  args.g_stride = g.stride();
  args.gate_stride = a.stride();
  args.up_stride = b.stride();
  args.dgate_stride = da.rows.stride();
  args.dup_stride = db.rows.stride();
  args.packed = n % pack == 0 && g.in_packs(pack) && a.in_packs(pack) && b.in_packs(pack) &&
                da.rows.in_packs(pack) && db.rows.in_packs(pack);
  const Shape shape(args.rows, n, args.packed ? pack : 1);
  vt_status status = launch(ctx, backward_kernels[dtype], shape.grid, shape.block, 0, args);
  if (status == VT_OK) status = da.rows.finish();
  return status == VT_OK ? db.rows.finish() : status;
}

}  // namespace

extern "C" {

// arrays: gate, up?, then out. Without up gate has both, one behind the other in each row.
vt_status swiglu_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  if (!in_set(kFloatingSet, a[2].dtype)) return VT_ERROR_DTYPE;
  if (a[2].numel == 0) return VT_OK;
  if (a[1].data) return forward(a[0], a[1], a[2], ctx);
  const Half gate(a[0], false), up(a[0], true);
  return forward(gate.array, up.array, a[2], ctx);
}

// arrays: grad, gate, up?, then grad_gate?, grad_up?. Without up the first of them has both.
vt_status swiglu_backward_cuda(const vt_array *a, const vt_value *, vt_context *ctx) {
  if (!in_set(kFloatingSet, a[1].dtype) || a[0].dtype != a[1].dtype) return VT_ERROR_DTYPE;
  if (a[0].numel == 0) return VT_OK;
  if (a[2].data) return backward(a[0], a[1], a[2], a[3], a[4], ctx);
  const Half gate(a[1], false), up(a[1], true), grad_gate(a[3], false), grad_up(a[3], true);
  return backward(a[0], gate.array, up.array, grad_gate.array, grad_up.array, ctx);
}

}  // extern "C"
