"""Train a small byte-level GPT and let it write.

    python examples/minigpt.py                          # English prose that comes with Python
    python examples/minigpt.py --text my.txt --steps 5000 --dim 256 --layers 6
    python examples/minigpt.py --resume                 # go on where the last run stopped

The run shows a progress bar, prints the validation loss, writes a checkpoint and a plot of the
losses to ``--out``, and ends with a sample of text and the share of its words that occur in the
training text. A run that was stopped and resumed ends with the same bits as one that was not.

``build_model`` and ``train_step`` take the library as an argument, so that benchmarks and tests can
build the same model with another library of the same interface.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from training import (
    Run,
    build_optimizer,
    build_schedule,
    checkpoint_path,
    command_line,
    resume,
    train_step,
)
from transformer import build_block, embed, initialise, run_blocks

__all__ = ["build_model", "build_optimizer", "build_schedule", "main", "train_step"]


@dataclass
class Config:
    """The size of the model."""

    vocab: int = 256
    context: int = 64
    dim: int = 96
    layers: int = 3
    heads: int = 3
    dropout: float = 0.0
    tied: bool = False  # the head's weight is the embedding of the tokens


def build_model(lib: Any, config: Config) -> Any:
    """A GPT made of ``lib``'s modules, with freshly drawn weights."""
    nn = lib.nn

    class GPT(nn.Module):  # type: ignore[name-defined]
        """Bytes in, the logits of the next byte out: (batch, length) to (batch, length, vocab)."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(config.vocab, config.dim)
            self.positions = nn.Embedding(config.context, config.dim)
            self.blocks = nn.ModuleList(
                build_block(lib, config.dim, config.heads, config.dropout, causal=True)
                for _ in range(config.layers)
            )
            self.norm = nn.LayerNorm(config.dim)
            self.head = nn.Linear(config.dim, config.vocab, bias=False)
            initialise(lib, self, config.layers)
            if config.tied:
                self.head.weight = self.tokens.weight

        def features(self, tokens: Any) -> Any:
            """What the head is given: (batch, length, dim)."""
            x = embed(lib, tokens, self.tokens.weight, self.positions.weight)
            return run_blocks(self.blocks, self.norm, x)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.features(tokens))

    return GPT()


class Text:
    """The bytes of a text, cut into a part for training and one for validation."""

    def __init__(self, raw: bytes, context: int) -> None:
        data = np.frombuffer(raw, dtype=np.uint8)
        cut = int(len(data) * 0.95)
        self.training, self.validation = data[:cut], data[cut:]
        self.context = context
        if len(self.validation) <= context:
            raise SystemExit(f"the text has {len(data)} bytes: too few for a context of {context}")

    def batch(self, training: bool, size: int, *seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows of a part and the bytes that follow."""
        part = self.training if training else self.validation
        starts = np.random.default_rng(seed).integers(0, len(part) - self.context, size)
        windows = part[starts[:, None] + np.arange(self.context + 1)].astype(np.int64)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def default_text() -> bytes:
    """The language reference that every CPython carries for its ``help()``."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics.values()).encode()


def words(text: str) -> list[str]:
    """The words of three letters or more, in lower case."""
    return re.findall(r"[a-z]{3,}", text.lower())


def sample(run: Run, length: int, temperature: float) -> str:
    """Text that the model writes, byte by byte, starting from a line's end."""
    generator = np.random.default_rng(run.options.seed)
    written = [ord("\n")]
    run.model.eval()
    with run.lib.no_grad():
        while len(written) <= length:
            window = np.array([written[-run.options.context :]], dtype=np.int64)
            tokens = run.lib.from_numpy(window).to(run.device)
            logits = run.model(tokens)[0, -1].float().cpu().numpy() / temperature
            chances = np.exp(logits - logits.max()).astype(np.float64)
            written.append(int(generator.choice(len(chances), p=chances / chances.sum())))
    return bytes(written[1:]).decode(errors="replace")


SIZES = ("text", "context", "dim", "layers", "heads")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(__doc__.split("\n\n")[0], "minigpt-out", steps=2500, batch=16, lr=3e-3)
    add = parser.add_argument
    add("--text", help="a text file; the language reference of this Python if left out")
    add("--context", type=int, default=Config.context, help="bytes per window")
    add("--dim", type=int, default=Config.dim)
    add("--layers", type=int, default=Config.layers)
    add("--heads", type=int, default=Config.heads)
    add("--sample", type=int, default=2000, help="characters to write at the end")
    add("--temperature", type=float, default=0.8)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run as the command line says; returns the results."""
    import vibetensor as vt

    options = parse(arguments)
    state = resume(vt, options)
    text = Text(
        Path(options.text).read_bytes() if options.text else default_text(), options.context
    )
    config = Config(
        **{
            name: getattr(options, name)
            for name in ("context", "dim", "layers", "heads", "dropout")
        }
    )
    run = Run(vt, options, lambda: build_model(vt, config), text, SIZES)
    if state is not None:
        run.restore(state)
    count = sum(parameter.numel() for parameter in run.model.parameters())
    print(
        f"{count:,} parameters on {run.device}; {len(text.training):,} bytes to train on, "
        f"{len(text.validation):,} to validate"
    )
    run.train(options.context, "tokens")
    plot = run.plot("miniGPT", "loss (nats per byte)")
    results = run.results()
    results["tokens_per_second"] = results["examples_per_second"] * options.context
    print(
        f"validation loss {run.validation[-1][1]:.4f} after {run.step} steps, "
        f"{results['tokens_per_second']:,.0f} tokens/s; "
        f"see {plot} and {checkpoint_path(options.out)}"
    )
    if options.sample:
        written = sample(run, options.sample, options.temperature)
        known = set(words(bytes(text.training).decode(errors="replace")))
        found = words(written)
        results["sample"] = written
        results["known_words"] = sum(word in known for word in found) / max(1, len(found))
        print(f"\n{written}\n")
        print(
            f"{results['known_words']:.1%} of the {len(found)} words of three letters or more "
            "occur in the training text"
        )
    run.write(results)
    return results


if __name__ == "__main__":
    main()
