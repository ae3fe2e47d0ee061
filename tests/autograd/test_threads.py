"""Backward passes of several threads at once, on graphs they share."""

import sys
import threading

import pytest

import vibetensor as vt

THREADS = 4


@pytest.fixture(autouse=True)
def quick_switches():
    """Threads change over as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def run_in_threads(work):
    errors = []
    barrier = threading.Barrier(THREADS)

    def guarded(k):
        try:
            barrier.wait()
            work(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(k,)) for k in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def build(x, depth):
    y = x
    for _ in range(depth):
        y = y * 0.5 + (y * 0.5).relu()
    return y


def test_shared_graph_with_retain_graph():
    x = vt.ones(50_000, requires_grad=True)  # large enough for operators to release the GIL
    y = build(x, 20).sum()
    run_in_threads(lambda k: [y.backward(retain_graph=True) for _ in range(5)])
    assert x.grad.amin().item() == x.grad.amax().item() == 5.0 * THREADS


def test_shared_graph_with_hooks():
    """Hooks run Python, so the threads interleave between any two nodes."""
    x = vt.ones(3, requires_grad=True)
    y = x
    calls = []
    for _ in range(20):
        y = y * 0.5 + y * 0.5
        y.register_hook(lambda g: calls.append(threading.get_ident()))
    total = y.sum()
    run_in_threads(lambda k: [total.backward(retain_graph=True) for _ in range(20)])
    assert x.grad.tolist() == [20.0 * THREADS] * 3
    assert len(calls) == 20 * 20 * THREADS


def test_grad_on_a_shared_graph():
    x = vt.ones(40_000, requires_grad=True)
    middle = build(x, 5)
    y = build(middle, 5)
    results = [None] * THREADS

    def work(k):
        for _ in range(10):
            results[k] = vt.autograd.grad(y.sum() * (k + 1), [middle, x], retain_graph=True)

    run_in_threads(work)
    for k, grads in enumerate(results):
        for g in grads:
            assert g.amin().item() == g.amax().item() == k + 1
    assert x.grad is None


def test_threads_with_graphs_of_their_own_share_a_leaf():
    x = vt.ones(40_000, requires_grad=True)

    def work(k):
        for _ in range(10):
            build(x, 3).sum().backward()

    run_in_threads(work)
    assert x.grad.amin().item() == x.grad.amax().item() == 10.0 * THREADS


def test_parts_shared_by_different_roots():
    x = vt.ones(10, requires_grad=True)
    shared = build(x, 10)
    roots = [(shared * (k + 1)).sum() for k in range(THREADS)]
    run_in_threads(lambda k: [roots[k].backward(retain_graph=True) for _ in range(20)])
    assert x.grad.tolist() == [20.0 * sum(range(1, THREADS + 1))] * 10


def test_error_in_one_thread():
    x = vt.ones(10, requires_grad=True)
    y = build(x, 10)
    good = y.sum()
    bad = (y * 2).sum()
    bad.register_hook(lambda g: 1 / 0)

    def work(k):
        for _ in range(20):
            if k == 0:
                with pytest.raises(ZeroDivisionError):
                    bad.backward(retain_graph=True)
            else:
                good.backward(retain_graph=True)

    run_in_threads(work)
    assert x.grad.tolist() == [20.0 * (THREADS - 1)] * 10


def test_second_derivatives():
    x = vt.tensor([0.5, 0.7], dtype=vt.float64, requires_grad=True)
    y = (x * x * x).sum()
    results = [None] * THREADS

    def work(k):
        for _ in range(30):
            (g,) = vt.autograd.grad(y, x, create_graph=True, retain_graph=True)
            # The graph of the gradient shares nodes with that of y.
            (results[k],) = vt.autograd.grad(g.sum(), x, retain_graph=True)

    run_in_threads(work)
    for r in results:
        assert r.tolist() == pytest.approx([3.0, 4.2])


def test_functions_and_graph_building():
    class Square(vt.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * x * 2

    def work(k):
        for i in range(50):
            x = vt.tensor([float(k), float(i)], requires_grad=True)
            Square.apply(Square.apply(x)).sum().backward()
            assert x.grad.tolist() == pytest.approx([4.0 * k**3, 4.0 * i**3])

    run_in_threads(work)
