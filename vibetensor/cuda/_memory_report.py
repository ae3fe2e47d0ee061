"""The table of memory_summary."""

from __future__ import annotations

from typing import Any

_BYTES = ("B  ", "KiB", "MiB", "GiB", "TiB", "PiB")
_COUNTS = (" ", "K", "M")

_ROWS = (
    ("allocated_bytes", "Allocated memory", True),
    ("active_bytes", "Active memory", True),
    ("requested_bytes", "Requested memory", True),
    ("reserved_bytes", "GPU reserved memory", True),
    ("inactive_split_bytes", "Non-releasable memory", True),
    ("allocation", "Allocations", False),
    ("active", "Active allocs", False),
    ("segment", "GPU reserved segments", False),
    ("inactive_split", "Non-releasable allocs", False),
)
_OVERSIZE = (
    ("oversize_allocations", "Oversize allocations"),
    ("oversize_segments", "Oversize GPU segments"),
)
_COLUMNS = ("current", "peak", "allocated", "freed")
_WIDTH = 75


def _size(value: int, scale_of: int) -> str:
    """`value` in the unit that suits `scale_of`: rows of one table share their unit."""
    unit = 0
    while scale_of >= 768 << 10 and unit + 1 < len(_BYTES):
        scale_of >>= 10
        value >>= 10
        unit += 1
    return f"{value:6d} {_BYTES[unit]}"


def _count(value: int, scale_of: int) -> str:
    unit = 0
    while scale_of >= 750_000 and unit + 1 < len(_COUNTS):
        scale_of //= 1000
        value //= 1000
        unit += 1
    return f"{value:7d} {_COUNTS[unit]} "


def _row(title: str, values: list[int], scales: list[int], form: Any) -> str:
    cells = " | ".join(form(v, s) for v, s in zip(values, scales, strict=True))
    return f" {title:<21} | {cells} "


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """:func:`memory_stats` as a table for people.

    Parameters
    ----------
    device : vt.device or int, optional
        The current device by default.
    abbreviated : bool
        Leave out the rows of small and large blocks.
    """
    from vibetensor.cuda.devices import device_index
    from vibetensor.cuda.memory import memory_stats

    index = device_index(device, optional=True)
    stats = memory_stats(index)

    def values(name: str) -> list[int]:
        return [stats.get(f"{name}.{column}", 0) for column in _COLUMNS]

    lines = [
        "=" * _WIDTH,
        f" {'':16} vibetensor CUDA memory summary, device ID {index:<14d} ",
        "-" * _WIDTH,
        f"  {'':9} CUDA OOMs: {stats.get('num_ooms', 0):<12d} | "
        f"{'':6} cudaMalloc retries: {stats.get('num_alloc_retries', 0):<8d}  ",
        "=" * _WIDTH,
        "        Metric         | Cur Usage  | Peak Usage | Tot Alloc  | Tot Freed  ",
    ]
    pools = [("all", "")]
    if not abbreviated:
        pools += [("large_pool", "      from large pool"), ("small_pool", "      from small pool")]
    for name, title, is_size in _ROWS:
        lines.append("-" * _WIDTH)
        scales = values(f"{name}.all")
        for pool, pool_title in pools:
            form = _size if is_size else _count
            lines.append(_row(pool_title or title, values(f"{name}.{pool}"), scales, form))
    for name, title in _OVERSIZE:
        lines.append("-" * _WIDTH)
        lines.append(_row(title, values(name), values(name), _count))
    lines.append("=" * _WIDTH)
    return "".join(f"|{line}|\n" for line in lines)
