"""The examples in docstrings run and print what they say."""

import contextlib
import doctest
import importlib
import inspect
import types
import warnings

import numpy
import pytest

import vibetensor as vt

MODULES = (
    "vibetensor",
    "vibetensor.amp",
    "vibetensor.autograd",
    "vibetensor.backends.cuda",
    "vibetensor.cuda",
    "vibetensor.cuda.graphed_callables",
    "vibetensor.cuda.graphed_step",
    "vibetensor.cuda.graphs",
    "vibetensor.cuda.memory",
    "vibetensor.cuda.nvtx",
    "vibetensor.nn",
    "vibetensor.nn.attention",
    "vibetensor.nn.attention.varlen",
    "vibetensor.nn.functional",
    "vibetensor.nn.init",
    "vibetensor.nn.utils",
    "vibetensor.optim",
    "vibetensor.optim.lr_scheduler",
    "vibetensor.random",
)


def examples():
    """The name and docstring of every module, class, function, method and property with one."""
    found, parser = {}, doctest.DocTestParser()

    def add(name, thing):
        text = getattr(thing, "__doc__", None)
        if isinstance(text, str) and ">>>" in text and text not in found.values():
            found[name] = text
        if inspect.isclass(thing):
            for part in vars(thing):
                if not part.startswith("_"):
                    add(f"{name}.{part}", inspect.getattr_static(thing, part))

    for path in MODULES:
        with contextlib.suppress(ModuleNotFoundError):  # of a build without CUDA
            module = importlib.import_module(path)
            add(path, module)
            for name in getattr(module, "__all__", None) or dir(module):
                thing = getattr(module, name, None)
                if name[0] != "_" and not isinstance(thing, types.ModuleType):
                    add(f"{path}.{name}", thing)
    names = {"vt": vt, "F": vt.nn.functional, "numpy": numpy}
    return [parser.get_doctest(text, dict(names), name, None, 0) for name, text in found.items()]


EXAMPLES = examples()


def test_there_are_examples():
    assert len(EXAMPLES) > 80


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_example(example):
    lines = []
    dtype = vt.get_default_dtype()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a machine without a GPU
        failed = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(
            example, out=lines.append
        )[0]
    # What examples set, the next ones should not see.
    vt.set_printoptions(profile="default")
    vt.set_default_dtype(dtype)
    assert not failed, "".join(lines)
