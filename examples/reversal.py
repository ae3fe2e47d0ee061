"""Train a small transformer to write sequences backwards.

    python examples/reversal.py
    python examples/reversal.py --device cuda --graph

An example is a random sequence, a separator, and the sequence again from its end. The model is a
GPT; only what it writes after the separator counts. The run ends with the share of held-out
sequences' symbols that it gets right when every symbol follows those it wrote itself.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

import minigpt
import numpy as np
from training import Run, checkpoint_path, command_line, resume, train_step

__all__ = ["build_model", "main", "train_step"]

IGNORED = -100  # cross entropy leaves these targets out


@dataclass
class Config:
    """The size of the task and of the model; the last symbol is the separator."""

    vocab: int = 36
    length: int = 20
    dim: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0


def build_model(lib: Any, config: Config) -> Any:
    """A GPT over the symbols: (batch, 2 * length) to (batch, 2 * length, vocab)."""
    sizes = minigpt.Config(
        vocab=config.vocab,
        context=2 * config.length,
        dim=config.dim,
        layers=config.layers,
        heads=config.heads,
        dropout=config.dropout,
    )
    return minigpt.build_model(lib, sizes)


class Sequences:
    """Random sequences and their reversals. Validation draws from other seeds than training."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def batch(self, training: bool, size: int, *seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(size, 2 * length) symbols, and what follows each, where that is to be predicted."""
        length, separator = self.config.length, self.config.vocab - 1
        random = np.random.default_rng((int(training), *seed))
        forward = random.integers(0, separator, (size, length))
        middle = np.full((size, 1), separator)
        whole = np.concatenate([forward, middle, forward[:, ::-1]], axis=1)
        targets = whole[:, 1:].copy()
        targets[:, :length] = IGNORED
        return np.ascontiguousarray(whole[:, :-1]), targets


def accuracy(run: Run, data: Sequences, batches: int) -> float:
    """The share of symbols written right, each after the symbols the model wrote before it."""
    length = data.config.length
    right = total = 0
    run.model.eval()
    with run.lib.no_grad():
        for number in range(batches):
            inputs, targets = data.batch(False, run.options.batch, 1, number)
            tokens = run.lib.from_numpy(inputs).to(run.device)
            for place in range(length, 2 * length):
                written = run.model(tokens[:, : place + 1])[:, -1].argmax(-1)
                right += int((written.cpu().numpy() == targets[:, place]).sum())
                total += len(targets)
                if place + 1 < 2 * length:
                    tokens[:, place + 1] = written
    run.model.train()
    return right / total


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__.split("\n\n")[0], "reversal-out", steps=600, batch=128, lr=1e-3)
    for name in ("vocab", "length", "dim", "layers", "heads"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Config, name))
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run as the command line says; returns the results."""
    import vibetensor as vt

    options = parse(arguments)
    state = resume(vt, options)
    sizes = ("vocab", "length", "dim", "layers", "heads")
    config = Config(**{name: getattr(options, name) for name in (*sizes, "dropout")})
    data = Sequences(config)
    run = Run(vt, options, lambda: build_model(vt, config), data, sizes)
    if state is not None:
        run.restore(state)
    run.train(2 * config.length, "tokens")
    plot = run.plot("Sequence reversal", "loss (nats per symbol)")
    results = run.results()
    results["accuracy"] = accuracy(run, data, 4)
    print(
        f"{results['accuracy']:.2%} of the symbols of held-out sequences are right; "
        f"see {plot} and {checkpoint_path(options.out)}"
    )
    run.write(results)
    return results


if __name__ == "__main__":
    main()
