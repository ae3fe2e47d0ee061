"""Memory imported as read-only is never written."""

import numpy
import pytest

import vibetensor as vt

WRITES = {
    "add_": lambda x: x.add_(1),
    "mul_ of a view": lambda x: x[2:].mul_(2),
    "fill_": lambda x: x.fill_(3),
    "zero_": lambda x: x.zero_(),
    "copy_": lambda x: x.copy_(vt.zeros(6)),
    "uniform_": lambda x: x.uniform_(),
    "detach": lambda x: x.detach().add_(1),
    "setitem": lambda x: x.__setitem__(0, 5),
    "setitem, index": lambda x: x.__setitem__([0], 5),
    "setitem, mask": lambda x: x.__setitem__(x > 2, 5),
    "masked_fill_": lambda x: x.masked_fill_(x > 2, 0),
    "scatter_": lambda x: x.scatter_(0, vt.tensor([1]), 0),
    "index_put_": lambda x: x.index_put_((vt.tensor([0]),), vt.zeros(1)),
    "out= of the operand": lambda x: vt.add(x, x, out=x),
    "out= of a pointwise operator": lambda x: vt.exp(vt.zeros(6), out=x),
    "out= of a reduction": lambda x: vt.sum(vt.ones(2, 6), 0, out=x),
    "out= of a kernel": lambda x: vt.cat([vt.ones(6)], out=x),
    "out= of a factory": lambda x: vt.zeros(6, out=x),
}


def imported(kind):
    array = numpy.arange(6, dtype=numpy.float32)
    array.flags.writeable = False
    with pytest.warns(UserWarning) if kind == "numpy" else pytest.MonkeyPatch.context():
        x = vt.from_numpy(array) if kind == "numpy" else vt.from_dlpack(array)
    return array, x


@pytest.mark.parametrize("kind", ("numpy", "dlpack"))
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_are_refused(write, kind):
    array, x = imported(kind)
    with pytest.raises(RuntimeError, match="read-only"):
        write(x)
    assert array.tolist() == [0, 1, 2, 3, 4, 5]
    assert x._version == 0


def test_reading_and_copies_are_free():
    _, x = imported("numpy")
    assert x.clone().add_(1).tolist() == [1, 2, 3, 4, 5, 6]
    assert (x + 1).sum().item() == 21
