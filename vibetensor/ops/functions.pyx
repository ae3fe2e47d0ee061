"""Functions whose Python signature fits no generated stub: named results, several forms."""
from collections import namedtuple

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t

from vibetensor.autograd.node cimport set_view
from vibetensor.core.dtype cimport dtype, dtype_code
from vibetensor.core.errors cimport wrong_type
from vibetensor.core.tensor cimport INLINE_DIMS, Tensor
from vibetensor.core.tensor import install
from vibetensor.core.types cimport *
from vibetensor.core.views cimport view_by_sizes
from vibetensor.ops.arguments cimport (
    bool_arg, int_arg, ints_arg, number_tensor_arg, read_sizes, store_out, varargs,
)
from vibetensor.ops.composites cimport check_where
from vibetensor.ops.entries cimport *
from vibetensor.ops.support cimport PyVectorcall_NARGS, is_tensor, vt_plain_call, vt_set_fast_call
from vibetensor.ops.support import publish

dtype_type = dtype  # `view` has a parameter of that name
Sorted = namedtuple("sort", "values indices")
TopK = namedtuple("topk", "values indices")
Max = namedtuple("max", "values indices")
Min = namedtuple("min", "values indices")


def sort(input, dim=-1, descending=False, stable=False):
    """Named tuple (values, indices): `input` sorted along `dim`; NaN counts as largest.

    >>> vt.sort(vt.tensor([3, 1])).values
    tensor([1, 3])
    """
    if not isinstance(input, Tensor):
        wrong_type("sort", "input", 1, "Tensor", input)
    return Sorted(*op__sort(
        <Tensor>input, int_arg("sort", "dim", 2, dim), bool_arg("sort", "descending", 3, descending),
        bool(stable),
    ))


def topk(input, k, dim=-1, largest=True, sorted=True):
    """Named tuple (values, indices): the `k` largest (or smallest) elements along `dim`.

    >>> vt.topk(vt.tensor([3, 1, 2]), 2).values
    tensor([3, 2])
    """
    if not isinstance(input, Tensor):
        wrong_type("topk", "input", 1, "Tensor", input)
    return TopK(*op__topk(
        <Tensor>input, int_arg("topk", "k", 2, k), int_arg("topk", "dim", 3, dim),
        bool_arg("topk", "largest", 4, largest), bool_arg("topk", "sorted", 5, sorted),
    ))


cdef object extremum(str op, object kind, object input, object dim, bint keepdim, bint largest):
    cdef Tensor t, values, indices
    if not isinstance(input, Tensor):
        wrong_type(op, "input", 1, "Tensor", input)
    t = <Tensor>input
    if dim is None:
        if t.numel == 0:
            raise RuntimeError(
                f"{op}(): Expected reduction dim to be specified for input.numel() == 0. Specify the "
                f"reduction dim with the 'dim' argument."
            )
        return op_amax(t, (), False) if largest else op_amin(t, (), False)
    if isinstance(dim, Tensor):
        return op_maximum(t, <Tensor>dim) if largest else op_minimum(t, <Tensor>dim)
    d = int_arg(op, "dim", 2, dim)
    compared = op_to_dtype(t, VT_U8) if t.dtype == VT_BOOL else t
    indices = op_argmax(compared, d, True) if largest else op_argmin(compared, d, True)
    values = op_gather(t, d, indices)
    if not keepdim and t.ndim > 0:
        values, indices = op_squeeze(values, d), op_squeeze(indices, d)
    return kind(values, indices)


def max(input, dim=None, keepdim=False, *, other=None):
    """The largest element, or the named tuple (values, indices) along `dim`; NaN wins.

    ``max(a, b)`` of two tensors is :func:`maximum`.

    >>> vt.max(vt.tensor([3, 1]))
    tensor(3)
    """
    return extremum("max", Max, input, dim if other is None else other, keepdim, True)


def min(input, dim=None, keepdim=False, *, other=None):
    """The smallest element, or the named tuple (values, indices) along `dim`; NaN wins.

    ``min(a, b)`` of two tensors is :func:`minimum`.
    """
    return extremum("min", Min, input, dim if other is None else other, keepdim, False)


def nonzero(input, *, as_tuple=False):
    """The indices of the non-zero elements: int64 of shape (count, rank), or one vector per dimension.

    >>> vt.nonzero(vt.tensor([0, 5]))
    tensor([[1]])
    """
    if not isinstance(input, Tensor):
        wrong_type("nonzero", "input", 1, "Tensor", input)
    if not as_tuple:
        return op_find(<Tensor>input)
    if (<Tensor>input).ndim == 0:
        input = op_unsqueeze(<Tensor>input, 0)
    return op_unbind(op_find(<Tensor>input), 1)


cdef Tensor where_tensor(object condition, object input, object other):
    if not isinstance(condition, Tensor):
        wrong_type("where", "condition", 1, "Tensor", condition)
    if not isinstance(input, Tensor):
        input = number_tensor_arg("where", "input", 2, input)
    if not isinstance(other, Tensor):
        other = number_tensor_arg("where", "other", 3, other)
    check_where(<Tensor>condition, <Tensor>input, <Tensor>other)
    return op__where(<Tensor>condition, <Tensor>input, <Tensor>other)


def where(condition, input=None, other=None, *, out=None):
    """`input` where `condition` (bool), else `other`; both may be numbers.

    Of `condition` alone: the indices of its non-zero elements, as :func:`nonzero` with ``as_tuple=True``.

    >>> vt.where(vt.tensor([True, False]), 1, 2)
    tensor([1, 2])
    """
    if input is None and other is None and out is None:
        return nonzero(condition, as_tuple=True)
    result = where_tensor(condition, input, other)
    return result if out is None else store_out("where", result, out)


def _where_method(self, condition, other):
    """The tensor where `condition` (bool), else `other`, a tensor or a number."""
    return where_tensor(condition, <Tensor?>self, other)


def view(self, *args, size=None, dtype=None):
    """The same elements in another shape: ``view(2, -1)`` (one size may be -1), or the same memory read as
    another dtype: ``view(vt.int32)``.

    Raises ``RuntimeError`` where the shape needs a copy; ``reshape`` makes one then.
    """
    if dtype is None and len(args) == 1 and isinstance(args[0], dtype_type):
        dtype = args[0]
    if dtype is not None:
        return op_view_dtype(<Tensor?>self, dtype_code(dtype))
    if size is None:
        if not args:
            raise TypeError("view() missing 1 required positional argument: 'size'")
        size = varargs("view", "size", args)
    return op_view(<Tensor?>self, ints_arg("view", "size", 1, size))


cdef object fast_view(PyObject* f, PyObject** args, size_t n, PyObject* names):
    """``t.view(2, -1)`` where the entry of every backend would be called: no tuple is made."""
    cdef int64_t sizes[INLINE_DIMS]
    cdef Py_ssize_t rank = PyVectorcall_NARGS(n) - 1
    cdef Tensor out
    if (
        names is NULL and 1 <= rank <= INLINE_DIMS and is_tensor(args[0])
        and vt_effective_keys((<Tensor>args[0]).keyset) in (1 << VT_KEY_CPU, 1 << VT_KEY_CUDA)
        and read_sizes(args + 1, rank, sizes)
    ):
        out = view_by_sizes(<Tensor>args[0], <int>rank, sizes)
        set_view(out, <Tensor>args[0])
        return out
    return vt_plain_call(f, args, n, names)


vt_set_fast_call(view, fast_view)
for _f in (max, min, nonzero, sort, topk):
    publish("vt", _f.__name__, _f)
    install(_f.__name__, _f)
install("view", view)
publish("vt", "where", where)
_where_method.__name__ = "where"
_where_method.__qualname__ = "Tensor.where"
install("where", _where_method)


# --- attributes that are views ---------------------------------------------------------------------------

def _t(self):
    """The dimensions in reverse order."""
    cdef Tensor t = <Tensor?>self
    if t.ndim == 2:
        return op_transpose(t, 0, 1)
    return op_permute(t, tuple(range(t.ndim - 1, -1, -1)))


def _mt(self):
    """The last two dimensions swapped."""
    cdef Tensor t = <Tensor?>self
    if t.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {t.ndim}-D tensor."
        )
    return op_transpose(t, -2, -1)


def _h(self):
    """The conjugate transpose of a matrix."""
    cdef Tensor t = <Tensor?>self
    if t.ndim != 2 and t.ndim != 0:
        hint = " For batches of matrices, consider using tensor.mH" if t.ndim > 2 else ""
        raise RuntimeError(
            f"tensor.H is only supported on matrices (2-D tensors). Got {t.ndim}-D tensor.{hint}"
        )
    return op_conj(t if t.ndim == 0 else op_transpose(t, 0, 1))


def _mh(self):
    """The last two dimensions swapped, conjugated."""
    cdef Tensor t = <Tensor?>self
    if t.ndim == 1:
        raise RuntimeError(
            "tensor.mH is only supported on matrices or batches of matrices. Got 1-D tensor."
        )
    return op_conj(t if t.ndim == 0 else op_transpose(t, -2, -1))


install("H", property(_h, doc="The conjugate transpose of a matrix."))
install("mH", property(_mh, doc="The last two dimensions swapped, conjugated."))
_mh.__name__ = "adjoint"
_mh.__qualname__ = "Tensor.adjoint"
install("adjoint", _mh)
install("T", property(_t, doc="The dimensions in reverse order."))
install("mT", property(_mt, doc="The last two dimensions swapped."))
install("real", property(lambda self: op_real(<Tensor?>self), doc="The real part."))
