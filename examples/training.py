"""What the examples share: command line, optimizer, training loop, checkpoint, plot.

A run that was stopped and resumed ends with the same bits as one that was not: batches are named by
seed and step, and everything else is in the checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np


class Data(Protocol):
    """Examples to train on and to validate with."""

    def batch(self, training: bool, size: int, *seed: int) -> tuple[np.ndarray, ...]:
        """The arrays of a batch; they depend on ``seed`` and nothing else."""


# --- the pieces of a step ------------------------------------------------------------------------


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


# From so many classes on the logits are not held all at once, where the library can do without.
MANY_CLASSES = 4096


def compute_loss(lib: Any, model: Any, inputs: Any, targets: Any, low: Any = None) -> Any:
    """The mean cross entropy in nats; the model's last dimension is the classes. ``low``: the dtype
    of products, where they have one of their own."""
    F = lib.nn.functional
    with lib.autocast(inputs.device.type, low) if low else nullcontext():
        if hasattr(F, "linear_cross_entropy") and hasattr(model, "features"):
            weight = model.head.weight
            if weight.shape[0] >= MANY_CLASSES:
                rows = model.features(inputs).reshape(-1, weight.shape[1])
                return F.linear_cross_entropy(rows, weight, targets.reshape(-1))
        logits = model(inputs)
        return F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1))


def train_step(
    lib: Any,
    model: Any,
    optimizer: Any,
    inputs: Any,
    targets: Any,
    low: Any = None,
    scaler: Any = None,
) -> Any:
    """One update of the model; returns the loss before it, as a tensor."""
    optimizer.zero_grad()
    loss = compute_loss(lib, model, inputs, targets, low)
    if scaler is None:
        loss.backward()
        lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    else:
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        lib.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    return loss.detach()


# --- the command line ----------------------------------------------------------------------------

LOW = ("bfloat16", "float16")

# The options that make a run what it is: a resumed run takes them from its checkpoint.
KEPT = (
    "dtype", "seed", "steps", "batch", "dropout", "lr", "warmup", "validate_every",
    "validation_batches", "checkpoint_every",
)  # fmt: skip


def command_line(description: str, out: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that all examples have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--device", help="cpu or cuda; the GPU if there is one")
    add(
        "--dtype",
        default="float32",
        choices=["float32", "tf32", "float64", *LOW],
        help="of the numbers; with bfloat16 and float16 (autocast) of products alone",
    )
    add("--graph", action="store_true", help="capture the step as a CUDA graph and replay it")
    add("--seed", type=int, default=0)
    add("--steps", type=int, default=defaults["steps"])
    add("--batch", type=int, default=defaults["batch"], help="examples per step")
    add("--dropout", type=float, default=defaults.get("dropout", 0.0))
    add("--lr", type=float, default=defaults["lr"], help="the highest learning rate")
    add("--warmup", type=int, default=100, help="steps until that rate is reached")
    add("--validate-every", type=int, default=250)
    add("--validation-batches", type=int, default=8)
    add("--checkpoint-every", type=int, default=250)
    add("--out", default=out, help="folder of checkpoint and plot")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    add("--stop-at", type=int, help="stop at this step with a checkpoint, as if interrupted")
    add("--json", help="write the results to this file")
    return parser


def pick_device(lib: Any, name: str | None) -> str:
    """The device asked for; without one, the GPU where there is one."""
    return name or ("cuda" if lib.cuda.is_available() else "cpu")


def checkpoint_path(out: str) -> str:
    """Where a run keeps its checkpoint."""
    return os.path.join(out, "checkpoint.safetensors")


def resume(lib: Any, options: argparse.Namespace) -> dict[str, Any] | None:
    """The checkpoint of the run that ``options`` ask to go on with; its options replace theirs."""
    if not options.resume:
        return None
    state = lib.load(checkpoint_path(options.out))
    vars(options).update(state["options"])
    return state


# --- a run ---------------------------------------------------------------------------------------


class Run:
    """A training run: everything that a checkpoint holds, and what is done with it."""

    def __init__(
        self,
        lib: Any,
        options: argparse.Namespace,
        build_model: Callable[[], Any],
        data: Data,
        kept: tuple[str, ...] = (),
    ) -> None:
        self.lib, self.options, self.data = lib, options, data
        self.kept = (*KEPT, *kept)
        self.device = pick_device(lib, options.device)
        if options.dtype == "tf32":
            lib.set_float32_matmul_precision("high")
        dtype = lib.float64 if options.dtype == "float64" else lib.float32
        self.low = getattr(lib, options.dtype) if options.dtype in LOW else None
        # Small gradients vanish in float16, but not in bfloat16.
        self.scaler = lib.amp.GradScaler(self.device) if options.dtype == "float16" else None
        lib.manual_seed(options.seed)
        self.model = build_model().to(device=self.device, dtype=dtype)
        self.optimizer = build_optimizer(lib, self.model, options.lr)
        self.schedule = build_schedule(
            lib, self.optimizer, options.lr, options.warmup, options.steps
        )
        self.update = self.eager_update
        if options.graph:
            if self.device == "cpu":
                raise SystemExit("--graph needs --device cuda")
            self.update = lib.cuda.graphed(self.eager_update)
        self.step = 0
        self.seconds = 0.0
        self.losses: list[float] = []
        self.validation: list[tuple[int, float]] = []

    def eager_update(self, inputs: Any, targets: Any) -> Any:
        """One step of training."""
        return train_step(
            self.lib, self.model, self.optimizer, inputs, targets, self.low, self.scaler
        )

    def tensors(self, arrays: tuple[np.ndarray, ...]) -> list[Any]:
        """The arrays as tensors on the device."""
        return [self.lib.from_numpy(array).to(self.device) for array in arrays]

    def validate(self) -> float:
        """The mean loss over the same few batches of the validation part every time."""
        self.model.eval()
        losses = []
        with self.lib.no_grad():
            for number in range(self.options.validation_batches):
                batch = self.data.batch(False, self.options.batch, 0, number)
                inputs, targets = self.tensors(batch)
                losses.append(compute_loss(self.lib, self.model, inputs, targets, self.low).item())
        self.model.train()
        return sum(losses) / len(losses)

    def train(self, per_example: int = 1, unit: str = "examples") -> None:
        """Go on to the last step. ``per_example``: how many ``unit`` one example counts."""
        from tqdm import tqdm

        options = self.options
        per_step = options.batch * per_example
        self.model.train()
        stop = min(options.steps, options.stop_at or options.steps)
        with tqdm(total=options.steps, initial=self.step, unit="step") as bar:
            while self.step < stop:
                begin = time.perf_counter()
                batch = self.data.batch(True, options.batch, options.seed, self.step)
                loss = self.update(*self.tensors(batch))
                self.schedule.step()
                self.step += 1
                self.losses.append(loss.item())
                self.seconds += time.perf_counter() - begin
                speed = per_step * len(self.losses) / self.seconds
                bar.set_postfix_str(f"loss {self.losses[-1]:.3f}, {speed:,.0f} {unit}/s", False)
                bar.update()
                last = self.step == stop
                if last or self.step % options.validate_every == 0:
                    self.validation.append((self.step, self.validate()))
                    bar.write(f"step {self.step}: validation loss {self.validation[-1][1]:.4f}")
                if last or self.step % options.checkpoint_every == 0:
                    self.save()

    def generators(self) -> dict[str, Any]:
        """The states of the random number generators the run draws from."""
        states = {"random": self.lib.get_rng_state()}
        if self.device != "cpu":
            states["random_cuda"] = self.lib.cuda.get_rng_state()
        return states

    def save(self) -> None:
        """Write the checkpoint."""
        os.makedirs(self.options.out, exist_ok=True)
        state = {
            "options": {name: getattr(self.options, name) for name in self.kept},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            **self.generators(),
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
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.lib.set_rng_state(state["random"])
        if self.device != "cpu" and "random_cuda" in state:
            self.lib.cuda.set_rng_state(state["random_cuda"])
        for name in ("step", "seconds", "losses", "validation"):
            setattr(self, name, state[name])

    def plot(self, title: str, ylabel: str) -> str:
        """Write the losses of all steps as a picture; returns its path."""
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        path = os.path.join(self.options.out, "loss.png")
        figure, axes = pyplot.subplots(figsize=(8, 5))
        axes.plot(range(1, self.step + 1), self.losses, linewidth=0.7, label="training")
        axes.plot(*zip(*self.validation, strict=True), marker="o", label="validation")
        axes.set(xlabel="step", ylabel=ylabel, title=title)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=120, bbox_inches="tight")
        pyplot.close(figure)
        return path

    def results(self, per_example: int = 1) -> dict[str, Any]:
        """What ``--json`` writes."""
        examples = self.options.batch * self.step
        return {
            **{name: getattr(self.options, name) for name in self.kept},
            "device": self.device,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "seconds": self.seconds,
            "examples_per_second": examples / self.seconds,
            "losses": self.losses,
            "validation": self.validation,
        }

    def write(self, results: dict[str, Any]) -> None:
        """Write the results where ``--json`` says."""
        if self.options.json:
            Path(self.options.json).write_text(json.dumps(results))
