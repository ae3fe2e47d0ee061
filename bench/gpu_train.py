"""Training steps on the GPU: reversal, miniGPT and ViT, eager and captured, and their peak memory.

Each library trains in a process of its own; the processes take turns on the GPU. A step is wall time
over a turn of steps with one synchronisation at its end.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

from .measure import Row, progress, show, write
from .workloads import WORKLOADS, Program

# The bounds on time of an eager and of a captured step, and on peak memory.
BOUNDS = {"reversal": (0.50, 1.2), "minigpt": (1.0, 1.2), "vit": (1.2, 1.2)}
MEMORY_BOUND = 1.15
TURN = 30


def peak(lib: Any, program: Program) -> int:
    """The most bytes allocated on the device in a step."""
    gc.collect()
    lib.cuda.synchronize()
    lib.cuda.reset_peak_memory_stats()
    program.run(2)
    return lib.cuda.max_memory_allocated()


def serve(connection: Connection, library: str, name: str, captured: bool) -> None:
    """Run the commands that arrive until the connection closes."""
    try:
        lib = importlib.import_module(library)
        program = Program(WORKLOADS[name](), lib, "cuda", captured)
        program.run(5)
        connection.send("ready")
        while (command := connection.recv()) != "stop":
            if command == "turn":
                begin = time.perf_counter()
                program.run(TURN)
                connection.send((time.perf_counter() - begin) / TURN)
            else:
                connection.send(peak(lib, program))
    except Exception as error:
        connection.send(RuntimeError(f"{library}: {type(error).__name__}: {error}"))


class Worker:
    """A process that trains with one library."""

    def __init__(self, library: str, name: str, captured: bool) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        arguments = (theirs, library, name, captured)
        self.process = context.Process(target=serve, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self.receive()

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
        self.connection.send("stop")
        self.process.join()


def measure(name: str, captured: bool, rounds: int) -> list[Row]:
    """The rows of one workload."""
    kind = "captured" if captured else "eager"
    workers = [Worker(library, name, captured) for library in ("vibetensor", "torch")]
    step = Row(f"{name}, {kind}: step", BOUNDS[name][captured], "ms")
    for number in progress(rounds):
        sides = list(zip(workers, (step.ours, step.peer), strict=True))
        for worker, samples in sides if number % 2 else reversed(sides):
            samples.append(worker.ask("turn") * 1e3)
    rows = [step]
    if not captured:
        memory = Row(f"{name}, {kind}: peak memory", MEMORY_BOUND, "MiB")
        for worker, samples in zip(workers, (memory.ours, memory.peer), strict=True):
            samples.append(worker.ask("peak") / 2**20)
        rows.append(memory)
    for worker in workers:
        worker.stop()
    return rows


def main(arguments: list[str]) -> None:
    """``python -m bench gpu_train``."""
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu_train", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--eager-only", action="store_true")
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for name in options.workloads:
        for captured in (False,) if options.eager_only else (False, True):
            try:
                rows += measure(name, captured, options.rounds)
            except (RuntimeError, EOFError) as error:
                print(f"{name}, {'captured' if captured else 'eager'}: {error}")
    if rows:
        show(rows)
    if options.json:
        write(options.json, "gpu_train", rows, rounds=options.rounds)
