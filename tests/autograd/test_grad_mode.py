"""no_grad, enable_grad, set_grad_enabled, inference_mode."""

import threading

import pytest


def grads(lib):
    x = lib.ones(1, requires_grad=True)
    return (x * 2).requires_grad


def test_contexts(lib):
    assert lib.is_grad_enabled() and grads(lib)
    with lib.no_grad():
        assert not lib.is_grad_enabled() and not grads(lib)
        with lib.enable_grad():
            assert lib.is_grad_enabled() and grads(lib)
        assert not grads(lib)
    assert grads(lib)


def test_restored_after_an_error(lib):
    with pytest.raises(KeyError), lib.no_grad():
        raise KeyError
    assert lib.is_grad_enabled()


def test_one_context_used_again(lib):
    context = lib.no_grad()
    for _ in range(2):
        with context:
            assert not lib.is_grad_enabled()
        assert lib.is_grad_enabled()


def test_leaves_keep_requires_grad(lib):
    with lib.no_grad():
        x = lib.ones(2, requires_grad=True)
        assert x.requires_grad and x.is_leaf


def test_set_grad_enabled(lib):
    with lib.set_grad_enabled(False):
        assert not grads(lib)
        with lib.set_grad_enabled(True):
            assert grads(lib)
    lib.set_grad_enabled(False)
    try:
        assert not grads(lib)
    finally:
        lib.set_grad_enabled(True)
    assert grads(lib)
    with pytest.raises(TypeError, match="must be bool, not int"):
        lib.set_grad_enabled(1)


@pytest.mark.parametrize("bare", [True, False])
def test_decorators(lib, bare):
    def f(a, b=2):
        """Doc."""
        return a, b, lib.is_grad_enabled()

    decorated = lib.no_grad(f) if bare else lib.no_grad()(f)
    assert decorated(1, b=3) == (1, 3, False)
    assert decorated.__name__ == "f" and decorated.__doc__ == "Doc."
    with lib.no_grad():
        assert (lib.enable_grad(f) if bare else lib.enable_grad()(f))(1)[2]
    assert lib.set_grad_enabled(False)(f)(1)[2] is False and lib.is_grad_enabled()
    assert (lib.inference_mode(f) if bare else lib.inference_mode()(f))(1)[2] is False


def test_decorated_method(lib):
    class Model:
        @lib.no_grad()
        def run(self):
            return self, lib.is_grad_enabled()

    model = Model()
    assert model.run() == (model, False)


def test_decorated_generator(lib):
    """The mode holds while the generator runs, not while it waits."""

    @lib.no_grad()
    def numbers():
        try:
            received = yield lib.is_grad_enabled()
            yield received, lib.is_grad_enabled()
        except ValueError:
            yield "caught", lib.is_grad_enabled()
        return lib.is_grad_enabled()

    g = numbers()
    assert next(g) is False and lib.is_grad_enabled()
    assert g.send(5) == (5, False) and lib.is_grad_enabled()
    assert g.throw(ValueError()) == ("caught", False) and lib.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(g)
    assert stop.value.value is False
    g = numbers()
    next(g)
    g.close()
    assert lib.is_grad_enabled()


def test_inference_mode(lib):
    x = lib.ones(2, requires_grad=True)
    with lib.inference_mode():
        assert lib.is_inference_mode_enabled() and not lib.is_grad_enabled()
        y = x * 2
        assert y.is_inference() and not y.requires_grad and not x.is_inference()
        with lib.enable_grad():
            assert lib.is_grad_enabled()
            z = x * 2
            assert z.is_inference() and not z.requires_grad
        with lib.inference_mode(False):
            assert not lib.is_inference_mode_enabled() and grads(lib)
            assert not lib.ones(1).is_inference()
        assert lib.is_inference_mode_enabled() and not lib.is_grad_enabled()
    assert not lib.is_inference_mode_enabled() and grads(lib)


def test_inference_mode_off(lib):
    with lib.no_grad(), lib.inference_mode(False):
        assert lib.is_grad_enabled()
    assert lib.is_grad_enabled()


def test_modes_are_per_thread(lib):
    seen = []

    def work():
        seen.append(lib.is_grad_enabled())
        with lib.no_grad():
            barrier.wait()
            barrier.wait()
        seen.append(lib.is_grad_enabled())

    barrier = threading.Barrier(2)
    with lib.no_grad():
        thread = threading.Thread(target=work)
        thread.start()
        barrier.wait()
    assert lib.is_grad_enabled()
    barrier.wait()
    thread.join()
    assert seen == [True, True]


def test_backward_inside_no_grad(lib):
    x = lib.ones(1, requires_grad=True)
    y = x * 3
    with lib.no_grad():
        y.backward()
        assert not lib.is_grad_enabled()
    assert x.grad.tolist() == [3.0]
    y = x * x
    with lib.no_grad():
        (g,) = lib.autograd.grad(y, x, create_graph=True)
        assert g.requires_grad and not lib.is_grad_enabled()
