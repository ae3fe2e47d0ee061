// Stand-ins for cuBLASLt on the simulated device: they check what the library would check, answer
// the heuristic, and record each product as one call on its stream.

#include <string.h>

#include "vibetensor/cuda/blas.h"
#include "vibetensor/cuda/driver.h"

namespace vt_cuda {
namespace {

struct Layout {
  int type;
  int64_t rows, cols, ld;
  int32_t batch = 1;
  int64_t stride = 0;
};

struct Desc {
  int compute, scale_type;
  int32_t trans_a = 0, trans_b = 0;
  uint32_t epilogue = kLtEpilogueNone;
  void *bias = nullptr;
  void *aux = nullptr;
  int64_t aux_ld = 0;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};

// What the heuristic asks for where the inner dimension is long, as the library does for split K.
constexpr size_t kWorkspace = size_t(1) << 20;
constexpr int64_t kLongInner = 4096;

size_t version() { return 130000; }

const char *status_string(int status) {
  switch (status) {
    case kLtSuccess:
      return "success";
    case kLtInvalidValue:
      return "the parameter is not valid";
    case kLtNotSupported:
      return "the requested functionality is not supported";
    default:
      return "simulated failure";
  }
}

int create(void **handle) {
  static char one;
  *handle = &one;
  return kLtSuccess;
}

int desc_create(void **desc, int compute, int scale_type) {
  *desc = new Desc{compute, scale_type};
  return kLtSuccess;
}

int desc_destroy(void *desc) {
  delete static_cast<Desc *>(desc);
  return kLtSuccess;
}

int copy_value(void *to, size_t wanted, const void *value, size_t size) {
  if (size != wanted) return kLtInvalidValue;
  memcpy(to, value, size);
  return kLtSuccess;
}

int desc_set(void *desc, int name, const void *value, size_t size) {
  Desc &d = *static_cast<Desc *>(desc);
  switch (name) {
    case kLtDescTransA:
      return copy_value(&d.trans_a, sizeof(d.trans_a), value, size);
    case kLtDescTransB:
      return copy_value(&d.trans_b, sizeof(d.trans_b), value, size);
    case kLtDescEpilogue:
      return copy_value(&d.epilogue, sizeof(d.epilogue), value, size);
    case kLtDescBiasPointer:
      return copy_value(&d.bias, sizeof(d.bias), value, size);
    case kLtDescAuxPointer:
      return copy_value(&d.aux, sizeof(d.aux), value, size);
    case kLtDescAuxLd:
      return copy_value(&d.aux_ld, sizeof(d.aux_ld), value, size);
    default:
      return kLtInvalidValue;
  }
}

int layout_create(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  *layout = new Layout{type, int64_t(rows), int64_t(cols), ld};
  return kLtSuccess;
}

int layout_destroy(void *layout) {
  delete static_cast<Layout *>(layout);
  return kLtSuccess;
}

int layout_set(void *layout, int name, const void *value, size_t size) {
  Layout &l = *static_cast<Layout *>(layout);
  switch (name) {
    case kLtLayoutBatchCount:
      return copy_value(&l.batch, sizeof(l.batch), value, size);
    case kLtLayoutBatchStride:
      return copy_value(&l.stride, sizeof(l.stride), value, size);
    default:
      return kLtInvalidValue;
  }
}

int preference_create(void **preference) {
  *preference = new Preference;
  return kLtSuccess;
}

int preference_destroy(void *preference) {
  delete static_cast<Preference *>(preference);
  return kLtSuccess;
}

int preference_set(void *preference, int name, const void *value, size_t size) {
  Preference &p = *static_cast<Preference *>(preference);
  if (name == kLtPreferenceWorkspace) {
    return copy_value(&p.workspace, sizeof(p.workspace), value, size);
  }
  if (name < kLtPreferenceAlignmentA || name > kLtPreferenceAlignmentD) return kLtInvalidValue;
  return copy_value(&p.alignment[name - kLtPreferenceAlignmentA], sizeof(uint32_t), value, size);
}

bool is_complex(int type) { return type == kLtC32F || type == kLtC64F; }

// What cublasLtMatmul() refuses for any addresses.
int check(const Desc &desc, const Layout &a, const Layout &b, const Layout &c, const Layout &d) {
  const Layout *layouts[] = {&a, &b, &c, &d};
  for (const Layout *l : layouts) {
    if (l->rows < 1 || l->cols < 1 || l->ld < l->rows || l->batch != d.batch) {
      return kLtInvalidValue;
    }
  }
  const int64_t m = desc.trans_a ? a.cols : a.rows, k = desc.trans_a ? a.rows : a.cols;
  const int64_t inner = desc.trans_b ? b.cols : b.rows, n = desc.trans_b ? b.rows : b.cols;
  if (k != inner || m != d.rows || n != d.cols || m != c.rows || n != c.cols) {
    return kLtInvalidValue;
  }
  if (a.type != b.type || c.type != d.type) return kLtNotSupported;
  if (d.batch > 1 && d.stride < (d.cols - 1) * d.ld + d.rows) return kLtInvalidValue;
  if (desc.epilogue != kLtEpilogueNone && is_complex(d.type)) return kLtNotSupported;
  if (desc.aux && (desc.aux_ld % 8 != 0 || desc.aux_ld < d.rows)) return kLtInvalidValue;
  return kLtSuccess;
}

int heuristic(void *, void *desc, void *a, void *b, void *c, void *d, void *preference, int,
              LtHeuristic *results, int *found) {
  const Desc &operation = *static_cast<Desc *>(desc);
  const Layout &first = *static_cast<Layout *>(a);
  *found = 0;
  const int status = check(operation, first, *static_cast<Layout *>(b), *static_cast<Layout *>(c),
                           *static_cast<Layout *>(d));
  if (status != kLtSuccess) return status;
  const int64_t inner = operation.trans_a ? first.rows : first.cols;
  const size_t workspace = inner >= kLongInner ? kWorkspace : 0;
  if (workspace > static_cast<Preference *>(preference)->workspace) return kLtNotSupported;
  results[0] = LtHeuristic{};
  results[0].workspace = workspace;
  *found = 1;
  return kLtSuccess;
}

bool has_bias(uint32_t epilogue) { return (epilogue & kLtEpilogueBias) != 0; }
bool writes_bias(uint32_t epilogue) { return epilogue == kLtEpilogueBGradB; }

int matmul(void *, void *desc, const void *, const void *a, void *a_layout, const void *b,
           void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,
           const LtAlgo *, void *workspace, size_t workspace_bytes, void *stream) {
  const Desc &operation = *static_cast<Desc *>(desc);
  const Layout &out = *static_cast<Layout *>(d_layout), &first = *static_cast<Layout *>(a_layout);
  const int status = check(operation, first, *static_cast<Layout *>(b_layout),
                           *static_cast<Layout *>(c_layout), out);
  if (status != kLtSuccess) return status;
  const int64_t inner = operation.trans_a ? first.rows : first.cols;
  if (inner >= kLongInner && (!workspace || workspace_bytes < kWorkspace)) return kLtInvalidValue;
  const void *reads[5] = {a, b};
  void *writes[4] = {d};
  int num_reads = 2, num_writes = 1;
  const double *wide = static_cast<const double *>(beta);
  const float *narrow = static_cast<const float *>(beta);
  const bool reads_c = operation.compute == kLtCompute64F ? wide[0] != 0 : narrow[0] != 0;
  if (reads_c) reads[num_reads++] = c;
  if (has_bias(operation.epilogue)) reads[num_reads++] = operation.bias;
  if (writes_bias(operation.epilogue)) writes[num_writes++] = operation.bias;
  if (operation.aux) writes[num_writes++] = operation.aux;
  if (workspace) writes[num_writes++] = workspace;
  if (driver.library_call) {
    driver.library_call("cublasLtMatmul", static_cast<CUstream>(stream), reads, num_reads, writes,
                        num_writes);
  }
  return kLtSuccess;
}

}  // namespace

void fill_simulated_cublaslt(CublasLt *table) {
  table->cublasLtGetVersion = version;
  table->cublasLtGetStatusString = status_string;
  table->cublasLtCreate = create;
  table->cublasLtMatmulDescCreate = desc_create;
  table->cublasLtMatmulDescDestroy = desc_destroy;
  table->cublasLtMatmulDescSetAttribute = desc_set;
  table->cublasLtMatrixLayoutCreate = layout_create;
  table->cublasLtMatrixLayoutDestroy = layout_destroy;
  table->cublasLtMatrixLayoutSetAttribute = layout_set;
  table->cublasLtMatmulPreferenceCreate = preference_create;
  table->cublasLtMatmulPreferenceDestroy = preference_destroy;
  table->cublasLtMatmulPreferenceSetAttribute = preference_set;
  table->cublasLtMatmulAlgoGetHeuristic = heuristic;
  table->cublasLtMatmul = matmul;
}

}  // namespace vt_cuda
