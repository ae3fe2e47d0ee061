"""Training steps on the GPU: reversal, miniGPT, ViT and GPT-2, against PyTorch eager, compiled and captured.

Each side trains in a process of its own; the processes take turns on the GPU. A step is wall time over
a turn of steps with one synchronisation at its end. Host time is what the calls of a step take while
the GPU is behind. Kernels are counted by the CUDA profiler that comes with PyTorch, for both sides.
"""

from __future__ import annotations

import argparse
import collections
import gc
import importlib
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from .measure import Row, progress, show, write
from .workloads import Program, Workload, gpt2, minigpt, reversal, vit

# Dense arithmetic of an H100 SXM without sparsity, in operations a second.
PEAK_RATE = {"float32": 66.9e12, "tf32": 494.7e12, "bfloat16": 989.4e12}
TURN_SECONDS = 0.3
SIDES = ("ours eager", "ours captured", "torch eager", "torch compiled", "torch captured")


@dataclass
class Subject:
    """A program, and the bounds on our time over a peer's and on our memory."""

    name: str
    build: Callable[[], Workload]
    bounds: dict[tuple[str, str], float]  # (our side, the side it is divided by)
    memory: float | None = 1.0


EAGER, CAPTURED = ("ours eager", "torch eager"), ("ours captured", "torch captured")
OWN, COMPILED = ("ours eager", "ours captured"), ("ours eager", "torch compiled")
SUBJECTS = [
    Subject("reversal float32", reversal, {EAGER: 0.35, CAPTURED: 0.85, OWN: 1.5}),
    Subject("miniGPT tf32", minigpt, {EAGER: 0.60, CAPTURED: 1.2, OWN: 1.15}),
    Subject(
        "miniGPT bfloat16",
        lambda: minigpt("bfloat16"),
        {EAGER: 0.40, CAPTURED: 0.85, OWN: 1.15},
    ),
    Subject("ViT tf32", lambda: vit("tf32", 0.0), {EAGER: 0.85, CAPTURED: 1.2, OWN: 1.15}),
    Subject(
        "ViT bfloat16",
        lambda: vit("bfloat16", 0.0),
        {EAGER: 0.60, CAPTURED: 0.85, OWN: 1.15},
    ),
    Subject("ViT tf32, dropout 0.1", vit, {EAGER: 1.2, CAPTURED: 1.2}, 1.15),
    Subject("GPT-2 124M bfloat16", gpt2, {EAGER: 0.75, COMPILED: 1.05}),
]


# --- in the process of one side ------------------------------------------------------------------


def pool_bytes(lib: Any) -> tuple[int, int]:
    """Bytes allocated outside the pools of graphs, and bytes that those pools hold."""
    outside = inside = 0
    for segment in lib.cuda.memory_snapshot():
        if tuple(segment["segment_pool_id"]) == (0, 0):
            outside += segment["allocated_size"]
        else:
            inside += segment["total_size"]
    return outside, inside


def peak(lib: Any, program: Program, captured: bool) -> float:
    """MiB: the most bytes allocated in an eager step. Of a captured one, the most over warm-up and
    capture, and of what is allocated outside plus what the graph's pool holds while it replays."""
    gc.collect()
    lib.cuda.synchronize()
    if captured:
        return max(lib.cuda.max_memory_allocated(), sum(pool_bytes(lib))) / 2**20
    lib.cuda.reset_peak_memory_stats()
    program.run(2)
    return lib.cuda.max_memory_allocated() / 2**20


def host_time(lib: Any, program: Program) -> float:
    """Milliseconds that the calls of a step take, by the median of several."""
    samples = []
    for _ in range(7):
        lib.cuda.synchronize()
        begin = time.perf_counter()
        program.step()
        samples.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(samples)


def kernels(program: Program) -> list[tuple[str, int, float]]:
    """The kernels of one step: name, number, microseconds, the costliest first."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        program.run(1)
    counts: dict[str, list[float]] = collections.defaultdict(lambda: [0, 0.0])
    for event in profiler.events() or []:
        if event.device_type == DeviceType.CUDA:
            entry = counts[event.name]
            entry[0] += 1
            entry[1] += event.device_time
    rows = [(name, int(number), total) for name, (number, total) in counts.items()]
    return sorted(rows, key=lambda row: -row[2])


def serve(connection: Connection, subject: str, side: str) -> None:
    """Run the commands that arrive until the connection closes."""
    try:
        library, mode = side.split()
        lib = importlib.import_module("vibetensor" if library == "ours" else "torch")
        workload = next(s.build() for s in SUBJECTS if s.name == subject)
        program = Program(workload, lib, "cuda", mode)
        program.run(5)
        begin = time.perf_counter()
        program.run(3)
        turn = max(3, min(30, round(TURN_SECONDS / (time.perf_counter() - begin) * 3)))
        connection.send("ready")
        while (command := connection.recv()) != "stop":
            if command == "turn":
                begin = time.perf_counter()
                program.run(turn)
                connection.send((time.perf_counter() - begin) / turn * 1e3)
            elif command == "peak":
                connection.send(peak(lib, program, mode == "captured"))
            elif command == "host":
                connection.send(host_time(lib, program))
            else:
                connection.send(kernels(program))
    except Exception as error:
        connection.send(RuntimeError(f"{side}: {type(error).__name__}: {error}"))


# --- in the process that measures ----------------------------------------------------------------


@dataclass
class Side:
    """A process that trains one way, and what it measured."""

    name: str
    samples: list[float] = field(default_factory=list)
    peak: float = 0.0
    host: float = 0.0
    kernels: list[tuple[str, int, float]] = field(default_factory=list)

    def start(self, subject: str) -> None:
        """Begin to build the program; ``receive`` waits for it."""
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, subject, self.name))
        self.process.start()
        theirs.close()

    def receive(self) -> Any:
        """The next answer."""
        answer = self.connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, command: str) -> Any:
        """Send a command and wait for its answer."""
        self.connection.send(command)
        return self.receive()

    def stop(self) -> None:
        """End the process."""
        self.connection.close()
        self.process.terminate()
        self.process.join()


def measure(subject: Subject, names: list[str], rounds: int, failed: list[str]) -> dict[str, Side]:
    """All sides of a program; one that fails says so, is left out, and is added to `failed`."""
    sides = [Side(name) for name in names]
    for side in sides:
        side.start(subject.name)
    alive = []
    for side in sides:
        try:
            side.receive()
            alive.append(side)
        except (RuntimeError, EOFError) as error:
            print(f"{subject.name}: {error}")
            failed.append(f"{subject.name}, {side.name}")
    for number in progress(rounds):
        for side in alive if number % 2 else reversed(alive):
            side.samples.append(side.ask("turn"))
    for side in alive:
        side.peak, side.host = side.ask("peak"), side.ask("host")
        try:
            side.kernels = side.ask("kernels")
        except (RuntimeError, EOFError) as error:
            print(f"{subject.name}: no profile: {error}")
    for side in sides:
        side.stop()
    return {side.name: side for side in alive}


def rows_of(subject: Subject, sides: dict[str, Side]) -> list[Row]:
    """The figures that have a bound."""
    rows = []
    for (one, other), bound in subject.bounds.items():
        if one in sides and other in sides:
            row = Row(f"{subject.name}, {one} / {other}", bound, "ms")
            row.ours, row.peer = sides[one].samples, sides[other].samples
            rows.append(row)
    for one, other in (EAGER, CAPTURED):
        if one in sides and other in sides:
            row = Row(f"{subject.name}, peak memory, {one.split()[1]}", subject.memory, "MiB")
            row.ours, row.peer = [sides[one].peak], [sides[other].peak]
            rows.append(row)
    return rows


def summary(subject: Subject, sides: dict[str, Side]) -> None:
    """Print what each side takes for a step."""
    workload = subject.build()
    print(
        f"\n{subject.name:24} {'ms':>8} {workload.unit + '/s':>12} {'MFU':>6} {'MiB':>8} "
        f"{'kernels':>8} {'host ms':>8}"
    )
    for side in sides.values():
        seconds = statistics.median(side.samples) / 1e3
        use = workload.flops / seconds / PEAK_RATE[workload.precision]
        number = sum(count for _, count, _ in side.kernels)
        print(
            f"  {side.name:22} {seconds * 1e3:8.2f} {workload.items / seconds:12,.0f} {use:6.1%} "
            f"{side.peak:8,.0f} {number:8} {side.host:8.2f}"
        )


def profile(side: Side, lines: int) -> None:
    """Print the costliest kernels of a side."""
    total = sum(time for *_, time in side.kernels)
    print(f"\n{side.name}: {total:,.0f} us in {sum(n for _, n, _ in side.kernels)} kernels")
    for name, number, microseconds in side.kernels[:lines]:
        print(f"{microseconds:10,.0f} us {number:5}  {name[:100]}")


def main(arguments: list[str]) -> None:
    """``python -m bench train --device cuda``."""
    parser = argparse.ArgumentParser(
        prog="python -m bench train --device cuda", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", help="the programs whose name contains one of these")
    parser.add_argument("--sides", nargs="*", default=list(SIDES), help="such as 'ours eager'")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="print N kernels")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    failed: list[str] = []
    for subject in SUBJECTS:
        if options.only and not any(part in subject.name for part in options.only):
            continue
        sides = measure(subject, options.sides, options.rounds, failed)
        summary(subject, sides)
        if options.profile:
            for side in sides.values():
                profile(side, options.profile)
        rows += rows_of(subject, sides)
    if rows:
        print()
        show(rows)
    if options.json:
        write(options.json, "train", rows, rounds=options.rounds)
    ours = [name for name in failed if ", ours" in name]
    if ours:
        raise SystemExit(f"failed: {'; '.join(ours)}")
