"""The C headers as Cython sees them: dtypes, arrays, values, storage, tables. No code."""
from libc.stdint cimport int8_t, int32_t, int64_t, intptr_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "vibetensor/types.h" nogil:
    enum:
        VT_MAX_DIMS
        VT_BOOL, VT_U8, VT_I8, VT_I16, VT_I32, VT_I64
        VT_F16, VT_BF16, VT_F32, VT_F64, VT_C64, VT_C128
        VT_NUM_DTYPES
        VT_CPU, VT_CUDA, VT_META, VT_NUM_DEVICE_TYPES
        VT_VALUE_NONE, VT_VALUE_INT, VT_VALUE_FLOAT, VT_VALUE_COMPLEX, VT_VALUE_INTS, VT_VALUE_ARRAYS
        VT_OK, VT_ERROR_OUT_OF_MEMORY, VT_ERROR_DTYPE, VT_ERROR_INDEX, VT_ERROR_VALUE
        VT_ERROR_ZERO_DIVISION, VT_ERROR_BOUNDS

    ctypedef struct vt_array:
        char* data
        const int64_t* sizes
        const int64_t* strides
        int64_t numel
        int32_t ndim
        uint8_t dtype
        uint8_t device_type
        int8_t device_index
        uint8_t contiguous

    ctypedef int vt_value_kind

    ctypedef struct vt_value:
        vt_value_kind kind
        int64_t n
        int64_t i
        double re
        double im
        const int64_t* ints
        const vt_array* arrays

    ctypedef int vt_status

    ctypedef struct vt_context:
        void* stream
        int64_t detail[3]
        const char* message
        int32_t op
        int32_t device_index

    ctypedef vt_status (*vt_kernel)(const vt_array*, const vt_value*, vt_context*) noexcept nogil
    ctypedef void (*vt_loop)(char* const*, const int64_t*, int64_t, int64_t, const vt_value*) noexcept nogil


cdef extern from "core/storage.h" nogil:
    ctypedef struct vt_storage:
        intptr_t refcount
        char* data
        size_t nbytes
        uint32_t version
        uint8_t device_type
        int8_t device_index
        uint8_t size_class
        uint8_t flags
        void (*deleter)(vt_storage*) noexcept
        void* context

    enum:
        VT_STORAGE_READONLY, VT_STORAGE_PINNED, VT_STORAGE_OWN

    ctypedef struct vt_memory_stats:
        int64_t allocated
        int64_t peak_allocated
        int64_t reserved
        int64_t num_allocs

    vt_memory_stats vt_cpu_memory
    vt_storage* vt_storage_new(size_t nbytes)
    vt_storage* vt_storage_wrap(void* data, size_t nbytes, uint8_t device_type, int8_t device_index,
                                void (*deleter)(vt_storage*) noexcept, void* context)
    bint vt_storage_is_own(const vt_storage* s)
    void vt_storage_incref(vt_storage* s)
    void vt_storage_decref(vt_storage* s)
    void vt_cpu_empty_cache()


cdef extern from "core/state.h" nogil:
    enum:
        VT_KEY_META, VT_KEY_CPU, VT_KEY_CUDA, VT_KEY_FABRIC, VT_KEY_AUTOGRAD, VT_KEY_FUNCTIONALIZE
        VT_KEY_FORWARD_AD, VT_KEY_AUTOCAST, VT_KEY_VMAP, VT_KEY_TRACE, VT_KEY_PYTHON, VT_NUM_KEYS
        VT_MAX_OPS, VT_MAX_FUNCTORS

    void* vt_entries[1024][16]
    vt_kernel vt_kernels[1024][3]
    vt_loop vt_cpu_loops[512][12]
    vt_loop vt_cpu_casts[12][12]

    ctypedef struct vt_tls_state:
        uint32_t included
        uint32_t excluded
        uint32_t inference
        uint32_t retaining
        uint64_t unneeded
        uint8_t autocast_devices
        bint autocast_uncached
        uint8_t autocast_dtype[3]
        int32_t autocast_nesting
        void* casts

    vt_tls_state vt_tls
    int vt_top_key(uint32_t keys)
    uint32_t vt_effective_keys(uint32_t keys)
    uint32_t vt_castable_keys(uint32_t keys)
    uint32_t vt_autocast_exchange(uint32_t devices)
    bint vt_grad_enabled()
    const char* vt_op_name(int op)
    void vt_cpu_register()
    const char* vt_cpu_capability()


cdef extern from "core/iter.h" nogil:
    enum:
        VT_MAX_OPERANDS

    ctypedef struct vt_iter:
        int32_t noperands
        int32_t ndim
        int64_t numel
        uint8_t dtype[6]
        uint8_t loop_dtype[6]
        uint8_t host[6]
        char* data[6]
        int64_t sizes[64]
        int64_t strides[6][64]

    void vt_cpu_pointwise(const vt_iter* it, vt_loop loop, const vt_value* params)
    void vt_cpu_pointwise_flat(vt_loop loop, int noperands, char* const* data, const int64_t* steps,
                               int64_t numel, const vt_value* params)


cdef extern from "core/backend.h" nogil:
    enum:
        VT_HOST

    ctypedef struct vt_backend:
        int ready
        const char* (*last_error)() noexcept nogil
        int (*device_count)() noexcept nogil
        int (*current_device)() noexcept nogil
        void* (*current_stream)(int device) noexcept nogil
        void* (*exchange_stream)(int device, void* stream) noexcept nogil
        vt_status (*order_streams)(int consumer_device, void* consumer, int producer_device,
                                   void* producer) noexcept nogil
        vt_status (*enter)(int device, vt_context* ctx) noexcept nogil
        void (*leave)(vt_context* ctx) noexcept nogil
        vt_storage* (*allocate)(int device, size_t nbytes) noexcept nogil
        int (*lacked_memory)() noexcept nogil
        void (*record_stream)(vt_storage* s, void* stream) noexcept nogil
        vt_storage* (*allocate_pinned)(size_t nbytes) noexcept nogil
        int (*is_pinned)(const void* address) noexcept nogil
        int (*device_of)(const void* address) noexcept nogil
        vt_status (*pointwise)(const vt_iter* it, int functor, int dtype, const vt_value* params,
                               vt_context* ctx) noexcept nogil
        vt_status (*pointwise_flat)(int functor, int dtype, int noperands, char* const* data,
                                    int64_t numel, const vt_value* params,
                                    vt_context* ctx) noexcept nogil
        vt_status (*copy)(const vt_iter* it, vt_context* ctx) noexcept nogil
        vt_status (*copy_bytes)(char* dst, int dst_device, const char* src, int src_device,
                                size_t bytes, vt_storage* pinned, int non_blocking,
                                vt_context* ctx) noexcept nogil
        vt_status (*wait)(vt_context* ctx) noexcept nogil

    vt_backend vt_backends[3]


cdef extern from "cpu/parallel.h" nogil:
    void vt_set_num_threads(int n)
    int vt_get_num_threads()


cdef enum:
    KEYS_AUTOGRAD = 1 << 4  # 1 << VT_KEY_AUTOGRAD
    KEYS_CPU = 1 << 1
    KEYS_CUDA = 1 << 2
