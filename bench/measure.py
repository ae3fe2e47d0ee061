"""What every subject shares: pinning, interleaved timing, and the table of results."""

from __future__ import annotations

import json
import os
import platform
import statistics
import timeit
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Long enough for a clock that counts tens of nanoseconds, short enough that both sides of a round
# meet the same state of the host.
SAMPLE_SECONDS = 0.002


@dataclass
class Row:
    """One figure: the samples of both sides and the bound on the ratio of their medians."""

    name: str
    bound: float | None
    unit: str = "ns"
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    speed: bool = False  # more is better, and the bound is the least

    @property
    def ratio(self) -> float:
        """Our median divided by the peer's."""
        return statistics.median(self.ours) / statistics.median(self.peer)

    @property
    def verdict(self) -> str:
        """``pass`` or ``miss``; empty where the row has no bound."""
        if self.bound is None:
            return ""
        good = self.ratio >= self.bound if self.speed else self.ratio <= self.bound
        return "pass" if good else "miss"


@dataclass
class Case:
    """One figure to time: a sampler for each side, returning the seconds of one piece of work."""

    name: str
    bound: float | None
    ours: Callable[[], float]
    peer: Callable[[], float]
    scale: float = 1e9
    unit: str = "ns"


def statement(source: str, names: dict[str, Any]) -> Callable[[], float]:
    """A sampler of one statement: the seconds that it takes once, from a loop of many."""
    timer = timeit.Timer(source, globals=names)
    count = 1
    while (taken := timer.timeit(count)) < SAMPLE_SECONDS / 4:
        count *= 2
    count = max(1, round(count * SAMPLE_SECONDS / taken))
    return lambda: timer.timeit(count) / count


def interleave(cases: list[Case], rounds: int) -> list[Row]:
    """Sample all cases ``rounds`` times, the two sides of each in turn."""
    rows = [Row(case.name, case.bound, case.unit) for case in cases]
    for number in progress(rounds):
        for case, row in zip(cases, rows, strict=True):
            sides = [(case.ours, row.ours), (case.peer, row.peer)]
            for sample, results in sides if number % 2 else reversed(sides):
                results.append(sample() * case.scale)
    return rows


def progress(rounds: int) -> Iterator[int]:
    """The numbers of the rounds, with a progress bar where tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return iter(range(rounds))
    return iter(tqdm(range(rounds), unit="round", leave=False))


def pin(threads: int) -> list[int]:
    """Keep this process on the first ``threads`` of its processors; returns them."""
    available = sorted(os.sched_getaffinity(0))
    chosen = available[:threads]
    os.sched_setaffinity(0, chosen)
    return chosen


def show(rows: list[Row]) -> None:
    """Print the table."""
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'ours':>12} {'torch':>12}        {'ratio':>7} {'bound':>6}")
    for row in rows:
        ours, peer = statistics.median(row.ours), statistics.median(row.peer)
        bound = "" if row.bound is None else f"{row.bound:.2f}"
        print(
            f"{row.name:{width}}  {ours:12,.1f} {peer:12,.1f} {row.unit:6} {row.ratio:7.3f} "
            f"{bound:>6} {row.verdict}"
        )


def write(path: str, subject: str, rows: list[Row], **details: Any) -> None:
    """Write the rows, with all samples and a description of the host, as JSON."""
    import torch

    import vibetensor

    result = {
        "subject": subject,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "vibetensor": vibetensor.__version__,
        "torch": torch.__version__,
        **details,
        "rows": [
            {
                **asdict(row),
                "ours_median": statistics.median(row.ours),
                "peer_median": statistics.median(row.peer),
                "ratio": row.ratio,
                "verdict": row.verdict,
            }
            for row in rows
        ],
    }
    Path(path).write_text(json.dumps(result, indent=1))


def processor() -> str:
    """The name of this machine's processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
