# The words of a call: what its machine code depends on (_triton_call.pyx includes this).

cdef struct Call:
    int num_words, num_leaves, num_objects, num_tensors
    int device            # the current one
    PyObject* bad         # a tensor that does not lie there
    uint64_t words[MAX_WORDS]
    PyObject* leaves[MAX_LEAVES]
    PyObject* objects[MAX_WORDS]  # those that words name by address


cdef inline void word(Call* call, uint64_t value) noexcept:
    call.words[call.num_words] = value
    call.num_words += 1


cdef inline void by_address(Call* call, object value) noexcept:
    """A word that is an address: the entry will keep the object alive."""
    word(call, <uintptr_t><PyObject*>value)
    call.objects[call.num_objects] = <PyObject*>value
    call.num_objects += 1


cdef inline void begin(Call* call) noexcept:
    call.num_words = call.num_leaves = call.num_objects = call.num_tensors = 0
    call.device = vt_cuda_current_device()
    call.bad = NULL


cdef int describe(Call* call, object arg, bint constexpr) except -1:
    """Adds an argument: its words and its leaves."""
    cdef Tensor t
    cdef int64_t n
    cdef int overflow = 0, kind
    cdef double x
    cdef uint64_t bits
    if call.num_leaves >= MAX_LEAVES or call.num_words + 4 >= MAX_WORDS:
        raise ValueError(f"a Triton kernel takes at most {MAX_LEAVES} arguments")
    if isinstance(arg, Tensor):
        t = <Tensor>arg
        if (t.device_type != VT_CUDA or t.device_index != call.device) and call.bad is NULL:
            call.bad = <PyObject*>arg
        call.num_tensors += 1
        word(call, W_TENSOR | <uint64_t>t.dtype << 8 | <uint64_t>(<uintptr_t>t.data % 16 == 0) << 16)
        if constexpr:
            by_address(call, arg)
    elif arg is True or arg is False:
        word(call, (W_CONSTANT_BOOL | <uint64_t>(arg is True) << 8) if constexpr else W_BOOL)
    elif PyLong_CheckExact(arg):
        n = PyLong_AsLongLongAndOverflow(arg, &overflow)
        if constexpr and not overflow:
            word(call, W_CONSTANT_INT)
            word(call, <uint64_t>n)
        elif constexpr:
            word(call, W_OBJECT)
            by_address(call, arg)
        else:
            kind = 3 if overflow else 1 if -0x80000000 <= n <= 0x7fffffff else 2
            if overflow:
                n = <int64_t>PyLong_AsUnsignedLongLongMask(arg)
            word(call, W_INT | <uint64_t>kind << 8 | <uint64_t>(n % 16 == 0) << 16 | <uint64_t>(n == 1) << 17)
    elif arg is None:
        word(call, W_NONE)
    elif PyFloat_CheckExact(arg):
        if constexpr:
            x = PyFloat_AS_DOUBLE(arg)
            memcpy(&bits, &x, 8)
            word(call, W_CONSTANT_FLOAT)
            word(call, bits)
        else:
            word(call, W_FLOAT)
    elif isinstance(arg, tuple) and not constexpr:
        word(call, W_TUPLE | <uint64_t>len(arg) << 8)
        kind_of = type(arg)  # a named tuple's fields are part of the kernel
        by_address(call, kind_of)
        for element in <tuple>arg:
            describe(call, element, False)
        return 0
    elif not constexpr and isinstance(arg, TensorDescriptors):
        t = arg.base if isinstance(arg.base, Tensor) else None
        if t is not None:
            call.num_tensors += 1
            if (t.device_type != VT_CUDA or t.device_index != call.device) and call.bad is NULL:
                call.bad = <PyObject*>t
        layout = getattr(arg, "layout", None)
        word(call, W_DESCRIPTOR)
        word(call, number_of((str(arg.base.dtype), tuple(arg.block_shape), repr(layout), arg.padding)))
    elif not constexpr and hasattr(arg, "data_ptr") and hasattr(arg, "dtype"):
        word(call, W_FOREIGN | <uint64_t>(arg.data_ptr() % 16 == 0) << 16)
        word(call, number_of(str(arg.dtype)))
    else:
        word(call, W_OBJECT)
        by_address(call, arg)
    call.leaves[call.num_leaves] = <PyObject*>arg
    call.num_leaves += 1
    return 0


cdef dict numbers = {}


cdef uint64_t number_of(object value) except? 0:
    """A number for a value, the same each time."""
    return numbers.setdefault(value, len(numbers) + 1)
