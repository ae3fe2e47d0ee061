/* Capture of the current stream into a graph, with memory from a private pool. */
#include "vibetensor/cuda/allocator.h"
#include "vibetensor/cuda/runtime.h"
#include "vibetensor/cuda/runtime_api.h"

using namespace vt_cuda;

namespace {

PoolId id_of(vt_cuda_pool pool) {
  PoolId id;
  id.first = pool.first;
  id.second = pool.second;
  return id;
}

constexpr CUstreamCaptureMode modes[] = {
    CU_STREAM_CAPTURE_MODE_GLOBAL,
    CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
    CU_STREAM_CAPTURE_MODE_RELAXED,
};

}  // namespace

vt_cuda_pool vt_cuda_new_pool(void) {
  const PoolId id = new_pool_id();
  return {id.first, id.second};
}

vt_status vt_cuda_capture_begin(int device, vt_cuda_pool pool, int mode) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  const CUstream stream = current_stream(device);
  if (!stream)
    return set_error(
        VT_ERROR_VALUE,
        "CUDA graphs must be captured on a non-default stream. (However, after capture, "
        "it's ok to replay them on the default stream.)");
  if (stream_capturing(stream))
    return set_error(VT_ERROR_VALUE, "the current stream is captured into a graph already");
  /* The allocator first: whatever the driver allows from then on comes from the pool. */
  if (!begin_allocate_to_pool(device, id_of(pool), stream))
    return set_error(VT_ERROR_VALUE, "no memory pool for the capture: %s", memory_error());
  const CUresult result = driver.cuStreamBeginCapture(stream, modes[mode]);
  if (result == CUDA_SUCCESS) return VT_OK;
  end_allocate_to_pool(device, id_of(pool));
  release_pool(device, id_of(pool));
  return driver_error(result, "cuStreamBeginCapture");
}

vt_status vt_cuda_capture_end(int device, void *stream, vt_cuda_pool pool, void **graph) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  CUgraph made = nullptr;
  const CUresult result = driver.cuStreamEndCapture(static_cast<CUstream>(stream), &made);
  end_allocate_to_pool(device, id_of(pool));
  *graph = made;
  if (result == CUDA_SUCCESS && !made)
    return set_error(VT_ERROR_VALUE, "the capture gave no graph");
  return driver_error(result, "cuStreamEndCapture");
}

vt_status vt_cuda_graph_instantiate(int device, void *graph, void **exec) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  CUgraphExec made = nullptr;
  RelaxedCapture relaxed;
  VT_CUDA_CHECK(cuGraphInstantiate, &made, static_cast<CUgraph>(graph), 0);
  *exec = made;
  return VT_OK;
}

vt_status vt_cuda_graph_launch(int device, void *exec, void *stream) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  count(counters.graph_launches);
  VT_CUDA_CHECK(cuGraphLaunch, static_cast<CUgraphExec>(exec), static_cast<CUstream>(stream));
  return VT_OK;
}

vt_status vt_cuda_graph_num_nodes(void *graph, size_t *n) {
  VT_CUDA_CHECK(cuGraphGetNodes, static_cast<CUgraph>(graph), nullptr, n);
  return VT_OK;
}

vt_status vt_cuda_graph_print(void *graph, const char *path) {
  VT_CUDA_CHECK(cuGraphDebugDotPrint, static_cast<CUgraph>(graph), path,
                CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE);
  return VT_OK;
}

void vt_cuda_graph_destroy(int device, void *graph, void *exec) {
  if (!is_initialised()) return; /* its driver was exchanged */
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return;
  RelaxedCapture relaxed;
  if (exec) driver.cuGraphExecDestroy(static_cast<CUgraphExec>(exec));
  if (graph) driver.cuGraphDestroy(static_cast<CUgraph>(graph));
}

void vt_cuda_release_pool(int device, vt_cuda_pool pool) {
  if (!is_initialised()) return;
  ContextGuard guard(device);
  if (guard.status() == VT_OK) release_pool(device, id_of(pool));
}

vt_status vt_cuda_write(int device, void *stream, void *data, const void *host, size_t bytes) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  VT_CUDA_CHECK(cuMemcpyHtoDAsync, reinterpret_cast<CUdeviceptr>(data), host, bytes,
                static_cast<CUstream>(stream));
  return VT_OK;
}
