"""Generators: seeds, states, and the ranges of the random stream that operators take."""

import pickle

import pytest
import torch

import vibetensor as vt


@pytest.mark.parametrize("seed", [0, 1, -1, 2**64 - 1, -(2**63)])
def test_seed(seed):
    assert vt.manual_seed(seed).initial_seed() == torch.manual_seed(seed).initial_seed()
    assert vt.initial_seed() == torch.initial_seed()


@pytest.mark.parametrize(
    ("bad", "error"),
    [(2**64, ValueError), (-(2**63) - 1, ValueError), ("a", RuntimeError), (1.5, RuntimeError)],
)
def test_wrong_seed(bad, error):
    g = vt.Generator().manual_seed(5)
    with pytest.raises(error):
        g.manual_seed(bad)
    assert g.initial_seed() == 5


def test_same_seed_same_numbers():
    vt.manual_seed(3)
    a, b = vt.rand(5), vt.rand(5)
    vt.manual_seed(3)
    c = vt.rand(5)
    assert a.tolist() == c.tolist() != b.tolist()
    g = vt.Generator().manual_seed(3)
    assert vt.rand(5, generator=g).tolist() == a.tolist()


def test_state():
    g = vt.Generator().manual_seed(7)
    vt.rand(3, generator=g)
    state = g.get_state()
    assert state.dtype is vt.uint8
    first = vt.randn(4, generator=g).tolist()
    assert vt.randn(4, generator=g).tolist() != first
    g.set_state(state)
    assert vt.randn(4, generator=g).tolist() == first


def test_clone_and_pickle():
    g = vt.Generator().manual_seed(7)
    vt.rand(3, generator=g)
    copies = [g.clone_state(), pickle.loads(pickle.dumps(g))]
    expected = vt.rand(4, generator=g).tolist()
    for c in copies:
        assert c.initial_seed() == 7
        assert vt.rand(4, generator=c).tolist() == expected


def test_wrong_state():
    g = vt.Generator()
    for bad in (3, None, vt.zeros(16)):
        with pytest.raises(TypeError):
            g.set_state(bad)
    with pytest.raises(RuntimeError, match="RNG state"):
        g.set_state(vt.zeros(3, dtype=vt.uint8))


def test_default_state():
    vt.manual_seed(1)
    state = vt.get_rng_state()
    a = vt.rand(3).tolist()
    vt.set_rng_state(state)
    assert vt.rand(3).tolist() == a


def test_fork_rng():
    vt.manual_seed(1)
    with vt.random.fork_rng():
        vt.manual_seed(5)
        vt.rand(10)
    a = vt.rand(3).tolist()
    vt.manual_seed(1)
    assert vt.rand(3).tolist() == a
    with vt.random.fork_rng(enabled=False):
        vt.rand(3)
    assert vt.rand(3).tolist() != a


def test_seed_from_the_system():
    assert vt.seed() == vt.initial_seed()
    assert vt.seed() != vt.seed()


def test_offset():
    g = vt.Generator().manual_seed(2)
    assert g.get_offset() == 0
    vt.rand(8, generator=g)
    assert g.get_offset() >= 2
    g.set_offset(0)
    first = vt.rand(8, generator=g).tolist()
    g.set_offset(0)
    assert vt.rand(8, generator=g).tolist() == first
    for bad in (-1, 2**62, 0.5):
        with pytest.raises(RuntimeError):
            g.set_offset(bad)


def test_stream_does_not_wrap():
    g = vt.Generator().manual_seed(2)
    g.set_offset(2**62 - 2)
    with pytest.raises(RuntimeError, match="used up"):
        vt.rand(1000, generator=g)


def test_wrong_generator():
    with pytest.raises(TypeError, match="Generator"):
        vt.rand(3, generator=4)
    with pytest.raises(RuntimeError, match="not supported"):
        vt.Generator("meta")
