"""What host code may leave to a captured graph: numbers that change from replay to replay.

While a graph is captured, kernels get the values of that moment. Code whose numbers change (a learning
rate, a step count) asks :func:`active` for the graph's recorder and, where there is one, hands the
kernel a place in device memory instead, which every replay fills anew. Imports nothing of CUDA.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol


class Recorder(Protocol):
    """What a graph under capture offers."""

    def number(self, get: Callable[[], float]) -> Any:
        """A 0-d float64 tensor of the device, which holds ``get()`` in each replay."""

    def after_replay(self, function: Callable[[], None]) -> None:
        """Call `function` after each replay: for what the host counts."""

    def keep_gradients(self, parameters: list[Any]) -> None:
        """After each replay, ``grad`` of these tensors is what this graph computes."""


class _Thread(threading.local):
    recorder: Recorder | None = None


_thread = _Thread()


def active() -> Recorder | None:
    """The recorder of the graph that this thread captures; None outside a capture."""
    return _thread.recorder


def set_active(recorder: Recorder | None) -> None:
    """Called by the graph, where its capture begins and ends."""
    _thread.recorder = recorder
