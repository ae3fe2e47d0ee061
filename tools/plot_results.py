#!/usr/bin/env python3
"""Draws what bench/results/ holds of a device into docs/images/.

    python tools/plot_results.py bench/results/NVIDIA-H100-80GB-HBM3.csv

The newest commit of each stage counts, and newer rows of a part of it. Needs matplotlib.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).resolve().parent.parent
OURS, PEER = "#2b6cb0", "#a0aec0"


def newest(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """The rows of the last commit that ran a stage, by name, by stage; "STAGE, part" ran some of its
    rows again."""
    stages: dict[str, dict[str, dict[str, str]]] = {}
    commits: dict[str, str] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            stage, *part = row["stage"].split(", ")
            if not part and commits.get(stage) != row["commit"]:
                commits[stage] = row["commit"]
                stages[stage] = {}
            stages.setdefault(stage, {})[row["name"]] = row
    return stages


def ratios(rows: dict[str, dict[str, str]], title: str, path: Path) -> None:
    """Bars of our time over PyTorch's, sorted; the bound as a mark."""
    entries = sorted(rows.values(), key=lambda row: float(row["ratio"]), reverse=True)
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.24 * len(entries)))
    places = range(len(entries))
    axes.barh(places, [float(row["ratio"]) for row in entries], color=OURS, height=0.7)
    for place, row in zip(places, entries, strict=True):
        if row["bound"]:
            axes.plot([float(row["bound"])] * 2, [place - 0.4, place + 0.4], color="#c53030")
    axes.axvline(1, color="black", linewidth=0.6)
    axes.set_yticks(list(places), [row["name"] for row in entries], fontsize=7)
    axes.set(xlabel="time over PyTorch's; red: bound", title=title, ylim=(-1, len(entries)))
    save(figure, path)


def attention(rows: dict[str, dict[str, str]], device: str, path: Path) -> None:
    """Sustained speed by length, ours and cuDNN's, of the plain shapes."""
    curves: dict[tuple[str, str, str], list[tuple[int, float, float]]] = {}
    pattern = re.compile(r"(d\d+) h\d+ T(\d+) (causal|full) bfloat16 (forward|backward)")
    for name, row in rows.items():
        match = pattern.fullmatch(name)
        if match and int(match[2]) % 512 == 0:
            point = (int(match[2]), float(row["ours"]), float(row["torch"]))
            curves.setdefault((match[4], match[3], match[1]), []).append(point)
    figure, grid = pyplot.subplots(2, 4, figsize=(14, 7), sharey=True)
    panels = [
        (way, kind, dim)
        for way in ("forward", "backward")
        for dim in ("d64", "d128")
        for kind in ("causal", "full")
    ]
    for axes, (way, kind, dim) in zip(grid.flat, panels, strict=True):
        points = sorted(curves.get((way, kind, dim), []))
        lengths = [str(length) for length, _, _ in points]
        axes.plot(lengths, [ours for _, ours, _ in points], "o-", color=OURS, label="vibetensor")
        axes.plot(lengths, [peer for *_, peer in points], "s-", color=PEER, label="cuDNN")
        axes.set(title=f"{way}, {dim}, {kind}")
        axes.grid(alpha=0.3)
    every = (max(ours, peer) for points in curves.values() for _, ours, peer in points)
    grid[0, 0].set_ylim(0, 1.05 * max(every, default=1.0))
    grid[0, 0].legend()
    grid[0, 0].set_ylabel("TFLOP/s")
    grid[1, 0].set_ylabel("TFLOP/s")
    figure.suptitle(f"Attention, bfloat16, 16k tokens, sustained: {device}")
    save(figure, path)


def save(figure: pyplot.Figure, path: Path) -> None:
    """Write the picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
    print(path.relative_to(ROOT))


def main() -> None:
    """One picture for each stage that has one."""
    source = Path(sys.argv[1])
    device = source.stem.replace("-", " ")
    stages = newest(source)
    images = ROOT / "docs" / "images"
    for stage, title in (
        ("overhead", "Host cost of a call"),
        ("bandwidth", "Streaming kernels"),
        ("kernels", "Kernels"),
        ("fused", "Fused operators"),
        ("suite", "Kernels of a language model"),
        ("train", "Training steps"),
    ):
        if stage in stages:
            ratios(stages[stage], f"{title}: {device}", images / f"{stage}.png")
    if "attention" in stages:
        attention(stages["attention"], device, images / "attention.png")


if __name__ == "__main__":
    main()
