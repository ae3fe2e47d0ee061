"""The parts of the benchmarks that could lie: the peak of PyTorch's bytes, ratios and verdicts."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

import vibetensor as vt


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent.parent))
    yield
    for name in [name for name in sys.modules if name == "bench" or name.startswith("bench.")]:
        del sys.modules[name]


def test_peak_of_storages():
    peak = importlib.import_module("bench.peak")
    x = torch.zeros(1000, requires_grad=True)  # 4,000 bytes

    def step():
        y = x * 2  # 4,000 more
        del y
        z = (x * x).view(10, 100)  # 4,000 more; a view is nothing new
        z.sum().backward()  # 4; then at least the gradients of the sum and of the product

    assert 12_004 <= peak.peak_bytes(torch, step, [x, x]) <= 20_008
    x.grad = None
    assert peak.peak_bytes(torch, lambda: [x.detach() + n for n in range(3)], [x]) == 16_000


def test_rows():
    measure = importlib.import_module("bench.measure")
    row = measure.Row("name", 0.5, "ns", [1.0, 2.0, 9.0], [4.0, 4.0, 5.0])
    assert row.ratio == 0.5 and row.verdict == "pass"
    row.ours.append(9.0)
    assert row.verdict == "miss"
    assert measure.Row("name", None, "ns", [1.0], [2.0]).verdict == ""


def test_interleaving_and_report(tmp_path, capsys):
    measure = importlib.import_module("bench.measure")
    order = []
    case = measure.Case(
        "name", 0.9, lambda: order.append("ours") or 1e-9, lambda: order.append("peer") or 2e-9
    )
    rows = measure.interleave([case], 3)
    assert sorted(order[:2]) == sorted(order[2:4]) == ["ours", "peer"]
    assert order[:2] != order[2:4]
    measure.show(rows)
    assert "0.500" in capsys.readouterr().out
    measure.write(str(tmp_path / "out.json"), "subject", rows, rounds=3)
    read = json.loads((tmp_path / "out.json").read_text())
    assert read["rows"][0]["ratio"] == pytest.approx(0.5) and read["rounds"] == 3
    assert read["vibetensor"] == vt.__version__


def test_statement():
    measure = importlib.import_module("bench.measure")
    assert 0 < measure.statement("x + x", {"x": 1})() < 1e-4


def test_overhead_names_are_complete():
    overhead = importlib.import_module("bench.overhead")
    names = overhead.names(torch)
    for _, bound, source in overhead.statements():
        assert 0 < bound < 1
        exec(source, dict(names))
    assert len(overhead.statements()) == 27
