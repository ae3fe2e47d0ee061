"""``save`` and ``load``: round trips, exchange with safetensors, and refusal of damaged files."""

import json
import math
import os
import stat
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import vibetensor as vt

DTYPES = [
    "bool", "uint8", "int8", "int16", "int32", "int64",
    "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.safetensors"


def same(a, b):
    if isinstance(a, vt.Tensor):
        assert isinstance(b, vt.Tensor) and a.dtype == b.dtype and a.shape == b.shape
        assert (a == b).all().item() if a.numel() else True
    elif isinstance(a, dict):
        assert isinstance(b, dict) and list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert type(a) is type(b) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    else:
        assert type(a) is type(b)
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0, 3), (1,) * 12])
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype(name, shape, path):
    values = np.random.default_rng(0).integers(0, 2, shape)
    tensor = vt.from_numpy(np.array(values)).to(getattr(vt, name))
    vt.save({"x": tensor, "again": [tensor]}, path)
    same({"x": tensor, "again": [tensor]}, vt.load(path))


def test_special_values(path):
    values = vt.tensor([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308], dtype=vt.float64)
    vt.save(values, path)
    loaded = vt.load(path)
    assert loaded.numpy().tobytes() == values.numpy().tobytes()


def test_structures(path):
    saved = {
        "model": OrderedDict(weight=vt.ones(2, 3), bias=vt.zeros(3)),
        "state": {0: {"step": vt.tensor(1.0)}, 2: {}, True: None, None: 1, 2.5: "x"},
        "list": [1, 2.5, "text", (True, None, [])],
        "floats": [math.nan, math.inf, -math.inf, 0.1, -0.0],
        "big": 2**70,
        "unicode": 'größe \u2192 "quoted" \\ \ud800',
        "": {"": vt.ones(1), ".": vt.zeros(1)},
        "a.b": vt.ones(1),
        "a": {"b": vt.zeros(1)},
        "__metadata__": vt.ones(4),
    }
    vt.save(saved, path)
    loaded = vt.load(path)
    same({**saved, "model": dict(saved["model"])}, loaded)
    assert math.copysign(1, loaded["floats"][4]) == -1


@pytest.mark.parametrize("value", [None, 3, 1.5, "text", True, [], {}, ()])
def test_without_tensors(value, path):
    vt.save(value, path)
    same(value, vt.load(path))


def test_any_strides(path):
    x = vt.arange(24, dtype=vt.float32).reshape(4, 6)
    saved = [x.t(), x[1:3], x[:, ::2], vt.ones(1).expand(5), x.select(1, 2)]
    vt.save(saved, path)
    same(saved, vt.load(path))


def test_parameters_load_as_plain_tensors(path):
    parameter = vt.nn.Parameter(vt.rand(3))
    vt.save([parameter], path)
    (loaded,) = vt.load(path)
    assert type(loaded) is vt.Tensor and not loaded.requires_grad
    assert (loaded == parameter).all()


def test_one_tensor_named_twice_is_one_tensor(path):
    x = vt.ones(3)
    vt.save({"a": [x], "b": [x]}, path)
    loaded = vt.load(path)
    assert loaded["a"][0] is loaded["b"][0]


def test_model_and_optimizer(path):
    model = vt.nn.Linear(3, 2)
    optimizer = vt.optim.AdamW(model.parameters())
    model(vt.ones(1, 3)).sum().backward()
    optimizer.step()
    vt.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    loaded = vt.load(path)
    other = vt.nn.Linear(3, 2)
    other.load_state_dict(loaded["model"])
    again = vt.optim.AdamW(other.parameters())
    again.load_state_dict(loaded["optimizer"])
    for lib_model, lib_optimizer in ((model, optimizer), (other, again)):
        lib_optimizer.zero_grad()
        lib_model(vt.ones(1, 3)).sum().backward()
        lib_optimizer.step()
    assert (model.weight == other.weight).all()


# Exchange


def test_safetensors_reads_ours(path):
    state = {"weight": vt.rand(3, 4), "half": vt.rand(5).to(vt.bfloat16), "n": vt.tensor(3)}
    vt.save(state, path)
    loaded = load_file(path)
    assert set(loaded) == set(state)
    for key, value in state.items():
        assert str(loaded[key].dtype).split(".")[-1] == str(value.dtype).split(".")[-1]
        np.testing.assert_array_equal(loaded[key].double().numpy(), value.double().numpy())


@pytest.mark.parametrize("metadata", [None, {"format": "pt", "note": "x"}])
def test_ours_reads_safetensors(path, metadata):
    state = {
        "a": torch.randn(2, 3),
        "b": torch.tensor([True, False]),
        "c": torch.randn(3).bfloat16(),
        "d": torch.zeros(0, 4),
        "e": torch.tensor(2, dtype=torch.int16),
    }
    save_file(state, path, metadata)
    loaded = vt.load(path)
    assert set(loaded) == set(state)
    for key, value in state.items():
        assert tuple(loaded[key].shape) == tuple(value.shape)
        np.testing.assert_array_equal(loaded[key].double().numpy(), value.double().numpy())


# Writing


def test_what_cannot_be_saved(path):
    vt.save({"kept": 1}, path)
    circle = []
    circle.append(circle)
    for value in (object(), {"a": [vt.ones(1), {1, 2}]}, {(1, 2): 3}, circle, b"bytes", 1j):
        with pytest.raises(TypeError, match=r"save\(\): cannot save"):
            vt.save(value, path)
    assert vt.load(path) == {"kept": 1}
    with pytest.raises(TypeError, match=r"the value at \['a'\]\['1'\]: .* got set"):
        vt.save({"a": [vt.ones(1), {1, 2}]}, path)
    with pytest.raises(TypeError, match="path must be"):
        vt.save({}, b"path")


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    vt.save({"x": vt.zeros(3)}, path)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        vt.save({"x": vt.ones(3)}, path)
    monkeypatch.undo()
    assert (vt.load(path)["x"] == 0).all()
    assert os.listdir(path.parent) == [path.name]


def test_mode_and_links(path):
    before = os.umask(0o027)
    try:
        vt.save({}, path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o600)
        link = path.parent / "link"
        link.symlink_to(path)
        vt.save({"x": 1}, link)
    finally:
        os.umask(before)
    assert link.is_symlink() and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert vt.load(path) == {"x": 1}


def test_missing_places(tmp_path):
    with pytest.raises(FileNotFoundError):
        vt.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError):
        vt.save({}, tmp_path / "nowhere" / "file")


# Damage


def example(path):
    vt.save({"w": vt.arange(6, dtype=vt.float32), "n": [vt.tensor(3), 1.5, "text"]}, path)
    return path.read_bytes()


def test_every_truncation_is_refused(path):
    data = example(path)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(RuntimeError, match="not a valid safetensors file"):
            vt.load(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(RuntimeError, match="too long"):
        vt.load(path)


def test_every_flipped_byte_is_refused(path):
    data = example(path)
    for position in range(len(data)):
        for bits in (1 << position % 8, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= bits
            path.write_bytes(damaged)
            with pytest.raises(RuntimeError, match="not a valid safetensors file"):
                vt.load(path)


def foreign(header, data=b""):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype="U8", shape=(4,), begin=0, end=4):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


DAMAGED = {
    "empty": b"",
    "no header": b"\x10\0\0\0\0\0\0\0",
    "huge header": b"\xff" * 8 + b"{}",
    "not json": foreign(b"{not json}"),
    "not utf-8": foreign(b'{"\xff": 1}'),
    "deep json": foreign(b'{"a":' + b"[" * 100_000),
    "a list": foreign([1]),
    "leading space": foreign(b" {}"),
    "twice": foreign(b'{"a": 1, "a": 2}'),
    "metadata": foreign({"__metadata__": {"a": 1}}),
    "entry": foreign({"a": 3}),
    "no dtype": foreign({"a": {"shape": [1], "data_offsets": [0, 1]}}),
    "unknown dtype": foreign({"a": entry("F8_E4M3")}, bytes(4)),
    "dtype of another type": foreign({"a": entry(["U8"])}, bytes(4)),
    "negative shape": foreign({"a": entry(shape=(-4,))}, bytes(4)),
    "fractional shape": foreign({"a": entry(shape=(4.0,))}, bytes(4)),
    "boolean shape": foreign({"a": entry(shape=(True, 4))}, bytes(4)),
    "huge shape": foreign({"a": entry(shape=(2**62, 2**62))}, bytes(4)),
    "backwards": foreign({"a": entry(begin=4, end=0)}, bytes(4)),
    "too few bytes": foreign({"a": entry(shape=(5,))}, bytes(4)),
    "out of range": foreign({"a": entry(shape=(8,), end=8)}, bytes(4)),
    "gap": foreign({"a": entry(begin=1, end=5)}, bytes(5)),
    "overlap": foreign({"a": entry(), "b": entry(begin=2, end=6)}, bytes(6)),
    "same bytes": foreign({"a": entry(), "b": entry()}, bytes(4)),
    "surplus": foreign({"a": entry()}, bytes(5)),
    "booleans": foreign({"a": entry("BOOL")}, bytes([0, 1, 2, 1])),
    "checksum only": foreign({"__metadata__": {"vibetensor.sha256": "0" * 64}}),
    "structure only": foreign({"__metadata__": {"vibetensor.structure": '{"value":1}'}}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_headers(name, path):
    path.write_bytes(DAMAGED[name])
    with pytest.raises(RuntimeError, match="not a valid safetensors file"):
        vt.load(path)


def test_plain_headers_are_read(path):
    path.write_bytes(foreign({"a": entry(), "z": entry(shape=(0,), begin=4)}, b"\1\2\3\4"))
    loaded = vt.load(path)
    assert loaded["a"].tolist() == [1, 2, 3, 4] and loaded["z"].numel() == 0


@pytest.mark.parametrize(
    "structure",
    ["[]", "{}", '{"value":{"tensor":"b"}}', '{"value":[1]}', '{"value":{"set":[]}}', "nonsense"],
)
def test_damaged_structures(structure, path, monkeypatch):
    # Signed, so that only the structure is at fault.
    import vibetensor.serialization as serialization

    metadata = {
        "vibetensor.structure": structure,
        "vibetensor.sha256": serialization._NO_CHECKSUM,
    }
    header = json.dumps({"__metadata__": metadata}, separators=(",", ":")).encode()
    with path.open("wb") as file:
        serialization._write(file, header, iter(()))
    with pytest.raises(RuntimeError, match="not a valid safetensors file"):
        vt.load(path)
