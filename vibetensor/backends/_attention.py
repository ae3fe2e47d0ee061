"""Which kernels attention takes on a device: the measured tables, shown, and their border."""

from __future__ import annotations

from typing import Any, NamedTuple

_NO_BOUND = 1 << 30  # kEvery of vibetensor/cuda/kernels/attention_choices.h


class AttentionRow(NamedTuple):
    """For which calls a kernel is taken, and in which shape.

    `causal` and the bounds that are None do not matter; `head_size`, `max_queries` and `max_keys`
    are the largest of a call. `precision` is "half", "tf32" or "tf32x3", which is float32 by three
    products of TF32. The rest is the kernel: queries and keys of a tile, warps that compute, and
    stages of its pipeline.
    """

    step: str
    family: str
    precision: str
    causal: bool | None
    head_size: int
    max_queries: int | None
    max_keys: int | None
    queries: int
    keys: int
    warps: int
    stages: int


class Attention:
    """The choice among the fused kernels of attention.

    A call that ``sdpa_kernel`` and the switches beside this leave to the fused kernels goes by
    :meth:`table`. Print this object to see it for the current device.
    """

    def table(self, device: Any = None) -> list[AttentionRow]:
        """The rows for a device, in the order in which they are asked: of each `step` the first
        that fits a call is taken.

        Those of the family "hopper" need a device of compute capability 9 and calls of half types
        with :attr:`hopper_min_rows` queries and keys or more, heads of 32 to 128, and no mask,
        window, ALiBi, dropout or packed sequences. What they do not take, "plain" does.

        Parameters
        ----------
        device : vt.device or int, optional
            The current device by default.

        Raises
        ------
        RuntimeError
            If there is no CUDA device.

        Examples
        --------
        >>> vt.backends.cuda.attention.table()[0].family  # doctest: +SKIP
        'hopper'
        """
        from vibetensor import cuda

        major, _ = cuda.get_device_capability(device)
        return [
            AttentionRow._make(None if value == _NO_BOUND else value for value in row)
            for row in _library().rows(major)
        ]

    @property
    def hopper_min_rows(self) -> int:
        """From how many queries and keys on the Hopper kernels are taken, for heads of 64 elements:
        128, as measured. Of wider heads fewer will do, of narrower ones it takes more: what counts
        is length times head size. A number beyond every length leaves all to the plain kernels."""
        return _library().hopper_min_rows()

    @hopper_min_rows.setter
    def hopper_min_rows(self, rows: int) -> None:
        if not isinstance(rows, int) or isinstance(rows, bool):
            raise TypeError(f"hopper_min_rows must be int, not {type(rows).__name__}")
        if rows < 1:
            raise ValueError(f"hopper_min_rows must be positive, got {rows}")
        _library().set_hopper_min_rows(min(rows, _NO_BOUND))

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "hopper_min_rows":
            raise AttributeError(f"Unknown attribute {name}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        from vibetensor import cuda

        if not cuda.is_available():
            return "attention on CUDA: there is no device"
        lines = [
            f"attention on {cuda.get_device_name()}, hopper_min_rows = {self.hopper_min_rows}",
            f"{'step':27} {'family':7} {'precision':9} {'causal':6} {'head':>4} {'queries':>7} "
            f"{'keys':>5}  tile, warps, stages",
        ]
        for r in self.table():
            words = ["any" if v is None else str(v) for v in (r.causal, r.max_queries, r.max_keys)]
            lines.append(
                f"{r.step:27} {r.family:7} {r.precision:9} {words[0]:6} {r.head_size:>4} "
                f"{words[1]:>7} {words[2]:>5}  {r.queries} x {r.keys}, {r.warps}, {r.stages}"
            )
        return "\n".join(lines)


def _library() -> Any:
    try:
        from vibetensor.cuda import _attention
    except ImportError as error:
        raise RuntimeError("vibetensor was built without CUDA") from error
    return _attention


attention = Attention()
