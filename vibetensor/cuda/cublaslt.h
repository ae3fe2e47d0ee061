// The part of cuBLASLt we use, declared by hand, and the table of its functions: filled from the
// library when the first product needs it, or with stand-ins that record (blas_simulated.cpp).
// Values and layouts are those of cublasLt.h of CUDA 13; they have not changed since CUDA 11.4.
//
// Descriptors are made with the Create functions: their size differs between versions.
#ifndef VT_CUDA_CUBLASLT_H
#define VT_CUDA_CUBLASLT_H

#include <stddef.h>
#include <stdint.h>

namespace vt_cuda {

// cublasStatus_t
constexpr int kLtSuccess = 0;
constexpr int kLtNotInitialized = 1;
constexpr int kLtInvalidValue = 7;
constexpr int kLtNotSupported = 15;

// cudaDataType
enum LtType : int32_t {
  kLtR32F = 0,
  kLtR64F = 1,
  kLtR16F = 2,
  kLtC32F = 4,
  kLtC64F = 5,
  kLtR16BF = 14,
};

// cublasComputeType_t
enum LtCompute : int32_t { kLtCompute32F = 68, kLtCompute64F = 70, kLtCompute32FFastTF32 = 77 };

// cublasOperation_t
enum LtOperation : int32_t { kLtNoTranspose = 0, kLtTranspose = 1 };

// cublasLtMatmulDescAttributes_t
enum LtDescAttribute : int {
  kLtDescTransA = 3,       // int32_t
  kLtDescTransB = 4,       // int32_t
  kLtDescEpilogue = 7,     // uint32_t
  kLtDescBiasPointer = 8,  // void *
  kLtDescAuxPointer = 11,  // void *
  kLtDescAuxLd = 12,       // int64_t
};

// cublasLtMatrixLayoutAttribute_t
enum LtLayoutAttribute : int {
  kLtLayoutBatchCount = 5,  // int32_t
  kLtLayoutBatchStride = 6  // int64_t, in elements
};

// cublasLtMatmulPreferenceAttributes_t
enum LtPreferenceAttribute : int {
  kLtPreferenceWorkspace = 1,   // uint64_t
  kLtPreferenceAlignmentA = 5,  // uint32_t, bytes; B, C and D follow
  kLtPreferenceAlignmentB = 6,
  kLtPreferenceAlignmentC = 7,
  kLtPreferenceAlignmentD = 8,
};

// cublasLtEpilogue_t. The GELU is the tanh form.
enum LtEpilogue : uint32_t {
  kLtEpilogueNone = 1,
  kLtEpilogueRelu = 2,
  kLtEpilogueBias = 4,
  kLtEpilogueReluBias = 6,
  kLtEpilogueGelu = 32,
  kLtEpilogueGeluBias = 36,
  kLtEpilogueGeluAux = 160,  // also stores what GELU is taken of
  kLtEpilogueGeluAuxBias = 164,
  kLtEpilogueBGradB = 512,  // what is stored there are the sums of cuBLASLt's B over its rows
};

struct LtAlgo {
  uint64_t data[8];
};

// cublasLtMatmulHeuristicResult_t
struct LtHeuristic {
  LtAlgo algo;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
static_assert(sizeof(LtHeuristic) == 96, "layout of cublasLtMatmulHeuristicResult_t");

// Handles and descriptors are opaque pointers, the stream is a CUstream.
#define VT_CUBLASLT_FUNCTIONS(X)                                                                 \
  X(size_t, cublasLtGetVersion, ())                                                              \
  X(const char *, cublasLtGetStatusString, (int status))                                         \
  X(int, cublasLtCreate, (void **handle))                                                        \
  X(int, cublasLtMatmulDescCreate, (void **desc, int compute, int scale_type))                   \
  X(int, cublasLtMatmulDescDestroy, (void *desc))                                                \
  X(int, cublasLtMatmulDescSetAttribute, (void *desc, int name, const void *value, size_t size)) \
  X(int, cublasLtMatrixLayoutCreate,                                                             \
    (void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld))                         \
  X(int, cublasLtMatrixLayoutDestroy, (void *layout))                                            \
  X(int, cublasLtMatrixLayoutSetAttribute,                                                       \
    (void *layout, int name, const void *value, size_t size))                                    \
  X(int, cublasLtMatmulPreferenceCreate, (void **preference))                                    \
  X(int, cublasLtMatmulPreferenceDestroy, (void *preference))                                    \
  X(int, cublasLtMatmulPreferenceSetAttribute,                                                   \
    (void *preference, int name, const void *value, size_t size))                                \
  X(int, cublasLtMatmulAlgoGetHeuristic,                                                         \
    (void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference,             \
     int requested, LtHeuristic *results, int *found))                                           \
  X(int, cublasLtMatmul,                                                                         \
    (void *handle, void *desc, const void *alpha, const void *a, void *a_layout, const void *b,  \
     void *b_layout, const void *beta, const void *c, void *c_layout, void *d, void *d_layout,   \
     const LtAlgo *algo, void *workspace, size_t workspace_bytes, void *stream))

struct CublasLt {
#define VT_FIELD(result, name, arguments) result(*name) arguments;
  VT_CUBLASLT_FUNCTIONS(VT_FIELD)
#undef VT_FIELD
};

// Valid once load_cublaslt() has returned NULL.
extern CublasLt cublaslt;

// Fills the table at the first call. NULL, or why there is no library (static text).
const char *load_cublaslt();

// Stand-ins for a simulated device.
void fill_simulated_cublaslt(CublasLt *table);

}  // namespace vt_cuda

#endif
