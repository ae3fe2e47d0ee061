"""Triton with our tensors, streams and events: what ``kernel[grid](...)``, ``triton.autotune`` and
``triton.testing.do_bench`` need of a framework. PyTorch need not be installed. Imports Triton.

Once :func:`install` has run (see _install)

- calls of ``@triton.jit`` kernels go through our launcher (cuda/_triton_call.pyx); a call with no
  tensor of ours in a process that has PyTorch goes Triton's own way;
- Triton's active driver is ours, unless another was in use already.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.driver import DriverBase
from triton.experimental.gluon.nvidia import hopper
from triton.runtime.driver import driver
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import JITFunction
from triton.tools.tensor_descriptor import TensorDescriptor

import vibetensor
from vibetensor.cuda import _runtime, _triton_call
from vibetensor.kernels._compile import image_of
from vibetensor.kernels._spec import layout

L2_BYTES = (
    256 << 20
)  # written between the runs of a benchmark, so that they find nothing in the cache

_triton_run = JITFunction.run


# --- what Triton asks of a framework --------------------------------------------------------------


class Driver(DriverBase):
    """Our devices, streams and events for Triton."""

    def __init__(self) -> None:
        self.utils = _Utils()
        self.launcher_cls = _Launcher

    @classmethod
    def is_active(cls) -> bool:
        return vibetensor.cuda.is_available()

    def get_current_device(self) -> int:
        return _runtime.current_device()

    def set_current_device(self, device: int) -> None:
        _runtime.set_device(device)

    def get_current_stream(self, device: int | None = None) -> int:
        return _runtime.current_stream(self.get_current_device() if device is None else device)

    def get_device_capability(self, device: int) -> tuple[int, int]:
        return vibetensor.cuda.get_device_capability(device)

    def get_current_target(self) -> GPUTarget:
        major, minor = self.get_device_capability(self.get_current_device())
        return GPUTarget("cuda", 10 * major + minor, 32)

    def map_python_to_cpp_type(self, ty: str) -> str:
        from triton.backends.nvidia.driver import ty_to_cpp

        return ty_to_cpp(ty)

    def get_active_torch_device(self) -> Any:
        raise RuntimeError("vibetensor's driver has no device of PyTorch")

    def get_device_interface(self) -> Any:
        return vibetensor.cuda

    def get_benchmarker(self) -> Callable:
        from triton.testing import do_bench

        return _run_once if _runtime.is_simulated() else do_bench

    def get_empty_cache_for_benchmark(self) -> Any:
        return vibetensor.empty(L2_BYTES // 4, dtype=vibetensor.int32, device="cuda")

    def clear_cache(self, cache: Any) -> None:
        cache.zero_()


def _run_once(kernel_call: Callable, quantiles: tuple[float, ...], **_: Any) -> list[float]:
    """The benchmark of the simulated driver, whose times mean nothing."""
    kernel_call()
    return [0.0 for _ in quantiles]


class _Utils:
    """What a ``CompiledKernel`` asks for when it is launched by itself."""

    def get_device_properties(self, device: int) -> dict[str, int]:
        names = {"max_shared_mem": "max_shared_per_block_optin", "multiprocessor_count": "sm_count"}
        return {name: _runtime.property_of(device, ours) for name, ours in names.items()}

    def load_binary(self, name: str, cubin: bytes, shared: int, device: int) -> tuple:
        """(module, function, registers, spills, threads): the function is the code."""
        return name, cubin, 0, 0, _runtime.property_of(device, "max_threads_per_block")


class _Launcher:
    """The launcher of a ``CompiledKernel`` that is called itself: ``compiled[grid](...)``."""

    def __init__(self, source: Any, metadata: Any) -> None:
        self.source, self.metadata = source, metadata
        self.entries: dict[int, Any] = {}  # by device

    def __call__(self, x, y, z, stream, cubin, packed, data, enter, leave, *args):
        device = _runtime.current_device()
        if device not in self.entries:
            compiled = types.SimpleNamespace(
                src=self.source, metadata=self.metadata, asm={"cubin": cubin}
            )
            self.entries[device] = entry_of(compiled, device, args, {})
        before = _runtime.exchange_stream(device, stream)
        try:
            self.entries[device]((x, y, z), args)
        finally:
            _runtime.exchange_stream(device, before)


@contextmanager
def active() -> Iterator[None]:
    """With our driver in place: what Triton compiles is for our current device."""
    before = driver._active
    driver.set_active(before if isinstance(before, Driver) else Driver())
    try:
        yield
    finally:
        driver.set_active(before)


# --- from a call to what is launched --------------------------------------------------------------


def entry_of(compiled: Any, device: int, args: tuple, kwargs: dict[str, Any]) -> _triton_call.Entry:
    """How calls like this one launch the kernel that was compiled for it.

    Raises
    ------
    triton.OutOfResources
        If the device has not enough shared memory.
    """
    function = compiled.src.fn
    defaults = {p.name: p.default for p in function.params if p.has_default}
    constexpr = {p.name for p in function.params if p.is_constexpr}
    names = [p.name for p in function.params]
    first, leaf = {}, 0  # the leaves of the call are numbered; the first one of each argument
    for name, value in (*zip(names, args, strict=False), *kwargs.items()):
        first[name] = leaf
        leaf += len(_leaves(value)) if name in names and name not in constexpr else 1
    passed = []  # type, number of the leaf or None, literal
    for name, type in compiled.src.signature.items():
        for i, t in enumerate(_leaves(type)):
            if t != "constexpr":
                given = name in first
                literal = None if given else _leaves(defaults[name])[i]
                passed.append((t, first[name] + i if given else None, literal))
    types = [t for t, _, _ in passed]
    image = image_of(compiled, types)
    limit = _runtime.property_of(device, "max_shared_per_block_optin")
    if image.shared > limit:
        raise OutOfResources(image.shared, limit, "shared memory")
    offsets = layout(types).offsets
    items = [(n, t, at, literal) for (t, n, literal), at in zip(passed, offsets, strict=True)]
    used = [(name, value, home) for (name, _), (value, home) in function.used_global_vals.items()]
    return _triton_call.Entry(image, device, items, defaults, compiled, used)


def _leaves(value: Any) -> list:
    if isinstance(value, tuple):
        return [leaf for v in value for leaf in _leaves(v)]
    return [value]


def compile_call(
    function: Any, args: tuple, kwargs: dict, device: int
) -> _triton_call.Entry | None:
    """Compiles a kernel for a call; None if a hook of the user's took the call over."""
    with active():
        compiled = _triton_run(function, *args, grid=None, warmup=True, **kwargs)
    if hasattr(compiled, "result"):  # compiled by another thread
        compiled = compiled.result()
    return None if compiled is None else entry_of(compiled, device, args, kwargs)


def run_foreign(function: Any, grid: Any, args: tuple, kwargs: dict) -> tuple[bool, Any]:
    """A call without any tensor of ours: PyTorch's, if that is there. (Whether it ran, result.)"""
    if sys.modules.get("torch") is None:
        return False, None
    if isinstance(driver._active, Driver):
        driver.set_active(None)  # Triton chooses its own at the next use
    return True, _triton_run(function, *args, grid=grid, warmup=False, **kwargs)


def run_hooks(compiled: Any, grid: tuple, args: tuple, entering: bool) -> None:
    """Calls the hooks that profilers set."""
    with active():
        data = compiled.launch_metadata(grid, driver.active.get_current_stream(), *args)
    (knobs.runtime.launch_enter_hook if entering else knobs.runtime.launch_exit_hook)(data)


def install() -> None:
    """Make Triton's kernels take our tensors. Again, when the driver was exchanged, it drops their
    machine code."""
    if JITFunction.run is not _triton_run:
        _triton_call.forget()
        return

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        if not warmup:
            return _triton_call.run(self, *args, grid=grid, **kwargs)
        with active():
            return _triton_run(self, *args, grid=grid, warmup=True, **kwargs)

    _triton_call.connect(
        (TensorDescriptor, hopper.TensorDescriptor),
        compile_call,
        run_foreign,
        run_hooks,
        knobs.runtime.launch_enter_hook.calls,
    )
    JITFunction.run = run
    JITFunction.__getitem__ = _triton_call.getitem
    if driver._active is None:
        driver.set_active(Driver())
