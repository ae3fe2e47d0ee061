"""The declaration of every operator, once. Pure Python, loadable without the compiled library.

An operator is a decorated function: its signature is the schema, its docstring the documentation,
the decorator names the kind. The build turns declarations into code (``python -m vibetensor._gen
show gelu`` prints it), and tests, docs and benchmarks walk ``OPS``.

========== =============================================================== ======
kind       what else must be written                                        places
========== =============================================================== ======
pointwise  a scalar functor in ``cuda_src/vt``                              2
reduction  a kernel per backend                                             3
kernel     a kernel per backend                                             3
view       a geometry function in ``core/views.pyx``                        2
composite  nothing: the function body is the operator                       1
manual     a handwritten entry in ``ops/manual.pyx``                        2
handwritten  a handwritten Python function (no entry): the table has name, docs, tests
========== =============================================================== ======

Bodies (gradients, composites, ``prepare``) are compiled, not run: a call of an operator by name
becomes a call of its C entry, tensors are typed, everything else is Python at C speed.
"""
from __future__ import annotations

import dataclasses
import inspect
import pathlib
from collections.abc import Callable

OPS: dict[str, Op] = {}

# Families of declarations, in the order they are loaded; each becomes one compiled module.
FAMILIES = (
    "pointwise", "reduction", "view", "creation", "index", "linalg", "nn", "attention", "fused",
    "optim", "composite",
)

BOOL = ("bool",)
INTEGRAL = ("uint8", "int8", "int16", "int32", "int64")
FLOATING = ("float16", "bfloat16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
REAL = INTEGRAL + FLOATING
NUMERIC = REAL + COMPLEX
ALL = BOOL + NUMERIC

KINDS = ("pointwise", "reduction", "kernel", "view", "composite", "manual", "handwritten")

# Where a name may appear. "out": the function takes out=. "inplace": a method `name_`;
# "vt_" and "nn.functional_": a function `name_`.
SURFACES = (
    "vt", "Tensor", "nn.functional", "special", "inplace", "vt_", "nn.functional_", "out"
)


class Tensor:
    """Stands for a tensor in annotations."""


class Scalar:
    """A Python number: int, float, bool or complex."""


class Number(Scalar):
    """In ``Tensor | Number``: a number is taken where a tensor is expected."""


class dtype:
    """An element type."""


class Generator:
    """A random number generator."""


@dataclasses.dataclass
class Param:
    """One parameter of a declaration; `type` is the annotation as written."""

    name: str
    type: str
    default: object
    keyword_only: bool

    @property
    def required(self):
        return self.default is inspect.Parameter.empty

    @property
    def is_tensor(self):
        return self.type in ("Tensor", "Tensor | None", "Tensor | Number")

    @property
    def is_tensor_list(self):
        return self.type in ("list[Tensor]", "list[Tensor | None]")


@dataclasses.dataclass
class Op:
    """An operator: what the decorators collect."""

    name: str
    kind: str
    fn: Callable
    params: list[Param]
    returns: tuple[str, ...]  # "Tensor" for each output; ("list",) for a list of tensors
    surfaces: tuple[str, ...]
    public: str | None = None  # the public name, where another operator has it in the table
    aliases: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()  # Python operators: "__add__", "__iadd__", "__eq__" ...
    method: str | None = None  # the parameter that is `self` in the method; default: the first
    varargs: str | None = None  # this list[int] parameter may be given as *args in the method
    choices: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    # pointwise
    functors: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    bools: tuple[str, ...] = ()
    promote: str = "default"
    result: str = "same"
    flags: tuple[str, ...] = ()
    # kernel, view, reduction
    kernel: str = ""
    values: tuple[tuple[str, str], ...] | None = None
    mutates: bool = False
    exact: bool = False  # the same bits on every processor and device
    # bodies
    grad_fn: Callable | None = None
    prepare_fn: Callable | None = None
    reference_fn: Callable | None = None
    outputs: tuple[str, ...] = ("result",)
    # tests
    samples: Callable | None = None
    node: str | None = None  # name of the autograd node, where it is not the operator's
    autocast: dict[str, str] = dataclasses.field(default_factory=dict)  # by device: see autocast.py
    differentiable: tuple[str, ...] | None = None

    @property
    def where(self):
        """``opdefs/pointwise.py:41``: the place of the declaration."""
        code = self.fn.__code__
        path = pathlib.Path(code.co_filename)
        return f"{path.parent.name}/{path.name}:{code.co_firstlineno}"

    @property
    def names(self):
        """The names users know it by."""
        return (self.public or self.name, *self.aliases)

    @property
    def family(self):
        return pathlib.Path(self.fn.__code__.co_filename).stem

    @property
    def tensors(self):
        return [p for p in self.params if p.is_tensor]

    @property
    def doc(self):
        return inspect.getdoc(self.fn) or ""

    @property
    def inplace(self):
        """Whether an in-place form ``name_`` is derived."""
        return "inplace" in self.surfaces or "vt_" in self.surfaces

    def grad(self, fn):
        """Registers the gradient. Its parameters say what is saved: ``grad`` (of the first output) or
        ``grads``, names of parameters and of outputs, ``<tensor>_shape`` and ``<tensor>_dtype``
        (known at no cost), ``wanted`` (which tensors need a gradient), and a parameter with a string
        default, which is an expression evaluated and saved in the forward. It returns one gradient
        per tensor parameter, in order; an element of a returned tuple is computed only if wanted."""
        tensors = [p.name for p in self.params if p.is_tensor or p.is_tensor_list]
        known = {"grad", "grads", "wanted", *self.outputs, *(p.name for p in self.params)}
        known |= {f"{t}_{what}" for t in tensors for what in ("shape", "dtype")}
        parameters = inspect.signature(fn).parameters.values()
        unknown = [
            p.name for p in parameters if p.name not in known and not isinstance(p.default, str)
        ]
        if unknown:
            line = f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}"
            raise TypeError(
                f"{line}: the gradient of {self.name} asks for {unknown}; it may name {sorted(known)}"
            )
        self.grad_fn = fn
        return fn

    def prepare(self, fn):
        """Registers the body that checks the arguments of a kernel and returns its empty outputs;
        of a pointwise operator it only checks. It may assign to parameters; the kernel sees the new
        values."""
        self.prepare_fn = fn
        return fn

    def reference(self, fn):
        """Registers a composite that computes the same; under ``create_graph`` the gradient is that of
        the reference."""
        self.reference_fn = fn
        return fn

    def sample(self, fn):
        """Registers the generator of test arguments; see tests/ops."""
        self.samples = fn
        return fn


def parse_params(fn):
    """The parameters of a declaration, from its signature."""
    params = []
    for p in inspect.signature(fn).parameters.values():
        if p.annotation is p.empty:
            raise TypeError(f"{fn.__name__}: parameter {p.name} has no annotation")
        params.append(Param(p.name, p.annotation, p.default, p.kind is p.KEYWORD_ONLY))
    return params


def declare(fn, kind, surfaces, **options):
    """Adds an operator to the table."""
    unknown = set(surfaces) - set(SURFACES)
    if unknown:
        raise TypeError(f"{fn.__name__}: no such surface: {sorted(unknown)}")
    returned = inspect.signature(fn).return_annotation
    if returned == "list[Tensor]":
        returns = ("list",)
    elif returned.startswith("tuple["):
        returns = tuple(r.strip() for r in returned[6:-1].split(","))
    else:
        returns = (returned,)
    outputs = options.pop("outputs", None)
    if outputs is None:
        outputs = ("result",) if len(returns) == 1 else tuple(f"result{i}" for i in range(len(returns)))
    op = Op(
        name=fn.__name__, kind=kind, fn=fn, params=parse_params(fn), returns=returns,
        surfaces=tuple(surfaces), outputs=outputs, **options,
    )
    if op.name in OPS:
        raise TypeError(f"{op.where}: {op.name} is declared already at {OPS[op.name].where}")
    OPS[op.name] = op
    return op


def pointwise(functor, *, dtypes, surfaces=("vt", "Tensor", "inplace", "out"), bools=(), **options):
    """An operator that computes each element of its output from one element of each input.

    `functor`: a scalar function template in ``cuda_src/vt``, or ``{choice: functor}`` for an operator
    with a string parameter. It is called with the tensor parameters, then the numbers. `dtypes`: in
    which it computes. `bools`: tensor parameters that are always bool. `promote`: "default" or
    "float" (integers become the default float dtype) or "integer" (bool becomes int64). `result`: "same", "bool" or "real".
    """

    def wrap(fn):
        functors = tuple(functor.values()) if isinstance(functor, dict) else (functor,)
        choices = {}
        if isinstance(functor, dict):
            name = next(p.name for p in parse_params(fn) if p.type == "str")
            choices = {name: tuple(functor)}
        return declare(
            fn, "pointwise", surfaces, functors=functors, dtypes=dtypes, bools=tuple(bools),
            choices=choices, **options,
        )

    return wrap


def reduction(kernel=None, *, surfaces=("vt", "Tensor", "out"), values=(), **options):
    """An operator ``(input, dim=None, keepdim=False, *, dtype=None)`` that folds dimensions.

    `result`: "same", "sum" (int64 for integers), "index", "logical", "real". `flags`: "no_empty" (no
    identity), "single_dim". `values`: further parameters the kernel gets (with "single_dim" behind the
    reduced dimension), with their types: ``("float correction",)``.
    """

    def wrap(fn):
        return declare(
            fn, "reduction", surfaces, kernel=kernel or fn.__name__, values=parse_values(values),
            **options,
        )

    return wrap


def parse_values(values):
    return tuple(tuple(v.split()) for v in values) if values is not None else None


def kernel(name=None, *, surfaces=("vt", "Tensor"), values=None, **options):
    """An operator with a kernel of its own per backend; ``prepare`` checks and allocates.

    The kernel gets the tensor parameters and the outputs as arrays, and `values` (default: the other
    parameters): ``("int dim", "float eps")``, names in the scope of ``prepare``; types are int,
    float, scalar, ints, tensors. `mutates`: the kernel writes its first tensor; a name that ends in
    ``_`` is in-place only, else a copy is written and an in-place form is derived. `exact`: the kernel
    gives the same bits everywhere (random numbers); it is compiled once, without contraction.
    """

    def wrap(fn):
        return declare(
            fn, "kernel", surfaces, kernel=name or fn.__name__.strip("_"), values=parse_values(values), **options
        )

    return wrap


def view(*, surfaces=("vt", "Tensor"), **options):
    """An operator whose output shares the memory of its input; the geometry is ``<name>_view`` of
    ``core/views.pyx``."""

    def wrap(fn):
        return declare(fn, "view", surfaces, kernel=f"{fn.__name__.lstrip('_')}_view", **options)

    return wrap


def composite(*, surfaces=("vt", "Tensor"), **options):
    """An operator written in terms of others; autograd follows from theirs."""

    def wrap(fn):
        return declare(fn, "composite", surfaces, **options)

    return wrap


def manual(*, surfaces=("vt", "Tensor"), **options):
    """An operator with a handwritten entry ``manual_<name>`` in ``ops/manual.pyx``."""

    def wrap(fn):
        return declare(fn, "manual", surfaces, **options)

    return wrap


def handwritten(*, surfaces=("vt", "Tensor"), **options):
    """A function written by hand over the entries, in ``ops/functions.pyx``: its Python signature fits
    no generated stub (several types of result, ``*size``). The table owns its name, docs and tests."""

    def wrap(fn):
        return declare(fn, "handwritten", surfaces, **options)

    return wrap
