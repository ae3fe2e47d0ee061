"""``x[index]`` and ``x[index] = value`` against numpy and torch, with gradients."""

import numpy as np
import pytest
import torch

import vibetensor as vt


def basic_index(rng, shape):
    index = []
    dim = 0
    while dim < len(shape) and rng.random() < 0.85:
        kind = rng.integers(0, 4)
        if kind == 0 and shape[dim]:
            index.append(int(rng.integers(-shape[dim], shape[dim])))
            dim += 1
        elif kind == 1:
            start, stop = (None if rng.random() < 0.4 else int(rng.integers(-6, 7)) for _ in "ab")
            index.append(slice(start, stop, int(rng.choice([-3, -2, -1, 1, 2, 3]))))
            dim += 1
        elif kind == 2:
            index.append(None)
        elif Ellipsis not in index:
            index.append(Ellipsis)
            dim += int(rng.integers(0, len(shape) - dim + 1))
        else:
            break
    return tuple(index)


def random_shape(rng, smallest):
    return tuple(int(n) for n in rng.integers(smallest, 5, size=rng.integers(1, 5)))


@pytest.mark.parametrize("seed", range(20))
def test_basic_like_numpy(seed):
    rng = np.random.default_rng(seed)
    for _ in range(100):
        array = np.arange(np.prod(shape := random_shape(rng, 0))).reshape(shape)
        if rng.random() < 0.3:
            array = array.T
        index = basic_index(rng, array.shape)
        if len(index) == 1 and rng.random() < 0.5:
            index = index[0]
        t = vt.from_numpy(array)
        try:
            expected = np.asarray(array[index])
        except IndexError:
            with pytest.raises(IndexError):
                t[index]
            continue
        result = t[index]
        assert (result.numpy() == expected).all()
        assert tuple(result.shape) == expected.shape
        for size, step, peer in zip(result.shape, result.stride(), expected.strides, strict=True):
            if size > 1 and expected.size:
                assert step * 8 == peer
        value = rng.integers(0, 100, size=expected.shape)
        t[index] = vt.from_numpy(np.asarray(value))
        assert (array[index] == value).all()
        t[index] = 3
        assert (np.asarray(array[index]) == 3).all()


def dims_used(item):
    if isinstance(item, np.ndarray) and item.dtype == bool:
        return item.ndim
    return item is not None


def advanced_index(rng, shape):
    """A mixed index, and the same for numpy: with an Ellipsis replaced by the slices it stands for,
    since to numpy even an empty one keeps index arrays apart."""
    common = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))[: rng.integers(1, 3)]
    ours, peer = [], []
    dim = 0
    while dim < len(shape):
        kind = rng.integers(0, 6)
        if kind == 0:
            item = slice(None, None, int(rng.choice([-2, -1, 1, 2])))
            ours.append(item)
            peer.append(item)
            dim += 1
        elif kind == 1:
            ours.append(None)
            peer.append(None)
        elif kind == 2:
            sizes = tuple(n if rng.random() < 0.7 else 1 for n in common)
            places = rng.integers(-shape[dim], shape[dim], size=sizes)
            forms = (
                places,
                places.tolist(),
                vt.from_numpy(places),
                vt.tensor(places, dtype=vt.int32),
            )
            ours.append(forms[rng.integers(0, 4)])
            peer.append(places)
            dim += 1
        elif kind == 3 and dim + 1 < len(shape) and len(common) == 1:
            mask = rng.random(shape[dim : dim + 2]) < 0.5
            ours.append(mask if rng.random() < 0.5 else vt.from_numpy(mask))
            peer.append(mask)
            dim += 2
        elif kind == 4 and Ellipsis not in [x for x in ours if x is Ellipsis]:
            count = int(rng.integers(0, len(shape) - dim + 1))
            used = sum(dims_used(p) for p in peer)
            if used + count == len(shape):
                ours.append(Ellipsis)
                peer.extend([slice(None)] * count)
                dim += count
        else:
            break
    return tuple(ours), tuple(peer)


@pytest.mark.parametrize("seed", range(20))
def test_advanced_like_numpy(seed):
    rng = np.random.default_rng(seed)
    for _ in range(60):
        array = np.arange(np.prod(shape := random_shape(rng, 1))).reshape(shape)
        if rng.random() < 0.3:
            array = array.T
        index, peer = advanced_index(rng, array.shape)
        t = vt.from_numpy(array)
        try:
            expected = array[peer]
        except IndexError:
            with pytest.raises((IndexError, RuntimeError)):
                t[index]
            continue
        result = t[index].numpy()
        assert result.shape == expected.shape
        assert (result == expected).all()
        for value in (7, rng.integers(0, 100, size=expected.shape)):
            written, reference = array.copy(), array.copy()
            reference[peer] = value
            ours = value if isinstance(value, int) else vt.from_numpy(np.asarray(value))
            vt.from_numpy(written)[index] = ours
            assert (written == reference).all()


# --- what torch says ------------------------------------------------------------------------------

M = [[True, False, True], [False, True, True]]
READS = [
    "x[1]",
    "x[-1, 2]",
    "x[m]",
    "x[m, 0]",
    "x[m, 1:3]",
    "x[0, :, [0, 1]]",
    "x[:, 0, [0, 1]]",
    "x[[0, 1], :, [0, 1]]",
    "x[[0, 1], None, [0, 1]]",
    "x[[0, 1], ..., [0, 1]]",
    "x[None, [0, 1], None, [0, 1]]",
    "x[1:, [0, 1]]",
    "x[..., [0, 1]]",
    "x[True]",
    "x[False]",
    "x[True, True]",
    "x[0, True]",
    "x[:, True, [0, 1]]",
    "x[[True, False]]",
    "x[[]]",
    "x[[], []]",
    "x[range(2)]",
    "x[np.int64(1)]",
    "x[np.array(1)]",
    "x[np.array([0, 1])]",
    "x[np.array([True, False])]",
    "x[lib.tensor(1)]",
    "x[lib.tensor(True)]",
    "x[lib.tensor(1):]",
    "x[lib.tensor([1, 0], dtype=lib.int32)]",
    "x[m, [0]]",
    "x[m, [0, 1, 2, 3]]",
    "x[lib.zeros((0, 3), dtype=lib.int64)]",
    "x[0:2**70]",
    "x[0, 0, 0, ...]",
    "z[()]",
    "z[...]",
    "z[None]",
    "z[True]",
    "z[False]",
    "z[lib.tensor(True)]",
    # errors
    "z[0]",
    "z[0:1]",
    "z[[0]]",
    "x[5]",
    "x[0, -4]",
    "x[0, 0, 0, 0]",
    "x[..., 0, 0, 0, 0]",
    "x[0:1:0]",
    "x[1.5]",
    "x[{}]",
    "x[2**70]",
    "x[[5]]",
    "x[:, [5]]",
    "x[[-3]]",
    "x[[0, 1], [0, 1, 2]]",
    "x[[0], [0], [0], [0]]",
    "x[m, m]",
    "x[lib.tensor([1.0, 0])]",
    "x[lib.tensor(1.0)]",
    "x[lib.zeros((2, 2), dtype=lib.bool)]",
    "x[lib.zeros(3, dtype=lib.bool)]",
    "x[:, lib.zeros(2, dtype=lib.bool)]",
    "x[lib.zeros((2, 3, 4, 1), dtype=lib.bool)]",
    "x[lib.tensor([1, 0], dtype=lib.int8)]",
]
WRITES = [
    "x[0] = 1",
    "x[0] = np.int32(4)",
    "x[0] = 1.5",
    "x[0] = lib.ones((1, 1, 3, 4))",
    "x[...] = 3",
    "x[()] = 3",
    "x[[0, 1]] = 5",
    "x[[0, 1]] = lib.ones((1, 1, 2, 3, 4), dtype=lib.int64)",
    "x[[0, 0]] = lib.ones((2, 1, 4), dtype=lib.int64)",
    "x[m] = 1",
    "x[m] = 1.5",
    "x[m] = lib.tensor(1.5)",
    "x[m] = lib.arange(4)",
    "x[m, 1:3] = 0",
    "x[True] = 1",
    "x[False] = 1",
    "x[0, 0, 0] = lib.ones(1)",
    "x[:, [0, 2], 1] = lib.tensor([[1, 2], [3, 4]])",
    "z[()] = 3",
    "z[...] = lib.ones((1, 1))",
    "z[None] = 4",
    # errors
    "z[0] = 3",
    "x[0] = [1, 2]",
    "x[0] = 'a'",
    "x[0] = None",
    "x[0] = 1j",
    "x[0] = lib.ones(5)",
    "x[0] = lib.ones((2, 3, 4))",
    "x[[0, 1]] = lib.ones(5, dtype=lib.int64)",
    "x[[0, 1]] = lib.ones((2, 3, 4))",
    "x[m] = lib.ones((3, 4), dtype=lib.int64)",
    "x[5] = 1",
    "x[[5]] = 1",
    "x[1.5] = 1",
    "x[0, 0, 0] = lib.ones(2)",
    "del x[0]",
]


def run(lib, code, requires_grad=False):
    x = lib.arange(24).reshape(2, 3, 4)
    scope = {"x": x, "z": lib.tensor(3.0), "m": lib.tensor(M), "lib": lib, "np": np}
    try:
        if " = " in code or code.startswith("del"):
            exec(code, scope)
            return scope["x"].tolist(), scope["z"].tolist()
        r = eval(code, scope)
        return str(r.dtype).rpartition(".")[2], tuple(r.shape), r.tolist()
    except Exception as error:
        return error


@pytest.mark.parametrize("code", READS + WRITES)
@pytest.mark.filterwarnings("ignore")
def test_like_torch(code):
    ours, peer = run(vt, code), run(torch, code)
    if isinstance(peer, Exception):
        assert type(ours) is type(peer), ours
        if isinstance(peer, IndexError):
            assert str(ours)[:30] == str(peer)[:30]
    else:
        assert ours == peer


NUMBERS = (2, -1, -255, -256, 300, 1.5, 255.5, 1e20, 1e40, 3.5e38, 1j, 1 + 0j, 1e40j, 2**40)


@pytest.mark.parametrize("number", [*NUMBERS, float("nan"), float("inf")], ids=str)
def test_range_of_numbers(number):
    """What a dtype cannot hold is refused, and nothing is written."""
    for name in ("bool", "uint8", "int8", "int32", "int64", "bfloat16", "float32", "complex64"):
        results = []
        for lib in (vt, torch):
            x = lib.zeros(2, dtype=getattr(lib, name))
            try:
                x[0] = number
            except RuntimeError as error:
                assert "without overflow" in str(error)
            results.append(str(x.tolist()))
        assert results[0] == results[1]


def test_lists_are_index_tensors():
    """As PyTorch announced for its own: a nested list is one tensor, as in numpy."""
    x = vt.arange(6).reshape(3, 2)
    assert tuple(x[[[0, 1], [1, 0]]].shape) == (2, 2, 2)
    with pytest.raises((TypeError, IndexError, RuntimeError)):
        x[[slice(0, 1), 0]]


def test_uint8_masks():
    x = vt.arange(3)
    with pytest.warns(UserWarning, match="uint8 is now deprecated"):
        assert x[vt.tensor([1, 0, 1], dtype=vt.uint8)].tolist() == [0, 2]


def test_views_share_memory():
    x = vt.zeros(4, 4)
    x[1:3, ::-1][0, 0] = 5
    assert x[1, 3].item() == 5
    assert x[1:].data_ptr() == x.data_ptr() + 16
    y = x[2:2]
    assert y.storage_offset() in range(17)
    assert vt.zeros(0)[::-1].shape == (0,)


def test_many_dimensions():
    x = vt.zeros([1] * 10)
    assert x[0, ..., None, 0].ndim == 9
    assert x[(None,) * 54].ndim == 64
    with pytest.raises(RuntimeError, match="64 dimensions"):
        x[(None,) * 55]


def test_iteration():
    x = vt.arange(6).reshape(3, 2)
    assert [row.tolist() for row in x] == x.tolist()
    _, _, last = x
    assert last.tolist() == [4, 5]
    assert 4 in [v.item() for v in x[2]]
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        iter(vt.tensor(1))


def test_failed_writes_change_nothing():
    x = vt.zeros(3)
    for code in ("x[0] = 'a'", "x[[0, 5]] = 1", "x[:2] = vt.ones(3)", "x[[0, 1]] = vt.ones(3)"):
        with pytest.raises((TypeError, IndexError, RuntimeError)):
            exec(code, {"x": x, "vt": vt})
        assert x.tolist() == [0, 0, 0]
