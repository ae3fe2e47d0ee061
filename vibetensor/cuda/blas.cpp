// Plans of matrix products and their cache. See Note [Matrix products by plan] in blas.h.

#include "vibetensor/cuda/blas.h"

#include <stdio.h>
#include <string.h>

#include <atomic>
#include <memory>
#include <mutex>

#include "vibetensor/cuda/launch.h"
#include "vibetensor/cuda/runtime.h"

int vt_cuda_allow_tf32 = 0;

namespace vt_cuda {
namespace {

// ---- types ----

struct TypeInfo {
  int32_t data, scale;
  int32_t compute; /* without TF32 */
  int tf32;        /* may use it */
};

// By dtype; scale < 0: no products.
constexpr TypeInfo kTypes[VT_NUM_DTYPES] = {
    {-1, -1, -1, 0},
    {-1, -1, -1, 0},
    {-1, -1, -1, 0},
    {-1, -1, -1, 0},
    {-1, -1, -1, 0},
    {-1, -1, -1, 0},
    {kLtR16F, kLtR32F, kLtCompute32F, 0},
    {kLtR16BF, kLtR32F, kLtCompute32F, 0},
    {kLtR32F, kLtR32F, kLtCompute32F, 1},
    {kLtR64F, kLtR64F, kLtCompute64F, 0},
    {kLtC32F, kLtC32F, kLtCompute32F, 1},
    {kLtC64F, kLtC64F, kLtCompute64F, 0},
};

bool uses_tf32(int dtype) {
  return kTypes[dtype].tf32 && __atomic_load_n(&vt_cuda_allow_tf32, __ATOMIC_RELAXED);
}

bool has_bias(uint32_t epilogue) {
  constexpr uint32_t kBGrad = 16;
  return (epilogue & (kLtEpilogueBias | kBGrad | kLtEpilogueBGradB)) != 0;
}
bool has_aux(uint32_t epilogue) { return (epilogue & 128) != 0; }

// A factor as cuBLASLt reads it: of the scale type, from host memory.
struct Scalar {
  alignas(16) char bytes[16];

  Scalar(int dtype, const GemmFactor &f) {
    if (kTypes[dtype].compute == kLtCompute64F) {
      const double value[2] = {f.re, f.im};
      memcpy(bytes, value, sizeof(value));
    } else {
      const float value[2] = {float(f.re), float(f.im)};
      memcpy(bytes, value, sizeof(value));
    }
  }
};

// ---- keys ----

constexpr int kKeyWords = 14;
struct Key {
  uint64_t word[kKeyWords];
  bool operator==(const Key &other) const { return !memcmp(word, other.word, sizeof(word)); }
};

// The alignment of an address that algorithms care for, as a power of two: 256 bytes, 16 bytes (a
// vector load, a bulk copy), or what there is below that.
int alignment_of(const void *address) {
  const int zeros = __builtin_ctzll(reinterpret_cast<uintptr_t>(address) | 256);
  return zeros >= 8 ? 8 : zeros >= 4 ? 4 : zeros;
}

Key key_of(const Gemm &g, const vt_context *ctx) {
  const uint64_t flags = uint64_t(g.dtype) | uint64_t(g.out_dtype) << 4 |
                         uint64_t(uses_tf32(g.dtype)) << 8 | uint64_t(g.a.transposed) << 9 |
                         uint64_t(g.b.transposed) << 10 | uint64_t(alignment_of(g.a.data)) << 12 |
                         uint64_t(alignment_of(g.b.data)) << 16 |
                         uint64_t(alignment_of(g.c)) << 20 | uint64_t(alignment_of(g.d)) << 24 |
                         uint64_t(has_aux(g.epilogue) ? alignment_of(g.aux) : 0) << 28 |
                         uint64_t(g.epilogue) << 32 | uint64_t(ctx->device_index) << 48;
  return {{flags, uint64_t(g.m), uint64_t(g.n), uint64_t(g.k), uint64_t(g.batch), uint64_t(g.a.ld),
           uint64_t(g.a.batch), uint64_t(g.b.ld), uint64_t(g.b.batch), uint64_t(g.c_ld),
           uint64_t(g.c_batch), uint64_t(g.d_ld), uint64_t(g.d_batch),
           uint64_t(has_aux(g.epilogue) ? g.aux_ld : 0)}};
}

uint64_t hash_of(const Key &key) {
  // Two chains, because the multiplications of one wait for each other.
  uint64_t a = 0x9e3779b97f4a7c15u, b = 0xc2b2ae3d27d4eb4fu;
  for (int i = 0; i < kKeyWords; i += 2) {
    a = (a ^ key.word[i]) * 0xff51afd7ed558ccdu;
    a ^= a >> 32;
    b = (b ^ key.word[i + 1]) * 0xc4ceb9fe1a85ec53u;
    b ^= b >> 32;
  }
  a = (a ^ b) * 0x9fb21c651e98df25u;
  return a ^ a >> 29;
}

// ---- plans ----

struct Plan {
  Key key;
  uint64_t hash;
  void *desc = nullptr;
  void *a = nullptr, *b = nullptr, *c = nullptr, *d = nullptr; /* of cuBLASLt's A, B, C, D */
  LtAlgo algo = {};
  size_t workspace = 0;
  std::atomic<int> status{kLtSuccess}; /* why there is no algorithm */
  std::atomic<bool> launched{false};
  std::mutex lock; /* held while addresses of an epilogue are in `desc` */

  ~Plan() {
    if (desc) cublaslt.cublasLtMatmulDescDestroy(desc);
    for (void *layout : {a, b, c, d}) {
      if (layout) cublaslt.cublasLtMatrixLayoutDestroy(layout);
    }
  }
};

// As much as PyTorch gives cuBLAS: algorithms that split K want more on Hopper.
uint64_t workspace_limit(const vt_context *ctx) {
  return uint64_t(properties(ctx).major >= 9 ? 32 : 8) << 20;
}

// Keeps the first failure.
struct Steps {
  int status = kLtSuccess;
  void operator()(int result) {
    if (status == kLtSuccess) status = result;
  }
};

// cuBLASLt counts in columns, so it is asked for D^T = B^T A^T, whose columns are our rows.
struct LtMatrix {
  int64_t rows, cols, ld, batch;
};

void make_layout(Steps &step, void **layout, int dtype, const LtMatrix &x, int64_t count) {
  if (step.status != kLtSuccess) return;
  step(cublaslt.cublasLtMatrixLayoutCreate(layout, kTypes[dtype].data, uint64_t(x.rows),
                                           uint64_t(x.cols), x.ld));
  if (count == 1 || step.status != kLtSuccess) return;
  const int32_t batch = int32_t(count);
  step(cublaslt.cublasLtMatrixLayoutSetAttribute(*layout, kLtLayoutBatchCount, &batch,
                                                 sizeof(batch)));
  step(cublaslt.cublasLtMatrixLayoutSetAttribute(*layout, kLtLayoutBatchStride, &x.batch,
                                                 sizeof(x.batch)));
}

template <class T>
void set_desc(Steps &step, Plan &plan, int name, T value) {
  step(cublaslt.cublasLtMatmulDescSetAttribute(plan.desc, name, &value, sizeof(value)));
}

void set_addresses(Steps &step, Plan &plan, const Gemm &g) {
  if (has_bias(g.epilogue)) set_desc(step, plan, kLtDescBiasPointer, g.bias);
  if (has_aux(g.epilogue)) set_desc(step, plan, kLtDescAuxPointer, g.aux);
}

void find_algorithm(Steps &step, Plan &plan, const Gemm &g, void *handle, vt_context *ctx) {
  void *preference = nullptr;
  step(cublaslt.cublasLtMatmulPreferenceCreate(&preference));
  if (step.status != kLtSuccess) return;
  const auto set = [&](int name, auto value) {
    step(cublaslt.cublasLtMatmulPreferenceSetAttribute(preference, name, &value, sizeof(value)));
  };
  set(kLtPreferenceWorkspace, workspace_limit(ctx));
  set(kLtPreferenceAlignmentA, uint32_t(1) << alignment_of(g.b.data));
  set(kLtPreferenceAlignmentB, uint32_t(1) << alignment_of(g.a.data));
  set(kLtPreferenceAlignmentC, uint32_t(1) << alignment_of(g.c));
  set(kLtPreferenceAlignmentD, uint32_t(1) << alignment_of(g.d));
  LtHeuristic best = {};
  int found = 0;
  if (step.status == kLtSuccess) {
    step(cublaslt.cublasLtMatmulAlgoGetHeuristic(handle, plan.desc, plan.a, plan.b, plan.c, plan.d,
                                                 preference, 1, &best, &found));
  }
  if (step.status == kLtSuccess) step(found > 0 ? best.state : kLtNotSupported);
  plan.algo = best.algo;
  plan.workspace = best.workspace;
  cublaslt.cublasLtMatmulPreferenceDestroy(preference);
}

std::unique_ptr<Plan> make_plan(const Key &key, uint64_t hash, const Gemm &g, void *handle,
                                vt_context *ctx) {
  auto plan = std::make_unique<Plan>();
  plan->key = key;
  plan->hash = hash;
  const TypeInfo &type = kTypes[g.dtype];
  Steps step;
  step(cublaslt.cublasLtMatmulDescCreate(
      &plan->desc, uses_tf32(g.dtype) ? int(kLtCompute32FFastTF32) : type.compute, type.scale));
  if (step.status == kLtSuccess) {
    set_desc(step, *plan, kLtDescTransA, int32_t(g.b.transposed));
    set_desc(step, *plan, kLtDescTransB, int32_t(g.a.transposed));
    set_desc(step, *plan, kLtDescEpilogue, g.epilogue);
    if (has_aux(g.epilogue)) set_desc(step, *plan, kLtDescAuxLd, g.aux_ld);
    // The heuristic looks at their alignment.
    set_addresses(step, *plan, g);
  }
  const bool a_rows = !g.a.transposed, b_rows = !g.b.transposed;
  make_layout(step, &plan->a, g.dtype, {b_rows ? g.n : g.k, b_rows ? g.k : g.n, g.b.ld, g.b.batch},
              g.batch);
  make_layout(step, &plan->b, g.dtype, {a_rows ? g.k : g.m, a_rows ? g.m : g.k, g.a.ld, g.a.batch},
              g.batch);
  make_layout(step, &plan->c, g.out_dtype, {g.n, g.m, g.c_ld, g.c_batch}, g.batch);
  make_layout(step, &plan->d, g.out_dtype, {g.n, g.m, g.d_ld, g.d_batch}, g.batch);
  if (step.status == kLtSuccess) find_algorithm(step, *plan, g, handle, ctx);
  plan->status = step.status;
  return plan;
}

// ---- the table ----

// Programs of ever new shapes stop adding here; their products then make a plan each time.
constexpr size_t kMaxPlans = 1 << 15;
constexpr size_t kFirstSlots = 1024;

struct Slots {
  size_t mask;
  std::unique_ptr<std::atomic<Plan *>[]> plans;

  explicit Slots(size_t size) : mask(size - 1), plans(new std::atomic<Plan *>[size]) {
    for (size_t i = 0; i < size; i++) plans[i].store(nullptr, std::memory_order_relaxed);
  }
  Plan *find(const Key &key, uint64_t hash) const {
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
      Plan *plan = plans[i].load(std::memory_order_acquire);
      if (!plan || (plan->hash == hash && plan->key == key)) return plan;
    }
  }
  void add(Plan *plan) {
    size_t i = plan->hash & mask;
    while (plans[i].load(std::memory_order_relaxed)) i = (i + 1) & mask;
    plans[i].store(plan, std::memory_order_release);
  }
};

struct Table {
  std::atomic<Slots *> slots{nullptr};
  std::mutex lock; /* of additions */
  size_t count = 0;
  std::atomic<void *> handles[kMaxDevices] = {};
  std::atomic<int64_t> misses{0}, calls{0}, unsupported{0};

  // Under the lock. Readers may still be in the slots that are outgrown, so those are not freed;
  // together they are smaller than the ones in use.
  void add(std::unique_ptr<Plan> plan) {
    Slots *now = slots.load(std::memory_order_relaxed);
    if (!now || 2 * (count + 1) > now->mask + 1) {
      Slots *larger = new Slots(now ? 2 * (now->mask + 1) : kFirstSlots);
      for (size_t i = 0; now && i <= now->mask; i++) {
        if (Plan *p = now->plans[i].load(std::memory_order_relaxed)) larger->add(p);
      }
      slots.store(larger, std::memory_order_release);
      now = larger;
    }
    now->add(plan.release());
    count++;
  }
};

// Never destroyed: other threads may run products while the process ends.
Table &table = *new Table;

const char *status_text(int status) {
  static thread_local char text[160];
  snprintf(text, sizeof(text), "cuBLASLt: %s (status %d)", cublaslt.cublasLtGetStatusString(status),
           status);
  return text;
}

// The library's handle for the current device, NULL with ctx->message set.
void *handle_of(vt_context *ctx) {
  void *handle = table.handles[ctx->device_index].load(std::memory_order_acquire);
  if (__builtin_expect(handle != nullptr, 1)) return handle;
  if (const char *why = load_cublaslt()) {
    ctx->message = why;
    return nullptr;
  }
  std::lock_guard<std::mutex> guard(table.lock);
  handle = table.handles[ctx->device_index].load(std::memory_order_relaxed);
  if (handle) return handle;
  RelaxedCapture relaxed;
  const int status = cublaslt.cublasLtCreate(&handle);
  if (status != kLtSuccess) {
    ctx->message = status_text(status);
    return nullptr;
  }
  table.handles[ctx->device_index].store(handle, std::memory_order_release);
  return handle;
}

// The plan for a key; `own` keeps one that the table has no room for.
Plan *plan_of(const Gemm &g, void *handle, vt_context *ctx, std::unique_ptr<Plan> &own) {
  const Key key = key_of(g, ctx);
  const uint64_t hash = hash_of(key);
  const Slots *slots = table.slots.load(std::memory_order_acquire);
  Plan *plan = slots ? slots->find(key, hash) : nullptr;
  if (__builtin_expect(plan != nullptr, 1)) return plan;
  std::lock_guard<std::mutex> guard(table.lock);
  slots = table.slots.load(std::memory_order_relaxed);
  if (slots && (plan = slots->find(key, hash))) return plan;
  table.misses.fetch_add(1, std::memory_order_relaxed);
  RelaxedCapture relaxed;
  own = make_plan(key, hash, g, handle, ctx);
  plan = own.get();
  if (table.count < kMaxPlans) table.add(std::move(own));
  return plan;
}

int enqueue(Plan &plan, const Gemm &g, void *handle, void *workspace, vt_context *ctx) {
  const Scalar alpha(g.dtype, g.alpha), beta(g.dtype, g.beta);
  const auto call = [&] {
    return cublaslt.cublasLtMatmul(handle, plan.desc, alpha.bytes, g.b.data, plan.a, g.a.data,
                                   plan.b, beta.bytes, g.c, plan.c, g.d, plan.d, &plan.algo,
                                   workspace, plan.workspace, ctx->stream);
  };
  const auto with_addresses = [&] {
    if (g.epilogue == kLtEpilogueNone) return call();
    std::lock_guard<std::mutex> guard(plan.lock);
    Steps step;
    set_addresses(step, plan, g);
    return step.status == kLtSuccess ? call() : step.status;
  };
  if (__builtin_expect(plan.launched.load(std::memory_order_relaxed), 1)) return with_addresses();
  // The library loads its code now.
  RelaxedCapture relaxed;
  const int status = with_addresses();
  if (status == kLtSuccess) plan.launched.store(true, std::memory_order_relaxed);
  return status;
}

GemmResult fail(vt_context *ctx, vt_status *status, int lt_status) {
  ctx->message = status_text(lt_status);
  *status = VT_ERROR_VALUE;
  return GemmResult::kFailed;
}

}  // namespace

void forget_cublaslt();

bool is_blas_dtype(int dtype) {
  return dtype >= 0 && dtype < VT_NUM_DTYPES && kTypes[dtype].scale >= 0;
}

GemmResult run_gemm(const Gemm &gemm, vt_context *ctx, vt_status *status) {
  Gemm g = gemm;
  if (g.batch == 1) g.a.batch = g.b.batch = g.c_batch = g.d_batch = 0;
  if (g.beta.re == 0 && g.beta.im == 0) {
    g.c = g.d;
    g.c_ld = g.d_ld;
    g.c_batch = g.d_batch;
  }
  void *handle = handle_of(ctx);
  if (!handle) {
    *status = VT_ERROR_VALUE;
    return GemmResult::kFailed;
  }
  std::unique_ptr<Plan> own;
  Plan *plan = plan_of(g, handle, ctx, own);
  int result = plan->status.load(std::memory_order_relaxed);
  if (result == kLtSuccess) {
    Scratch workspace(ctx, plan->workspace);
    if (!workspace.ok()) {
      *status = VT_ERROR_OUT_OF_MEMORY;
      return GemmResult::kFailed;
    }
    result = enqueue(*plan, g, handle, workspace.as<void>(), ctx);
    if (__builtin_expect(result == kLtSuccess, 1)) {
      count(counters.launches);
      table.calls.fetch_add(1, std::memory_order_relaxed);
      *status = VT_OK;
      return GemmResult::kDone;
    }
    if (result == kLtNotSupported) plan->status.store(result, std::memory_order_relaxed);
  }
  if (result == kLtNotSupported || (result == kLtInvalidValue && g.epilogue != kLtEpilogueNone)) {
    table.unsupported.fetch_add(1, std::memory_order_relaxed);
    fail(ctx, status, result);
    return GemmResult::kUnsupported;
  }
  return fail(ctx, status, result);
}

// Another driver will fill the table: nothing of the old one may be kept. Only for tests.
void forget_blas() {
  std::lock_guard<std::mutex> guard(table.lock);
  Slots *slots = table.slots.exchange(nullptr);
  for (size_t i = 0; slots && i <= slots->mask; i++) delete slots->plans[i].load();
  delete slots;
  table.count = 0;
  for (auto &handle : table.handles) handle.store(nullptr);
  table.misses = table.calls = table.unsupported = 0;
  forget_cublaslt();
}

}  // namespace vt_cuda

void vt_cuda_blas_get_stats(vt_cuda_blas_stats *stats) {
  using vt_cuda::table;
  std::lock_guard<std::mutex> guard(table.lock);
  *stats = {int64_t(table.count), table.misses.load(), table.calls.load(),
            table.unsupported.load()};
}
