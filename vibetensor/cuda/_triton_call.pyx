"""Users' Triton kernels on our tensors: ``kernel[grid](x, y, n, BLOCK=1024)`` at the cost of a look-up.

Triton's own way from the call to the launch takes some 8 us of Python. Here a call is described by a
row of words, as Triton specialises: of a tensor the dtype and whether its address is a multiple of 16,
of an int its width, divisibility by 16 and whether it is 1, of a constexpr the value. The words name
an Entry, which knows the machine code and where each argument goes. A call that has no entry yet is
compiled by Triton (vibetensor.kernels._driver).
"""
import weakref

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_AsDouble, PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.number cimport PyNumber_Index
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy, memset

from vibetensor.core.tensor cimport Tensor
from vibetensor.core.types cimport VT_CUDA, vt_status
from vibetensor.cuda._runtime cimport check
from vibetensor.cuda._triton cimport ImageView, vt_triton_image


cdef extern from "vibetensor/cuda/triton_api.h" nogil:
    ctypedef struct vt_triton_code:
        pass
    vt_status vt_triton_load(const vt_triton_image* image, int device, vt_triton_code** code)
    vt_status vt_triton_launch(const vt_triton_code* code, int device, unsigned int x,
                               unsigned int y, unsigned int z, char* arguments, size_t bytes)
    vt_status vt_triton_repeat(const vt_triton_code* code, int device, unsigned int x,
                               char* arguments, size_t bytes, int n, int bare)
    vt_status vt_triton_encode(const vt_triton_code* code, int n, void* to, const void* data,
                               const int64_t* sizes, const int64_t* strides)

cdef extern from "vibetensor/cuda/runtime_api.h" nogil:
    int vt_cuda_current_device()

cdef extern from "Python.h":
    ctypedef struct PyMethodDef:
        const char* ml_name
        void* ml_meth
        int ml_flags
        const char* ml_doc
    enum:
        METH_FASTCALL
        METH_KEYWORDS
    object PyCFunction_NewEx(PyMethodDef* definition, object self, PyObject* module)
    int64_t PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    uint64_t PyLong_AsUnsignedLongLong(object value) except? -1
    uint64_t PyLong_AsUnsignedLongLongMask(object value) except? -1
    int PyFloat_Pack2(double value, char* to, int little_endian) except -1
    bint PyCallable_Check(object o)

cdef enum:
    MAX_WORDS = 640
    MAX_LEAVES = 256
    MAX_BYTES = 4096     # of arguments, the driver's limit on devices before 7.0 and far enough
    MAX_ENTRIES = 1024   # of a kernel; beyond it all are forgotten

# What a word of a key begins with.
cdef enum:
    W_TENSOR = 1
    W_INT = 2
    W_FLOAT = 3
    W_BOOL = 4
    W_NONE = 5
    W_TUPLE = 6
    W_CONSTANT_INT = 7
    W_CONSTANT_FLOAT = 8
    W_CONSTANT_BOOL = 9
    W_OBJECT = 10
    W_FOREIGN = 11       # a tensor of another library
    W_DESCRIPTOR = 12

# How an argument is packed.
cdef enum:
    P_POINTER = 0
    P_INTEGER = 1
    P_FLOAT16 = 2
    P_BFLOAT16 = 3
    P_FLOAT32 = 4
    P_FLOAT64 = 5
    P_DESCRIPTOR = 6

PACKING = {
    "fp16": (P_FLOAT16, 2), "bf16": (P_BFLOAT16, 2), "fp32": (P_FLOAT32, 4), "f32": (P_FLOAT32, 4),
    "fp64": (P_FLOAT64, 8),
}

cdef object TensorDescriptors = ()  # classes; _driver.install() sets them
cdef object compile_call = None, run_foreign = None, run_hooks = None
cdef list enter_hooks = []


def connect(descriptors, compiler, foreign, hooks, hook_calls):
    """What _driver.py does: the classes of descriptors, the way to an Entry, the way to Triton."""
    global TensorDescriptors, compile_call, run_foreign, run_hooks, enter_hooks
    TensorDescriptors, compile_call, run_foreign = descriptors, compiler, foreign
    run_hooks, enter_hooks = hooks, hook_calls


cdef struct Item:
    int16_t leaf       # of the call; -1: the literal of this item
    uint8_t packing, size
    uint16_t offset


cdef class Entry:
    """A specialisation on a device, and how the leaves of a call become its arguments.

    `items` are (leaf or None, type, offset, literal). `names` and `defaults` give the dictionary that
    a callable grid gets; `held` keeps alive what the key names by address.
    """
    cdef vt_triton_code* code
    cdef int device, count
    cdef size_t bytes
    cdef Item items[MAX_LEAVES]
    cdef list literals, used_globals
    cdef dict defaults
    cdef readonly object compiled
    cdef object held

    def __init__(self, image, int device, list items, dict defaults, compiled, used_globals):
        cdef ImageView view = ImageView(image)
        cdef int i
        cdef Item* item
        if len(items) > MAX_LEAVES or image.argument_bytes > MAX_BYTES:
            raise ValueError(f"{image.name}: too many arguments")
        check(vt_triton_load(&view.c, device, &self.code))
        self.device, self.compiled, self.defaults = device, compiled, defaults
        self.bytes = image.argument_bytes
        self.used_globals = used_globals
        self.literals = []
        self.count = <int>len(items)
        for i, (leaf, type, offset, literal) in enumerate(items):
            item = &self.items[i]
            item.leaf = -1 if leaf is None else leaf
            item.offset = offset
            if type[0] == "*":
                item.packing, item.size = P_POINTER, 8
            elif type.startswith("tensordesc"):
                item.packing, item.size = P_DESCRIPTOR, 128
            elif type in PACKING:
                item.packing, item.size = PACKING[type]
            else:
                item.packing, item.size = P_INTEGER, max(1, int(type[1:]) // 8)
            self.literals.append(literal)

    cdef int pack(self, Call* call, char* to) except -1:
        cdef int i, descriptor = 0
        cdef Item* item
        cdef object leaf
        for i in range(self.count):
            item = &self.items[i]
            leaf = <object>call.leaves[item.leaf] if item.leaf >= 0 else self.literals[i]
            if item.packing == P_INTEGER:
                pack_integer(leaf, item.size, to + item.offset)
            elif item.packing == P_POINTER:
                (<uint64_t*>(to + item.offset))[0] = address_of(leaf)
            elif item.packing == P_DESCRIPTOR:
                pack_descriptor(self.code, descriptor, leaf, to + item.offset)
                descriptor += 1
            else:
                pack_float(PyFloat_AsDouble(leaf), item.packing, to + item.offset)
        return 0

    cdef int launch(self, Call* call, unsigned int x, unsigned int y, unsigned int z) except -1:
        cdef char arguments[MAX_BYTES]
        cdef vt_status status
        memset(arguments, 0, self.bytes)
        self.pack(call, arguments)
        status = vt_triton_launch(self.code, self.device, x, y, z, arguments, self.bytes)
        if status != 0:
            check(status)
        return 0

    def repeat(self, int blocks, args, int n, bint bare):
        """Launches n times without Python in between; `bare`: without our launcher too. To measure."""
        cdef Call call
        cdef char arguments[MAX_BYTES]
        begin(&call)
        for arg in args:
            describe(&call, arg, False)
        memset(arguments, 0, self.bytes)
        self.pack(&call, arguments)
        check(vt_triton_repeat(self.code, self.device, blocks, arguments, self.bytes, n, bare))

    def __call__(self, grid, args):
        """Launches with the leaves of `args`; for CompiledKernel's own call."""
        cdef Call call
        begin(&call)
        for arg in args:
            describe(&call, arg, False)
        self.launch(&call, grid[0], grid[1], grid[2])


cdef inline int pack_integer(object value, int size, char* to) except -1:
    cdef int overflow
    cdef int64_t n = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow > 0:
        n = <int64_t>PyLong_AsUnsignedLongLong(value)
    elif overflow < 0:
        raise OverflowError(f"{value} does not fit in 64 bits")
    if size == 4:
        (<int32_t*>to)[0] = <int32_t>n
    elif size == 8:
        (<int64_t*>to)[0] = n
    elif size == 2:
        (<int16_t*>to)[0] = <int16_t>n
    else:
        (<int8_t*>to)[0] = <int8_t>n
    return 0


cdef int pack_float(double value, int packing, char* to) except -1:
    cdef float narrow = <float>value
    cdef uint32_t bits
    if packing == P_FLOAT32:
        (<float*>to)[0] = narrow
    elif packing == P_FLOAT64:
        (<double*>to)[0] = value
    elif packing == P_FLOAT16:
        PyFloat_Pack2(value, to, 1)
    else:  # truncated, as Triton's launcher does
        memcpy(&bits, &narrow, 4)
        (<uint16_t*>to)[0] = <uint16_t>(bits >> 16)
    return 0


cdef inline uint64_t address_of(object leaf) except? 1:
    if isinstance(leaf, Tensor):
        return <uintptr_t>(<Tensor>leaf).data
    if leaf is None:
        return 0
    if isinstance(leaf, int):
        return PyLong_AsUnsignedLongLong(leaf)
    return PyLong_AsUnsignedLongLong(leaf.data_ptr())


cdef int pack_descriptor(vt_triton_code* code, int n, object leaf, char* to) except -1:
    """A tensor map by value, then the sizes (32 bits), then the strides."""
    cdef int64_t sizes[5]
    cdef int64_t strides[5]
    cdef int i, rank = <int>len(leaf.shape)
    cdef int strides_at = 128 + (4 * rank + 7) // 8 * 8
    if leaf.padding != "zero":
        raise NotImplementedError("tensor descriptors are padded with zeros only")
    for i in range(rank):
        sizes[i], strides[i] = leaf.shape[i], leaf.strides[i]
        (<int32_t*>(to + 128 + 4 * i))[0] = <int32_t>sizes[i]
    memcpy(to + strides_at, strides, 8 * rank)
    check(vt_triton_encode(code, n, to, <void*><uintptr_t>address_of(leaf.base), sizes, strides))
    return 0


include "call_words.pxi"


# --- kernels ------------------------------------------------------------------------------------------


cdef object kernels = weakref.WeakSet()


def forget():
    """Drops every entry, when the driver is exchanged."""
    cdef Kernel kernel
    for kernel in list(kernels):
        kernel.entries.clear()


def entries_of(function):
    """The specialisations of a kernel that were launched so far; for tests and benchmarks."""
    return list(kernel_of(function).entries.values())


cdef class Kernel:
    """What is known of a ``@triton.jit`` function: its parameters and its entries."""
    cdef readonly object function
    cdef dict entries, numbers  # the latter: name of a parameter -> its number
    cdef tuple names
    cdef uint8_t constexpr[MAX_LEAVES]
    cdef list pre_run_hooks
    cdef object __weakref__

    def __init__(self, function):
        cdef int i
        self.function = function
        self.names = tuple([p.name for p in function.params])
        if len(self.names) > MAX_LEAVES:
            raise ValueError(f"{function.__name__}: a kernel has at most {MAX_LEAVES} parameters")
        self.numbers = {name: i for i, name in enumerate(self.names)}
        for i, p in enumerate(function.params):
            self.constexpr[i] = p.is_constexpr
        self.entries = {}
        self.pre_run_hooks = function.pre_run_hooks
        kernels.add(self)

    cdef int add_positional(self, Call* call, PyObject** args, Py_ssize_t n) except -1:
        cdef Py_ssize_t i
        if n > PyTuple_GET_SIZE(self.names):
            raise TypeError(
                f"{self.function.__name__}[grid](): takes {len(self.names)} arguments, but {n} were given"
            )
        for i in range(n):
            describe(call, <object>args[i], self.constexpr[i])
        return 0

    cdef int add_named(self, Call* call, object name, object value) except -1:
        cdef PyObject* number = PyDict_GetItemWithError(self.numbers, name)
        by_address(call, name)
        describe(call, value, number is NULL or self.constexpr[<int>(<object>number)])
        return 0

    cdef object add(self, Call* call, tuple args, dict kwargs):
        """The entry of a call that has none yet."""
        cdef int i
        cdef bytes key = PyBytes_FromStringAndSize(<char*>call.words, 8 * call.num_words)
        entry = compile_call(self.function, args, kwargs, call.device)
        if entry is None:
            return None
        if len(self.entries) >= MAX_ENTRIES:
            self.entries.clear()
        (<Entry>entry).held = [<object>call.objects[i] for i in range(call.num_objects)]
        self.entries[key] = entry
        return entry


cdef int check_globals(object function, list used) except -1:
    for name, value, home in used:
        now = (<dict>home).get(name, used)
        if now is not value and now != value:
            raise RuntimeError(
                f"Global variable {name} has changed since we compiled this kernel, from {value} to {now}"
            )
    return 0


cdef Kernel kernel_of(object function):
    cdef dict attributes = function.__dict__
    cdef PyObject* found = PyDict_GetItemWithError(attributes, "_vibetensor")
    if found is not NULL:
        return <Kernel>found
    attributes["_vibetensor"] = made = Kernel(function)
    return made


cdef object finish(Kernel kernel, Call* call, object grid, PyObject** args, Py_ssize_t n, tuple names,
                   tuple given, dict keywords):
    """From the words to the launch. The positional arguments lie at `args`, followed by the values of
    `names`; `given` and `keywords` are the same as objects, or None."""
    cdef Entry entry
    cdef PyObject* found
    cdef dict meta
    cdef Py_ssize_t i
    cdef int64_t x, y, z
    cdef int64_t[3] blocks
    cdef bytes key = PyBytes_FromStringAndSize(<char*>call.words, 8 * call.num_words)
    found = PyDict_GetItemWithError(kernel.entries, key)
    if found is NULL or kernel.pre_run_hooks or enter_hooks or call.bad is not NULL:
        if given is None:
            given = tuple([<object>args[i] for i in range(n)])
            keywords = {name: <object>args[n + i] for i, name in enumerate(names)}
        if call.num_tensors == 0 and run_foreign is not None:
            done, result = run_foreign(kernel.function, grid, given, keywords)
            if done:
                return result
        if call.bad is not NULL:
            wrong_device(kernel, <object>call.bad, call.device, given, keywords)
        for hook in kernel.pre_run_hooks:
            hook(*given, **keywords)
        if found is NULL:
            entry = kernel.add(call, given, keywords)
            if entry is None:
                return None
        else:
            entry = <Entry>found
    else:
        entry = <Entry>found
    if entry.used_globals:
        check_globals(kernel.function, entry.used_globals)
    if PyCallable_Check(grid):
        meta = entry.defaults.copy()
        for i in range(n):
            meta[<object>PyTuple_GET_ITEM(kernel.names, i)] = <object>args[i]
        for i in range(PyTuple_GET_SIZE(names)):
            name = <object>PyTuple_GET_ITEM(names, i)
            if name in kernel.numbers:
                meta[name] = <object>args[n + i]
        grid = grid(meta)
    read_grid(kernel, grid, blocks)
    x, y, z = blocks[0], blocks[1], blocks[2]
    if x <= 0 or y <= 0 or z <= 0:
        return entry.compiled
    if x > 0x7fffffff or y > 65535 or z > 65535:
        raise ValueError(
            f"{kernel.function.__name__}[grid](): a grid has at most (2147483647, 65535, 65535) blocks, "
            f"got ({x}, {y}, {z})"
        )
    if enter_hooks:
        run_hooks(entry.compiled, (x, y, z), given, True)
    entry.launch(call, <unsigned int>x, <unsigned int>y, <unsigned int>z)
    if enter_hooks:
        run_hooks(entry.compiled, (x, y, z), given, False)
    return entry.compiled


cdef int read_grid(Kernel kernel, object grid, int64_t* blocks) except -1:
    cdef Py_ssize_t i = 0
    cdef object size
    blocks[0] = blocks[1] = blocks[2] = 1
    if not isinstance(grid, (tuple, list)) or not 1 <= len(grid) <= 3:
        raise TypeError(
            f"{kernel.function.__name__}[grid](): a grid is a tuple of one to three integers, or a function "
            f"that returns one, got {grid!r}"
        )
    for size in grid:
        blocks[i] = size if PyLong_CheckExact(size) else PyNumber_Index(size)
        i += 1
    return 0


cdef wrong_device(Kernel kernel, object tensor, int device, tuple args, dict kwargs):
    name = "?"
    for n, value in (*zip(kernel.names, args), *kwargs.items()):
        if value is tensor or getattr(value, "base", None) is tensor:
            name = n
            break
    raise ValueError(
        f"{kernel.function.__name__}[grid](): argument '{name}' is on {tensor.device}, expected "
        f"cuda:{device}, the current device"
    )


# --- the two ways in ----------------------------------------------------------------------------------


cdef class Bound:
    """``kernel[grid]``."""
    cdef Kernel kernel
    cdef object grid


cdef object call_bound(object self, PyObject** args, Py_ssize_t n, PyObject* names):
    """``kernel[grid](...)``, a vectorcall."""
    cdef Bound bound = <Bound>self
    cdef Call call
    cdef Py_ssize_t i
    cdef tuple keywords = <tuple>names if names is not NULL else ()
    begin(&call)
    word(&call, <uint64_t>n << 8 | <uint64_t>call.device)
    bound.kernel.add_positional(&call, args, n)
    for i in range(PyTuple_GET_SIZE(keywords)):
        bound.kernel.add_named(&call, <object>PyTuple_GET_ITEM(keywords, i), <object>args[n + i])
    return finish(bound.kernel, &call, bound.grid, args, n, keywords, None, None)


cdef PyMethodDef call_definition
call_definition.ml_name = b"kernel"
call_definition.ml_meth = <void*>call_bound
call_definition.ml_flags = METH_FASTCALL | METH_KEYWORDS
call_definition.ml_doc = b"A Triton kernel with its grid: call it with the kernel's arguments."


def getitem(function, grid):
    """``kernel[grid]``, in place of JITFunction's."""
    cdef Bound bound = Bound.__new__(Bound)
    bound.kernel = kernel_of(function)
    bound.grid = grid
    return PyCFunction_NewEx(&call_definition, bound, NULL)


def run(function, *args, grid, **kwargs):
    """``kernel.run(..., grid=grid)``, the way of Autotuner and Heuristics."""
    cdef Kernel kernel = kernel_of(function)
    cdef Call call
    cdef PyObject* values[MAX_LEAVES]
    cdef Py_ssize_t i = 0, n = len(args)
    if n + len(kwargs) > MAX_LEAVES:
        raise ValueError(f"a Triton kernel takes at most {MAX_LEAVES} arguments")
    begin(&call)
    for i in range(n):
        values[i] = PyTuple_GET_ITEM(args, i)
    word(&call, <uint64_t>n << 8 | <uint64_t>call.device)
    kernel.add_positional(&call, values, n)
    i = n
    for name, value in kwargs.items():
        kernel.add_named(&call, name, value)
        values[i] = <PyObject*>value
        i += 1
    return finish(kernel, &call, grid, values, n, tuple(kwargs), args, kwargs)
