"""``vibetensor.cuda`` has ``torch.cuda``'s names and signatures."""

import inspect
import types

import pytest
import torch

import vibetensor as vt

# What torch.cuda has besides devices, streams, events, graphs, memory and random numbers.
ABSENT = {
    # sensors, by a package of their own
    "clock_rate", "device_memory_used", "memory_usage", "power_draw", "temperature", "utilization",
    # handles of libraries, and the run-time library itself
    "cudart", "cudaStatus", "CudaError", "check_error", "current_blas_handle",
    "current_solver_handle", "get_gencode_flags", "has_half", "has_magma", "DeferredCudaCallError",
    # deprecated names of memory_reserved and its kind
    "max_memory_cached", "memory_cached", "reset_max_memory_cached",
    # other allocators, parts of a device, warnings at host synchronisations
    "CUDAPluggableAllocator", "change_current_allocator", "GreenContext", "get_sync_debug_mode",
    "set_sync_debug_mode",
}  # fmt: skip


def public():
    for name in torch.cuda.__all__:
        theirs = getattr(torch.cuda, name)
        typed = name.endswith(("Tensor", "Storage"))  # one class per dtype
        if not typed and name not in ABSENT and not isinstance(theirs, types.ModuleType):
            yield name


def described(function):
    return [
        (p.name, p.kind, p.default)
        for p in inspect.signature(function).parameters.values()
        if p.name != "kwargs"
    ]


@pytest.mark.parametrize("name", list(public()))
def test_signature(name):
    if name == "default_generators":
        return  # a tuple, of all devices
    ours, theirs = getattr(vt.cuda, name), getattr(torch.cuda, name)
    pairs = [(ours, theirs)]
    if inspect.isclass(theirs):
        methods = [m for m, f in vars(theirs).items() if m[0] != "_" and callable(f)]
        methods = [m for m in methods if m != "get_graph_data"]  # of CUDAGraph: for a profiler
        pairs += [(getattr(ours, m), getattr(theirs, m)) for m in methods]
    for mine, other in pairs:
        try:
            expected = described(other)
        except ValueError:  # of a C function
            continue
        assert described(mine) == expected, other
