"""Wrong input: PyTorch's exception type, a message that helps, and nothing changed."""

import warnings

import pytest
import torch

import vibetensor as vt

from .oracle import (
    NAME_FOR_DIM,
    OPS,
    agree,
    at_fault,
    call,
    check,
    describe,
    fresh,
    functions,
    grid,
    ours,
    tensors,
)
from .samples import Make, samples

m = Make("errors", torch.float32)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def refused(op, args, kwargs, pair=None):
    """Both raise; the types agree; our arguments are as they were."""
    function, peer = pair or functions(op)
    mine = ours(fresh(list(args)))
    _, error = call(function, mine, kwargs)
    _, peer_error = call(peer, fresh(list(args)), kwargs)
    where = op.name + describe(args, kwargs)
    assert peer_error is not None, f"{where}: PyTorch takes it"
    assert agree(error, peer_error), f"{where}: {error!r}; PyTorch: {peer_error!r}"
    assert error is None or len(str(error)) > 10, f"{where}: {error!r} says too little"
    for before, after in zip(tensors(list(args)), tensors(mine)):
        check(after, before, where=f"{where}: changed")


# PyTorch's are a bare schema, and Python that fails late.
NAMED = [
    op for op in OPS.values() if op.kind != "handwritten" and op.name not in ("alias", "mse_loss")
]


@pytest.mark.parametrize("op", grid("wrong_types", NAMED))
def test_wrong_types(op):
    """No arguments, a string for a tensor, an unknown keyword, one argument too many."""
    args, kwargs = samples(op, torch.float32)[0]
    refused(op, (), {})
    refused(op, ("x", *args[1:]), kwargs)
    refused(op, args, kwargs | {"nonsense": 1})
    # The tail of the longest form there is, so that no form takes it.
    refused(op, (*args, *[object()] * 9), kwargs)


@pytest.mark.parametrize(
    "op", grid("shapes", [o for o in OPS.values() if o.kind == "pointwise" and len(o.tensors) > 1])
)
def test_shapes_that_do_not_broadcast(op):
    rest = (m(3, 4),) if len(op.tensors) == 3 else ()
    dtype = torch.int64 if op.name.startswith("bitwise") else torch.float32
    a, b = m(3, 4, dtype=dtype), m(3, dtype=dtype)
    refused(op, (a, b, *rest), {})
    if op.inplace:
        pair = getattr(vt.Tensor, op.name + "_"), getattr(torch.Tensor, op.name + "_")
        refused(op, (m(4, dtype=dtype), a, *rest), {}, pair)
        refused(op, (a, b, *rest), {}, pair)


FOLDS = [op for op in OPS.values() if op.kind == "reduction"] + [OPS["cumsum"], OPS["softmax"]]


@pytest.mark.parametrize("op", grid("dims", FOLDS))
def test_dims_out_of_range(op):
    for dim in (2, -3, "x", 1.5):
        if dim == "x" and at_fault(NAME_FOR_DIM, op.name):
            _, error = call(functions(op)[0], (ours(m(3, 4)), dim), {})
            assert isinstance(error, TypeError) and "must be int, not str" in str(error), repr(
                error
            )
            continue
        refused(op, (m(3, 4), dim), {})
    if "single_dim" not in op.flags and op.kind == "reduction":
        refused(op, (m(3, 4), (0, 0)), {})
        refused(op, (m(3, 4), (0, 2)), {})
    if "no_empty" in op.flags:
        refused(op, (m(0),), {})
        refused(op, (m(3, 0), 1), {})


i = torch.tensor([0, 7])
WRONG = {
    "as_strided": [
        (m(3), (4,), (1,)),
        (m(3), (2,), (1, 1)),
        (m(3), (-1,), (1,)),
        (m(3), (2,), (1,), 2),
    ],
    "view": [(m(3, 4), (5, -1)), (m(3, 4), (-1, -1)), (m(3, 4).t(), (12,)), (m(3, 4), (3, 5))],
    "reshape": [(m(3, 4), (5, -1)), (m(3, 4), (3, 5)), (m(3, 4), (-1, -1))],
    "permute": [(m(3, 4), (0,)), (m(3, 4), (0, 0)), (m(3, 4), (0, 2))],
    "transpose": [(m(3, 4), 0, 2), (m(3, 4), -3, 0)],
    "t": [(m(2, 3, 4),)],
    "expand": [(m(3, 4), (3, 5)), (m(3, 4), (4,)), (m(4), (-1, 4))],
    "squeeze": [(m(3), 1)],
    "unsqueeze": [(m(3), 2), (m(3), -3)],
    "select": [(m(3), 0, 3), (m(3), 0, -4), (m(), 0, 0), (m(3), 1, 0)],
    "narrow": [(m(3), 0, 2, 2), (m(3), 0, 4, 0), (m(3), 0, 0, -1), (m(3), 1, 0, 1)],
    "diagonal": [(m(3),), (m(3, 4), 0, 0, 0), (m(3, 4), 0, 2, 0)],
    "view_as_real": [(m(3),)],
    "unbind": [(m(),), (m(3), 1)],
    "tril": [(m(3),)],
    "triu": [(m(3),)],
    "normal_": [(m(3), 0.0, -1.0)],
    "uniform_": [(m(3), 2.0, 1.0)],
    "bernoulli_": [(m(3), 2.0)],
    "multinomial": [(m(3), 4), (m(3).abs(), 0), (-m(3).abs() - 1, 1), (m(2, 2, 2), 1)],
    "copy_": [(m(3), m(4)), (m(3), m(2, 3))],
    "fill_": [(m(3), m(2))],
    "gather": [(m(3, 4), 2, i), (m(3), 0, i), (m(3), 0, m(2)), (m(3, 4), 0, i)],
    "scatter_add": [(m(3), 0, i, m(2)), (m(3), 0, i, m(1)), (m(3), 0, m(2), m(2))],
    "scatter": [(m(3), 0, i, 1.0), (m(3), 0, i, m(1)), (m(3), 1, i, 1.0)],
    "index_select": [(m(3), 0, i), (m(3), 0, m(2)), (m(3, 4), 0, i[None]), (m(3), 1, i)],
    "index_add": [(m(3), 0, i, m(2)), (m(3), 0, i, m(3)), (m(3), 1, i, m(2))],
    "index_put": [(m(3), (i,), m(2)), (m(9), (i,), m(3)), (m(9), (i, i), m(2))],
    "masked_select": [(m(3), m.mask(4)), (m(3), m(3))],
    "cat": [([],), ([m(3), m(2, 2)],), ([m(2, 3), m(2, 2)],), ([m(3)], 1)],
    "stack": [([],), ([m(3), m(2)],), ([m(3)], 2)],
    "split": [(m(3), -1), (m(3), (1, 1)), (m(3), 1, 1), (m(3), 0)],
    "chunk": [(m(3), 0), (m(3), 1, 1)],
    "sort": [(m(3), 1), (torch.tensor([1j]),)],
    "argsort": [(m(3), 1)],
    "topk": [(m(3), 4), (m(3), 1, 1), (m(3), -1), (m.mask(3), 1)],
    "argmax": [(m.mask(3),)],
    "max": [(m(0),), (m(3), 1), (m(3, 0), 1)],
    "min": [(m(0),), (m(3), 1)],
    "mm": [(m(3, 4), m(3, 4)), (m(3), m(3)), (m(3, 4), m(4, 2).double())],
    "bmm": [(m(2, 3, 4), m(3, 4, 2)), (m(3, 4), m(4, 3)), (m(2, 3, 4), m(2, 3, 4))],
    "addmm": [(m(3, 3), m(3, 4), m(4, 2)), (m(2), m(3, 4), m(3, 2)), (m(2), m(4), m(4, 2))],
    "matmul": [(m(3, 4), m(3, 4)), (m(), m(3)), (m(2, 3, 4), m(3, 4, 2)), (m(3), m(3).double())],
    "linear": [(m(3, 4), m(2, 3)), (m(3, 4), m(2, 4), m(3))],
    "conv1d": [
        (m(2, 3, 7), m(4, 2, 3)),
        (m(2, 3, 2), m(4, 3, 3)),
        (m(2, 3), m(3)),
        (m(2, 3, 7), m(4, 3, 3), None, 0),
        (m(2, 3, 7), m(4, 3, 3), m(3)),
        (m(2, 3, 7), m(4, 3, 3), None, 2, "same"),
        (m(2, 3, 7), m(4, 3, 3), None, 1, "full"),
        (m(2, 3, 7), m(4, 3, 3), None, 1, 1.5),
    ],
    "log_softmax": [(m(3), 1)],
    "layer_norm": [(m(3, 4), (3,)), (m(3, 4), (4,), m(3)), (m(3, 4), ())],
    "rms_norm": [(m(3, 4), (3,)), (m(3, 4), (4,), m(3))],
    "cross_entropy": [
        (m(3, 4), m.index(2, high=4)),
        (m(3, 4), torch.tensor([0, 4, 1])),
        (m(3, 4), m(3)),
        (m(3, 4), m.index(3, high=4), {"reduction": "x"}),
        (m(3, 4), m.index(3, high=4), m(3)),
    ],
    "nll_loss": [(m(3, 4), m.index(2, high=4)), (m(3, 4), m.index(3, high=4), {"reduction": "x"})],
    "mse_loss": [(m(3), m(2)), (m(3), m(3), {"reduction": "x"})],
    "embedding": [
        (torch.tensor([5]), m(5, 4)),
        (m(2), m(5, 4)),
        (torch.tensor([-1]), m(5, 4)),
        (torch.tensor([1]), m(5, 4), 7),
    ],
    "scaled_dot_product_attention": [
        (m(2, 3, 4), m(2, 5, 4), m(2, 5, 4), m(4, 5)),
        (m(2, 3, 4), m(2, 5, 3), m(2, 5, 4)),
        (m(2, 3, 4), m(2, 5, 4), m(2, 5, 4), m(3, 5), {"is_causal": True}),
    ],
    "dropout": [(m(3), 2.0), (m(3), -0.1)],
    "one_hot": [(torch.tensor([3]), 2), (torch.tensor([-1]),), (m(2),)],
    "div": [(m(3), m(3), {"rounding_mode": "x"})],
    "pow": [(torch.tensor([2]), -1)],
    "clamp": [(m(3),), (m(3), m(2))],
    "where": [(m(3), m(3), m(3)), (m.mask(3), m(2), m(3))],
    "masked_fill": [(m(3), m(3), 1.0), (m(3), m.mask(2), 1.0), (m(3), m.mask(3), m(2))],
    "masked_fill_": [(m(3), m.mask(2, 3), 1.0), (m(3).int(), m.mask(3), 1j)],
    "flatten": [(m(2, 3), 1, 0), (m(2, 3), 2)],
    "flip": [(m(3), (0, 0)), (m(3), (1,))],
    "movedim": [(m(2, 3), 0, 2), (m(2, 3), (0, 1), (0,))],
    "broadcast_to": [(m(3), (4,))],
    "sum_to_size": [(m(3), (2,))],
    "expand_as": [(m(3), m(4))],
    "floor_divide": [(torch.tensor([1]), torch.tensor([0]))],
    "remainder": [(torch.tensor([1]), torch.tensor([0]))],
    "fmod": [(torch.tensor([1]), torch.tensor([0]))],
    "neg": [(m.mask(3),)],
    "any": [(m(3), 1)],
    "sub": [
        (m.mask(3), m.mask(3)),
        (m(3), m.mask(3)),
        (m.mask(3), m(3)),
        (m(3), True),
        (m.mask(3), 1.5),
        (m.mask(), m(3)),
        (torch.tensor([1]), torch.tensor([1]), {"alpha": 1.5}),
    ],
    "bitwise_not": [(m(3),)],
    "bitwise_and": [(m(3), m(3))],
    "lt": [(torch.tensor(1j), m(3))],
    "mean": [(torch.tensor([1]),)],
    "amax": [(torch.tensor([1j]),)],
    "maximum": [(torch.tensor([1]), "x")],
    "add": [
        (torch.tensor([1]), torch.tensor([1]), {"alpha": 1.5}),
        (m(3), m(3), {"alpha": 1j}),
        (m(3), m(3), {"alpha": True}),
        (m(3), 2**70),
    ],
}


@pytest.mark.parametrize("op", grid("wrong", [OPS[name] for name in WRONG]))
def test_wrong_values(op):
    for args in WRONG[op.name]:
        args, kwargs = (args[:-1], args[-1]) if isinstance(args[-1], dict) else (args, {})
        refused(op, args, kwargs)
