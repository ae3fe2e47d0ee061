// Host code of operators whose kernels are those of sample_kernels.py.
#include "core/backend.h"
#include "vibetensor/cuda/triton_kernel.h"

using namespace vt_cuda;

namespace {

struct AddChoice {
  uint8_t dtype, block;
};
void describe_add(const AddChoice &c, TritonSpec &spec) {
  spec.pointer("x", c.dtype).pointer("y", c.dtype, false).pointer("out", c.dtype).arg("n", "i32");
  spec.constant("BLOCK", 1 << c.block).option("num_warps", 2);
}
TritonKernel<AddChoice> add("sample_kernels.py:add_kernel", describe_add);

struct TransposeChoice {
  uint16_t rows, columns;
};
void describe_transpose(const TransposeChoice &c, TritonSpec &spec) {
  spec.descriptor("source", VT_F32, {c.rows, c.columns});
  spec.descriptor("target", VT_F32, {c.columns, c.rows});
}
TritonKernel<TransposeChoice> transpose("sample_kernels.py:transpose_kernel", describe_transpose);

template <class F>
const char *on_device(F f) {
  vt_context ctx = {};
  const vt_backend &cuda = vt_backends[VT_CUDA];
  if (cuda.enter(cuda.current_device(), &ctx) != VT_OK) return cuda.last_error();
  const vt_status status = f(&ctx);
  cuda.leave(&ctx);
  return status == VT_OK ? nullptr : ctx.message;
}

}  // namespace

extern "C" {

int add_available(int dtype) {
  bool available = false;
  on_device([&](vt_context *ctx) {
    available = add.available(ctx, {static_cast<uint8_t>(dtype), 7});
    return VT_OK;
  });
  return available;
}

const char *launch_add(int dtype, const void *x, const void *y, void *out, int n, int wrong) {
  return on_device([&](vt_context *ctx) {
    const AddChoice c = {static_cast<uint8_t>(dtype), 7};
    const Dim grid = {static_cast<unsigned>(n + 127) / 128};
    if (wrong == 1) return add.launch(ctx, c, grid, x, y, out);                       // too few
    if (wrong == 2) return add.launch(ctx, c, grid, x, int64_t(n), out, int64_t(n));  // no address
    return add.launch(ctx, c, grid, x, y, out, static_cast<int32_t>(n));
  });
}

const char *launch_transpose(const float *from, float *to, int rows, int columns) {
  return on_device([&](vt_context *ctx) {
    const TransposeChoice c = {static_cast<uint16_t>(rows), static_cast<uint16_t>(columns)};
    const TensorDescriptor<const float, 2> source = {from, {rows, columns}, {columns, 1}};
    const TensorDescriptor<float, 2> target = {to, {columns, rows}, {rows, 1}};
    return transpose.launch(ctx, c, {1}, source, target);
  });
}
}
