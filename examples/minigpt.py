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
import json
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Config:
    """The size of the model."""

    vocab: int = 256
    context: int = 64
    dim: int = 96
    layers: int = 3
    heads: int = 3
    dropout: float = 0.0


def build_model(lib: Any, config: Config) -> Any:
    """A GPT made of ``lib``'s modules, with freshly drawn weights."""
    nn, F = lib.nn, lib.nn.functional

    class Attention(nn.Module):  # type: ignore[name-defined]
        """Causal self-attention: every position looks at itself and at those before it."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(config.dim, 3 * config.dim)
            self.out = nn.Linear(config.dim, config.dim)

        def forward(self, x: Any) -> Any:
            batch, length, dim = x.shape
            q, k, v = (
                part.view(batch, length, config.heads, -1).transpose(1, 2)
                for part in self.qkv(x).split(dim, dim=2)
            )
            dropout = config.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
            return self.out(mixed.transpose(1, 2).reshape(batch, length, dim))

    class Block(nn.Module):  # type: ignore[name-defined]
        """Attention between positions, then a network at each position; both add to the input."""

        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(config.dim)
            self.attention = Attention()
            self.norm2 = nn.LayerNorm(config.dim)
            self.mlp = nn.Sequential(
                nn.Linear(config.dim, 4 * config.dim),
                nn.GELU(approximate="tanh"),
                nn.Linear(4 * config.dim, config.dim),
            )
            self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()

        def forward(self, x: Any) -> Any:
            x = x + self.dropout(self.attention(self.norm1(x)))
            return x + self.dropout(self.mlp(self.norm2(x)))

    class GPT(nn.Module):  # type: ignore[name-defined]
        """Bytes in, the logits of the next byte out: (batch, length) to (batch, length, vocab)."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(config.vocab, config.dim)
            self.positions = nn.Embedding(config.context, config.dim)
            self.blocks = nn.ModuleList([Block() for _ in range(config.layers)])
            self.norm = nn.LayerNorm(config.dim)
            self.head = nn.Linear(config.dim, config.vocab, bias=False)
            for name, parameter in self.named_parameters():
                if name.endswith(("out.weight", "mlp.2.weight")):
                    # What is added to the residual stream in every layer starts smaller.
                    nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.layers))
                elif parameter.dim() == 2:
                    nn.init.normal_(parameter, std=0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(parameter)

        def forward(self, tokens: Any) -> Any:
            positions = self.positions.weight[: tokens.shape[1]]
            x = self.tokens(tokens) + positions
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x))

    return GPT()


def build_optimizer(lib: Any, model: Any, lr: float, weight_decay: float = 0.1) -> Any:
    """AdamW that decays matrices, and not biases and norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return lib.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))


def build_schedule(lib: Any, optimizer: Any, lr: float, warmup: int, steps: int) -> Any:
    """A linear rise over ``warmup`` steps, then half a cosine down to a tenth of the rate."""
    schedules = lib.optim.lr_scheduler
    rise = schedules.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup)
    fall = schedules.CosineAnnealingLR(optimizer, max(1, steps - warmup), eta_min=lr / 10)
    return schedules.SequentialLR(optimizer, [rise, fall], milestones=[warmup])


def compute_loss(lib: Any, model: Any, tokens: Any, targets: Any) -> Any:
    """The mean cross entropy of the next byte, in nats."""
    logits = model(tokens)
    return lib.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    )


def train_step(lib: Any, model: Any, optimizer: Any, tokens: Any, targets: Any) -> Any:
    """One update of the model; returns the loss before it, as a tensor."""
    optimizer.zero_grad()
    loss = compute_loss(lib, model, tokens, targets)
    loss.backward()
    lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()


class Text:
    """The bytes of a text, cut into a part for training and one for validation."""

    def __init__(self, raw: bytes, context: int) -> None:
        data = np.frombuffer(raw, dtype=np.uint8)
        cut = int(len(data) * 0.95)
        self.training, self.validation = data[:cut], data[cut:]
        self.context = context
        if len(self.validation) <= context:
            raise SystemExit(f"the text has {len(data)} bytes: too few for a context of {context}")

    def batch(self, part: np.ndarray, size: int, *seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows of a part and the bytes that follow; they depend on ``seed`` and nothing else."""
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


class Run:
    """A training run: everything that a checkpoint holds, and what is done with it."""

    def __init__(self, lib: Any, options: argparse.Namespace) -> None:
        self.lib, self.options = lib, options
        self.text = Text(
            Path(options.text).read_bytes() if options.text else default_text(), options.context
        )
        lib.manual_seed(options.seed)
        sizes = ("context", "dim", "layers", "heads", "dropout")
        config = Config(**{name: getattr(options, name) for name in sizes})
        self.dtype = getattr(lib, options.dtype)
        self.model = build_model(lib, config).to(device=options.device, dtype=self.dtype)
        self.optimizer = build_optimizer(lib, self.model, options.lr)
        self.schedule = build_schedule(
            lib, self.optimizer, options.lr, options.warmup, options.steps
        )
        self.step = 0
        self.seconds = 0.0
        self.losses: list[float] = []
        self.validation: list[tuple[int, float]] = []

    def tensors(self, arrays: tuple[np.ndarray, np.ndarray]) -> list[Any]:
        """The arrays as tensors on the device."""
        return [self.lib.from_numpy(array).to(self.options.device) for array in arrays]

    def validate(self) -> float:
        """The mean loss over the same few batches of the validation part every time."""
        self.model.eval()
        losses = []
        with self.lib.no_grad():
            for number in range(self.options.validation_batches):
                batch = self.text.batch(self.text.validation, self.options.batch, 0, number)
                losses.append(compute_loss(self.lib, self.model, *self.tensors(batch)).item())
        self.model.train()
        return sum(losses) / len(losses)

    def train(self) -> None:
        """Go on to the last step."""
        from tqdm import tqdm

        options = self.options
        per_step = options.batch * options.context
        self.model.train()
        stop = min(options.steps, options.stop_at or options.steps)
        with tqdm(total=options.steps, initial=self.step, unit="step") as bar:
            while self.step < stop:
                begin = time.perf_counter()
                # Named by seed and step, the batches need no state in the checkpoint.
                batch = self.text.batch(self.text.training, options.batch, options.seed, self.step)
                loss = train_step(self.lib, self.model, self.optimizer, *self.tensors(batch))
                self.schedule.step()
                self.step += 1
                self.losses.append(loss.item())
                self.seconds += time.perf_counter() - begin
                speed = per_step * len(self.losses) / self.seconds
                bar.set_postfix_str(f"loss {self.losses[-1]:.3f}, {speed:,.0f} tokens/s", False)
                bar.update()
                last = self.step == stop
                if last or self.step % options.validate_every == 0:
                    self.validation.append((self.step, self.validate()))
                    bar.write(f"step {self.step}: validation loss {self.validation[-1][1]:.4f}")
                if last or self.step % options.checkpoint_every == 0:
                    self.save()

    def save(self) -> None:
        """Write the checkpoint."""
        os.makedirs(self.options.out, exist_ok=True)
        state = {
            "options": {name: getattr(self.options, name) for name in KEPT},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": self.lib.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "validation": self.validation,
        }
        self.lib.save(state, checkpoint_path(self.options.out))

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what a checkpoint holds."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.lib.set_rng_state(state["random"])
        for name in ("step", "seconds", "losses", "validation"):
            setattr(self, name, state[name])

    def sample(self, length: int, temperature: float) -> str:
        """Text that the model writes, byte by byte, starting from a line's end."""
        generator = np.random.default_rng(self.options.seed)
        written = [ord("\n")]
        self.model.eval()
        with self.lib.no_grad():
            while len(written) <= length:
                window = np.array([written[-self.options.context :]], dtype=np.int64)
                tokens = self.lib.from_numpy(window).to(self.options.device)
                logits = self.model(tokens)[0, -1].float().cpu().numpy() / temperature
                chances = np.exp(logits - logits.max()).astype(np.float64)
                written.append(int(generator.choice(len(chances), p=chances / chances.sum())))
        return bytes(written[1:]).decode(errors="replace")

    def plot(self, path: str) -> None:
        """Write the losses of all steps as a picture."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(8, 5))
        axes.plot(range(1, self.step + 1), self.losses, linewidth=0.7, label="training")
        axes.plot(*zip(*self.validation, strict=True), marker="o", label="validation")
        axes.set(xlabel="step", ylabel="loss (nats per byte)", title="miniGPT")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=120, bbox_inches="tight")
        pyplot.close(figure)


# The options that make a run what it is: a resumed run takes them from its checkpoint.
KEPT = (
    "text", "dtype", "seed", "steps", "batch", "context", "dim", "layers", "heads", "dropout", "lr",
    "warmup", "validate_every", "validation_batches", "checkpoint_every",
)  # fmt: skip


def checkpoint_path(out: str) -> str:
    """Where a run keeps its checkpoint."""
    return os.path.join(out, "checkpoint.safetensors")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--text", help="a text file; the language reference of this Python if left out")
    add("--device", default="cpu", help="cpu or cuda")
    add("--dtype", default="float32", help="of the parameters: float32, float64, bfloat16")
    add("--seed", type=int, default=0)
    add("--steps", type=int, default=2500)
    add("--batch", type=int, default=16, help="windows per step")
    add("--context", type=int, default=Config.context, help="bytes per window")
    add("--dim", type=int, default=Config.dim)
    add("--layers", type=int, default=Config.layers)
    add("--heads", type=int, default=Config.heads)
    add("--dropout", type=float, default=Config.dropout)
    add("--lr", type=float, default=3e-3, help="the highest learning rate")
    add("--warmup", type=int, default=100, help="steps until that rate is reached")
    add("--validate-every", type=int, default=250)
    add("--validation-batches", type=int, default=8)
    add("--checkpoint-every", type=int, default=250)
    add("--out", default="minigpt-out", help="folder of checkpoint and plot")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--stop-at", type=int, help="stop at this step with a checkpoint, as if interrupted")
    add("--sample", type=int, default=2000, help="characters to write at the end")
    add("--temperature", type=float, default=0.8)
    add("--json", help="write the results to this file")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run as the command line says; returns the results."""
    import vibetensor as vt

    options = parse(arguments)
    state = vt.load(checkpoint_path(options.out)) if options.resume else None
    if state is not None:
        vars(options).update(state["options"])
    run = Run(vt, options)
    if state is not None:
        run.restore(state)
    count = sum(parameter.numel() for parameter in run.model.parameters())
    print(
        f"{count:,} parameters; {len(run.text.training):,} bytes to train on, "
        f"{len(run.text.validation):,} to validate"
    )
    run.train()
    plot = os.path.join(options.out, "loss.png")
    run.plot(plot)
    results = {
        **{name: getattr(options, name) for name in KEPT},
        "device": options.device,
        "parameters": count,
        "seconds": run.seconds,
        "tokens_per_second": options.batch * options.context * run.step / run.seconds,
        "losses": run.losses,
        "validation": run.validation,
    }
    print(
        f"validation loss {run.validation[-1][1]:.4f} after {run.step} steps, "
        f"{results['tokens_per_second']:,.0f} tokens/s; "
        f"see {plot} and {checkpoint_path(options.out)}"
    )
    if options.sample:
        text = run.sample(options.sample, options.temperature)
        known = set(words(bytes(run.text.training).decode(errors="replace")))
        found = words(text)
        results["sample"] = text
        results["known_words"] = sum(word in known for word in found) / max(1, len(found))
        print(f"\n{text}\n")
        print(
            f"{results['known_words']:.1%} of the {len(found)} words of three letters or more "
            "occur in the training text"
        )
    if options.json:
        Path(options.json).write_text(json.dumps(results))
    return results


if __name__ == "__main__":
    main()
