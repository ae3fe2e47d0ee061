"""Peak bytes of tensors alive: ours by the allocator's counter, PyTorch's by watching storages."""

from __future__ import annotations

import importlib
import weakref
from collections.abc import Callable, Iterable
from typing import Any


def peak_bytes(lib: Any, step: Callable[[], Any], alive: Iterable[Any]) -> int:
    """The most bytes of CPU tensors alive at any time while ``step()`` runs.

    ``alive`` are the tensors that exist before: our allocator knows them, PyTorch must be told.
    """
    if lib.__name__ == "torch":
        return _torch_peak(step, alive)
    allocator = importlib.import_module("vibetensor.cpu")
    allocator.reset_peak_memory_stats()
    step()
    return allocator.max_memory_allocated()


def _torch_peak(step: Callable[[], Any], alive: Iterable[Any]) -> int:
    from torch import Tensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Watch(TorchDispatchMode):
        """Counts the untyped storage of every tensor that an operator returns until it is freed."""

        def __init__(self) -> None:
            super().__init__()
            self.storages: dict[int, weakref.ref[Any]] = {}
            self.bytes = self.peak = 0

        def see(self, value: Any) -> None:
            if not isinstance(value, Tensor):
                return
            storage = value.untyped_storage()
            key = storage._cdata
            if key in self.storages:
                return
            size = storage.nbytes()

            def freed(_: Any) -> None:
                del self.storages[key]
                self.bytes -= size

            self.storages[key] = weakref.ref(storage, freed)
            self.bytes += size
            self.peak = max(self.peak, self.bytes)

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            for value in tree_leaves(result):
                self.see(value)
            return result

    watch = Watch()
    for tensor in alive:
        watch.see(tensor)
    with watch:
        step()
    return watch.peak
