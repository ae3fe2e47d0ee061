"""Training steps of the miniGPT: time and peak memory, at two sizes, on one thread and on two.

Each library trains in a process of its own, because two thread pools in one process disturb each
other; the processes take turns on the same processors.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

from .measure import Row, pin, progress, show, write
from .peak import peak_bytes
from .workloads import example

# The (name, bound on the time, sizes) of what is measured; None: the defaults of the example.
SIZES: list[tuple[str, float, dict[str, int] | None]] = [
    (
        "dim 64, 2 layers, T 64, B 8",
        0.70,
        {"dim": 64, "layers": 2, "heads": 4, "context": 64, "batch": 8},
    ),
    ("the example's default size", 1.0, None),
]
# Steps of one turn, after one that is not counted, since the other process had the caches.
TURN = 3


class Trainer:
    """A model of one library and the batch that it is trained on."""

    def __init__(self, library: str, sizes: dict[str, int] | None, threads: int) -> None:
        self.lib = importlib.import_module(library)
        self.lib.set_num_threads(threads)
        self.example = example("minigpt")
        options = vars(self.example.parse([]))
        options.update(sizes or {})
        config = self.example.Config(
            **{name: options[name] for name in ("context", "dim", "layers", "heads")}
        )
        self.lib.manual_seed(0)
        self.model = self.example.build_model(self.lib, config)
        self.optimizer = self.example.build_optimizer(self.lib, self.model, options["lr"])
        text = self.example.Text(self.example.default_text(), config.context)
        arrays = text.batch(True, options["batch"], 0, 0)
        # Copied, so that both libraries own (and count) the memory.
        self.batch = [self.lib.from_numpy(array).clone() for array in arrays]

    def step(self) -> None:
        """One update, including reading the loss."""
        loss = self.example.train_step(self.lib, self.model, self.optimizer, *self.batch)
        loss.item()

    def turn(self) -> list[float]:
        """The seconds of the counted steps of one turn."""
        self.step()
        taken = []
        for _ in range(TURN):
            begin = time.perf_counter()
            self.step()
            taken.append(time.perf_counter() - begin)
        return taken

    def peak(self) -> int:
        """Peak bytes of tensors alive in a step."""
        parameters = list(self.model.parameters())
        alive = [*self.batch, *parameters, *(p.grad for p in parameters if p.grad is not None)]
        for values in self.optimizer.state.values():
            alive += [value for value in values.values() if hasattr(value, "untyped_storage")]
        return peak_bytes(self.lib, self.step, alive)


def serve(connection: Connection, library: str, sizes: dict[str, int] | None, threads: int) -> None:
    """Run the commands that arrive until the connection closes."""
    pin(threads)
    trainer = Trainer(library, sizes, threads)
    trainer.turn()
    connection.send("ready")
    while (command := connection.recv()) != "stop":
        connection.send(trainer.turn() if command == "turn" else trainer.peak())


class Worker:
    """A process that trains with one library."""

    def __init__(self, library: str, sizes: dict[str, int] | None, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, library, sizes, threads), daemon=True
        )
        self.process.start()
        theirs.close()
        self.connection.recv()

    def ask(self, command: str) -> Any:
        """Send a command and wait for its answer."""
        self.connection.send(command)
        return self.connection.recv()

    def stop(self) -> None:
        """End the process."""
        self.connection.send("stop")
        self.process.join()


def measure(
    name: str, bound: float, sizes: dict[str, int] | None, threads: int, rounds: int
) -> list[Row]:
    """The rows of one size on one number of threads."""
    ours = Worker("vibetensor", sizes, threads)
    peer = Worker("torch", sizes, threads)
    step = Row(f"step, {name}, {threads} thread(s)", bound, "ms")
    for number in progress(rounds):
        sides = [(ours, step.ours), (peer, step.peer)]
        for worker, samples in sides if number % 2 else reversed(sides):
            samples += [seconds * 1e3 for seconds in worker.ask("turn")]
    memory = Row(f"peak memory, {name}, {threads} thread(s)", 1.0, "MiB")
    memory.ours.append(ours.ask("peak") / 2**20)
    memory.peer.append(peer.ask("peak") / 2**20)
    ours.stop()
    peer.stop()
    return [step, memory]


def main(arguments: list[str]) -> None:
    """``python -m bench train --device cpu``."""
    parser = argparse.ArgumentParser(
        prog="python -m bench train --device cpu", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--json", help="write the results to this file")
    options = parser.parse_args(arguments)
    rows = []
    for name, bound, sizes in SIZES:
        for threads in options.threads:
            rows += measure(name, bound, sizes, threads, options.rounds)
    show(rows)
    if options.json:
        write(options.json, "train", rows, rounds=options.rounds, threads=options.threads)
