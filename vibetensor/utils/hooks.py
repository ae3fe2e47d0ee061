"""Handles that undo the registration of a hook."""

from __future__ import annotations

import itertools
import weakref
from collections import OrderedDict
from typing import Any


class RemovableHandle:
    """Returned by every ``register_*hook``; ``handle.remove()`` takes the hook out again.

    Also a context manager: the hook is removed when the ``with`` block ends.
    """

    _ids = itertools.count()

    def __init__(self, hooks: OrderedDict[int, Any]) -> None:
        self.id = next(RemovableHandle._ids)
        # Weak, so that a handle someone keeps does not keep the module or tensor alive.
        self._hooks = weakref.ref(hooks)

    def remove(self) -> None:
        """Remove the hook; does nothing if it is gone already."""
        hooks = self._hooks()
        if hooks is not None:
            hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.remove()
