/* Triton's kernels: finding and loading their code, launching it. */
#include "vibetensor/cuda/triton_kernel.h"

#include <inttypes.h>

#include <memory>
#include <mutex>

#include "vibetensor/cuda/internal.h"
#include "vibetensor/cuda/triton_api.h"

namespace vt_cuda {

namespace {

constexpr unsigned kSharedWithoutAsking = 48 * 1024;
constexpr int kMaxParameters = 256; /* of a kernel with descriptors */

std::atomic<vt_triton_finder> finder{nullptr};
std::atomic<bool> enabled{true};
/* Of the tables' writers. Never held while the GIL is taken. */
std::mutex table_mutex;

/* One question to Python, and its answer. */
struct Request {
  int device;
  std::unique_ptr<TritonCode> code;
  vt_status status;
  std::string message;
};

/* Brings an image onto the current context's device. */
vt_status load_image(const vt_triton_image &image, int device, TritonCode *code) {
  const Properties &p = device_properties[device];
  code->threads = static_cast<unsigned>(image.num_warps * 32);
  code->shared = image.shared;
  code->cluster = static_cast<unsigned>(image.num_ctas);
  code->cooperative = image.cooperative;
  code->dependent = image.dependent;
  code->global_scratch = image.global_scratch;
  code->argument_bytes = image.argument_bytes;
  code->pointers = image.pointers;
  code->device = device;
  if (image.num_descriptors > kMaxDescriptors)
    return set_error(VT_ERROR_VALUE,
                     "the Triton kernel %s has %d descriptors; at most %d are possible", image.name,
                     image.num_descriptors, kMaxDescriptors);
  code->num_descriptors = image.num_descriptors;
  for (int i = 0; i < image.num_descriptors; ++i) {
    const vt_triton_descriptor &from = image.descriptors[i];
    TensorMapLayout &to = code->descriptors[i];
    to = {from.dtype, from.swizzle, from.element_bytes, from.rank, {}};
    memcpy(to.box, from.box, sizeof to.box);
  }
  if (image.num_parameters > kMaxParameters)
    return set_error(VT_ERROR_VALUE,
                     "the Triton kernel %s has %d parameters; at most %d are possible", image.name,
                     image.num_parameters, kMaxParameters);
  code->parameters.assign(image.parameters, image.parameters + image.num_parameters);
  if (image.shared > static_cast<unsigned>(p.max_shared_per_block_optin))
    return set_error(VT_ERROR_VALUE,
                     "the Triton kernel %s needs %u bytes of shared memory; the device has %d",
                     image.name, image.shared, p.max_shared_per_block_optin);
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  CUfunction function = nullptr;
  RelaxedCapture relaxed; /* a first use inside a capture loads code as any other */
  /* The driver copies the image, and keeps it: no library is ever unloaded. */
  const void *cubin = image.cubin ? image.cubin : "";
  VT_CUDA_CHECK(cuLibraryLoadData, &library, cubin, nullptr, nullptr, 0, nullptr, nullptr, 0);
  VT_CUDA_CHECK(cuLibraryGetKernel, &kernel, library, image.name);
  VT_CUDA_CHECK(cuKernelGetFunction, &function, kernel);
  if (image.shared > kSharedWithoutAsking)
    VT_CUDA_CHECK(cuFuncSetAttribute, function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                  static_cast<int>(image.shared));
  if (image.num_ctas > 8)
    VT_CUDA_CHECK(cuFuncSetAttribute, function, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED,
                  1);
  code->function = function;
  return VT_OK;
}

}  // namespace

/* Every kernel that holds code, so that all can be made to forget. */
struct TritonLoaded {
  static TritonKernelBase *first;
  static void add(TritonKernelBase *k) {
    for (TritonKernelBase *at = first; at; at = at->next_)
      if (at == k) return;
    k->next_ = first;
    first = k;
  }
  static void forget() {
    for (TritonKernelBase *k = first; k; k = k->next_) k->forget();
  }
};
TritonKernelBase *TritonLoaded::first = nullptr;

void forget_triton_code() {
  std::lock_guard<std::mutex> lock(table_mutex);
  TritonLoaded::forget();
}

bool triton_enabled() { return enabled.load(std::memory_order_relaxed); }

void TritonKernelBase::forget() {
  for (auto &bucket : buckets_) {
    TritonCode *code = bucket.exchange(nullptr);
    while (code) {
      TritonCode *next = code->next;
      delete code;
      code = next;
    }
  }
}

const TritonCode *TritonKernelBase::load(vt_context *ctx, uint64_t key) {
  const int device = ctx->device_index;
  TritonSpec spec;
  describe_(this, key, spec);
  Request request{device, nullptr, VT_ERROR_VALUE, {}};
  if (const vt_triton_finder find = finder.load()) {
    const Properties &p = device_properties[device];
    find(source_, spec.text().c_str(), p.major, p.minor, simulated(), &request);
  } else {
    request.message = "vibetensor.cuda is not initialised";
  }
  if (!request.code) {
    set_error(request.status, "%s", request.message.c_str());
    ctx->message = last_error();
    return nullptr;
  }
  request.code->key = key;
  std::lock_guard<std::mutex> lock(table_mutex);
  std::atomic<TritonCode *> &head = buckets_[bucket(key, device)];
  for (TritonCode *c = head.load(); c; c = c->next)
    if (c->key == key && c->device == device) return c; /* another thread was faster */
  TritonLoaded::add(this);
  request.code->next = head.load();
  head.store(request.code.get(), std::memory_order_release);
  return request.code.release();
}

vt_status launch_triton(vt_context *ctx, const TritonCode &code, Dim grid, char *arguments,
                        size_t bytes, const ArgumentUse *use) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return VT_OK;
  if (__builtin_expect(code.missing, 0)) {
    ctx->message = "the package triton is missing: pip install 'vibetensor[cuda]'";
    return VT_ERROR_VALUE;
  }
  const bool as_compiled =
      bytes == code.argument_bytes && (!use || (use->reads | use->writes) == code.pointers);
  if (__builtin_expect(!as_compiled, 0)) {
    set_error(VT_ERROR_VALUE,
              "a Triton kernel was compiled for %zu bytes of arguments with addresses at %" PRIx64
              ", and is launched with %zu bytes and addresses at %" PRIx64,
              code.argument_bytes, code.pointers, bytes, use ? use->reads | use->writes : 0);
    ctx->message = last_error();
    return VT_ERROR_VALUE;
  }
  const size_t blocks = size_t(grid.x) * code.cluster * grid.y * grid.z;
  const Scratch scratch(ctx, code.global_scratch * blocks);
  if (__builtin_expect(!scratch.ok(), 0)) return VT_ERROR_OUT_OF_MEMORY;
  if (__builtin_expect(code.global_scratch != 0, 0)) {
    void *address = scratch.as<void>();
    memcpy(arguments + bytes - 16, &address, sizeof address);
  }
  CUlaunchAttribute attributes[4];
  CUlaunchConfig config;
  config.gridDimX = grid.x * code.cluster;
  config.gridDimY = grid.y;
  config.gridDimZ = grid.z;
  config.blockDimX = code.threads;
  config.blockDimY = config.blockDimZ = 1;
  config.sharedMemBytes = code.shared;
  config.hStream = static_cast<CUstream>(ctx->stream);
  config.attrs = attributes;
  config.numAttrs = 0;
  if (__builtin_expect(code.dependent, 0)) {
    CUlaunchAttribute &a = attributes[config.numAttrs++] = {};
    a.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    a.value.programmaticStreamSerializationAllowed = 1;
  }
  if (__builtin_expect(code.cooperative, 0)) {
    CUlaunchAttribute &a = attributes[config.numAttrs++] = {};
    a.id = CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    a.value.cooperative = 1;
  }
  if (__builtin_expect(code.cluster > 1, 0)) {
    CUlaunchAttribute &a = attributes[config.numAttrs++] = {};
    a.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    a.value.clusterDim.x = code.cluster;
    a.value.clusterDim.y = a.value.clusterDim.z = 1;
    CUlaunchAttribute &b = attributes[config.numAttrs++] = {};
    b.id = CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
    b.value.clusterSchedulingPolicyPreference = CU_CLUSTER_SCHEDULING_POLICY_SPREAD;
  }
  /* The driver stops at END; the simulated one looks behind it for what is known of the arguments. */
  void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER,
                   arguments,
                   CU_LAUNCH_PARAM_BUFFER_SIZE,
                   &bytes,
                   CU_LAUNCH_PARAM_END,
                   use ? const_cast<char *>(kUseFollows) : nullptr,
                   const_cast<ArgumentUse *>(use)};
  count(counters.launches);
  /* One by one where there are descriptors; the simulated driver has no constant bank. */
  void *parameters[kMaxParameters], **one_by_one = nullptr;
  if (__builtin_expect(!code.parameters.empty(), 0) && !simulated()) {
    for (size_t i = 0; i < code.parameters.size(); ++i)
      parameters[i] = arguments + code.parameters[i];
    one_by_one = parameters;
  }
  const CUresult result = driver.cuLaunchKernelEx(&config, static_cast<CUfunction>(code.function),
                                                  one_by_one, one_by_one ? nullptr : extra);
  if (__builtin_expect(result == CUDA_SUCCESS, 1)) return VT_OK;
  return driver_error(result, "cuLaunchKernelEx", ctx);
}

}  // namespace vt_cuda

using namespace vt_cuda;

extern "C" {

void vt_triton_set_finder(vt_triton_finder f) { finder = f; }

void vt_triton_deliver(void *request, const vt_triton_image *image) {
  Request *r = static_cast<Request *>(request);
  auto code = std::make_unique<TritonCode>();
  r->status = load_image(*image, r->device, code.get());
  if (r->status == VT_OK)
    r->code = std::move(code);
  else
    r->message = last_error();
}

void vt_triton_fail(void *request, const char *message) {
  static_cast<Request *>(request)->message = message;
}

void vt_triton_missing(void *request) {
  Request *r = static_cast<Request *>(request);
  r->code = std::make_unique<TritonCode>();
  r->code->device = r->device;
  r->code->missing = true;
}

void vt_triton_enable(int on) { enabled = on != 0; }
int vt_triton_is_enabled(void) { return enabled; }

vt_status vt_triton_load(const vt_triton_image *image, int device, vt_triton_code **code) {
  ContextGuard guard(device);
  if (guard.status() != VT_OK) return guard.status();
  auto made = std::make_unique<TritonCode>();
  if (vt_status status = load_image(*image, device, made.get())) return status;
  *code = reinterpret_cast<vt_triton_code *>(made.release());
  return VT_OK;
}

vt_status vt_triton_launch(const vt_triton_code *code, int device, unsigned x, unsigned y,
                           unsigned z, char *arguments, size_t bytes) {
  vt_context ctx = {};
  ctx.op = -1;
  if (vt_status status = enter(device, &ctx)) return status;
  const vt_status status = launch_triton(&ctx, *reinterpret_cast<const TritonCode *>(code),
                                         {x, y, z}, arguments, bytes, nullptr);
  leave(&ctx);
  return status;
}

vt_status vt_triton_repeat(const vt_triton_code *code, int device, unsigned x, char *arguments,
                           size_t bytes, int n, int bare) {
  vt_context ctx = {};
  if (vt_status status = enter(device, &ctx)) return status;
  const TritonCode &c = *reinterpret_cast<const TritonCode *>(code);
  void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, arguments, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                   CU_LAUNCH_PARAM_END};
  vt_status status = VT_OK;
  for (int i = 0; i < n && status == VT_OK; ++i) {
    if (bare)
      status = driver_error(
          driver.cuLaunchKernel(static_cast<CUfunction>(c.function), x, 1, 1, c.threads, 1, 1,
                                c.shared, static_cast<CUstream>(ctx.stream), nullptr, extra),
          "cuLaunchKernel");
    else
      status = launch_triton(&ctx, c, {x}, arguments, bytes, nullptr);
  }
  leave(&ctx);
  return status;
}

vt_status vt_triton_encode(const vt_triton_code *code, int n, void *to, const void *data,
                           const int64_t *sizes, const int64_t *strides) {
  vt_context ctx = {};
  const TritonCode &c = *reinterpret_cast<const TritonCode *>(code);
  return encode_tensor_map(&ctx, c.descriptors[n], data, sizes, strides, to);
}

}  // extern "C"
