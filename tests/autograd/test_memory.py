"""Nothing is kept longer than it must be: reference counts free it, or the collector where a cycle
runs through hooks or contexts."""

import gc
import weakref

import pytest
from vibetensor.core.dispatch import cpu_memory

import vibetensor as vt


@pytest.fixture(autouse=True)
def collector_off():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def leaf(n=4):
    return vt.ones(n, requires_grad=True)


def test_graph_goes_with_its_result():
    x = leaf()
    big = vt.ones(4)
    alive = weakref.ref(big)
    y = (x * big).exp().sum()
    del big
    assert alive() is not None
    del y
    assert alive() is None


def test_saved_results_make_no_cycle():
    x = leaf()
    y = x.exp()
    alive = weakref.ref(y)
    del y
    assert alive() is None


def test_write_through_a_view_makes_no_cycle():
    w = leaf(2)
    x = vt.ones(4)
    x[:2].mul_(w)
    x[1:3].exp_()
    alive = weakref.ref(x)
    del x
    assert alive() is None


def test_next_functions_makes_no_cycle():
    x = leaf()
    alive = weakref.ref(x)
    y = x * 2
    assert y.grad_fn.next_functions[0][0].variable is x
    del x, y
    assert alive() is None


def test_memory_after_training_steps_is_constant():
    x = leaf(1000)
    w = leaf(1000)

    def step():
        x.grad = w.grad = None
        ((x * w).sin() + x).sum().backward()

    step()
    before = cpu_memory()["allocated"]
    for _ in range(20):
        step()
    assert cpu_memory()["allocated"] == before


def test_failed_backward_leaks_nothing():
    x = leaf(1000)
    y = x * 2
    y.register_hook(lambda g: 1 / 0)
    total = (y * 3 + x).sum()
    with pytest.raises(ZeroDivisionError):
        total.backward(retain_graph=True)
    x.grad = None
    before = cpu_memory()["allocated"]
    for _ in range(5):
        with pytest.raises(ZeroDivisionError):
            total.backward(retain_graph=True)
        x.grad = None
    assert cpu_memory()["allocated"] == before


@pytest.mark.parametrize("on_leaf", [True, False])
def test_hook_that_holds_its_tensor(on_leaf):
    x = leaf() if on_leaf else leaf() * 2
    alive = weakref.ref(x)
    x.register_hook(lambda g, t=x: None)
    del x
    gc.collect()
    assert alive() is None


def test_node_hook_that_holds_its_tensor():
    y = leaf() * 2
    alive = weakref.ref(y)
    y.attribute = y  # known to the collector
    y.grad_fn.register_hook(lambda a, b, t=y: None)
    del y
    gc.collect()
    assert alive() is None


def test_collected_nodes_are_used_again_once_each():
    """Nodes are recycled through a free list, whichever way they died."""
    for _ in range(3):
        for _ in range(100):
            y = leaf() * 2
            y.register_hook(lambda g, y=y: None)
        del y
        gc.collect()
    with pytest.raises(TypeError):
        vt.autograd.Node()
    alive = [leaf() * 2 for _ in range(5000)]
    gc.collect()
    assert len({id(y.grad_fn) for y in alive}) == len(alive)


def test_context_that_holds_its_result():
    class Keeps(vt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.result = x * 2
            return ctx.result

        @staticmethod
        def backward(ctx, g):
            return g

    y = Keeps.apply(leaf())
    alive = weakref.ref(y)
    del y
    gc.collect()
    assert alive() is None


def test_chain_of_functions_is_freed_without_recursion():
    class Same(vt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return g

    y = leaf(1)
    for _ in range(50_000):
        y = Same.apply(y)
    y.backward(retain_graph=True)
    del y


def test_chain_of_writes_through_views_is_freed_without_recursion():
    w = vt.ones(1, requires_grad=True)
    x = vt.ones(2)
    for _ in range(50_000):
        x[:1].mul_(w)
    x.sum().backward(retain_graph=True)
    assert w.grad.tolist() == [50_000.0]
    del x


def test_collection_in_the_middle_of_everything():
    """The collector sees nodes and tensors in every state."""
    gc.enable()
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for k in range(50):
            x = leaf()
            y = x * 2
            y.register_hook(lambda g, y=y: None)
            z = (y * y)[1:]
            z.mul_(y[1:])
            z.sum().backward(retain_graph=k % 2 == 0)
    finally:
        gc.set_threshold(*threshold)
    assert x.grad.tolist() == [0.0, 24.0, 24.0, 24.0]
