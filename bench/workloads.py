"""The training programs, built with either library from the examples' own code."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np


def example(name: str) -> ModuleType:
    """A module of the examples folder."""
    folder = str(Path(__file__).parent.parent / "examples")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


@dataclass
class Workload:
    """A training program at one size."""

    name: str
    precision: str  # float32, tf32, float64 or bfloat16 (by autocast)
    build: Callable[[Any], Any]  # the model, from the library
    batch: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    items: int  # of a step
    unit: str
    flops: float  # of the matrix products of a step, forward and backward


def transformer_flops(
    batch: int, length: int, dim: int, layers: int, causal: bool, outside: float
) -> float:
    """Operations of a training step: 12 dim^2 weights a layer and position, two products of
    attention, and ``outside`` weights a position beside the layers. The backward is twice the forward.
    """
    weights = 12 * dim**2 * layers + outside
    attention = 4 * length * dim * layers * (0.5 if causal else 1)
    return 3 * batch * length * (2 * weights + attention)


def reversal(precision: str = "float32") -> Workload:
    """Sequence reversal: batch 128, 40 tokens, vocabulary 36, dim 128, 2 layers, 4 heads."""
    module = example("reversal")
    config = module.Config()
    data = module.Sequences(config)
    return Workload(
        f"reversal, {precision}",
        precision,
        lambda lib: module.build_model(lib, config),
        lambda random: data.batch(True, 128, int(random.integers(1 << 30))),
        128 * 40,
        "tokens",
        transformer_flops(128, 40, config.dim, config.layers, False, 36 * config.dim),
    )


def gpt(name: str, precision: str, batch: int, **sizes: Any) -> Workload:
    """A GPT on random tokens."""
    module = example("minigpt")
    config = module.Config(**sizes)
    vocab, context = config.vocab, config.context

    def tokens(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        drawn = random.integers(0, vocab, (batch, context + 1))
        return drawn[:, :-1].copy(), drawn[:, 1:].copy()

    return Workload(
        f"{name}, {precision}",
        precision,
        lambda lib: module.build_model(lib, config),
        tokens,
        batch * context,
        "tokens",
        transformer_flops(batch, context, config.dim, config.layers, True, vocab * config.dim),
    )


def minigpt(precision: str = "tf32") -> Workload:
    """miniGPT: batch 64, 128 tokens, vocabulary 4096, dim 256, 6 layers, 8 heads."""
    return gpt("miniGPT", precision, 64, vocab=4096, context=128, dim=256, layers=6, heads=8)


def gpt2(precision: str = "bfloat16", batch: int = 16) -> Workload:
    """GPT-2 124M: batch 16, 1024 tokens, vocabulary 50304, dim 768, 12 layers, 12 heads."""
    sizes = {"vocab": 50304, "context": 1024, "dim": 768, "layers": 12, "heads": 12}
    return gpt("GPT-2", precision, batch, **sizes, tied=True)


def vit(precision: str = "tf32", dropout: float = 0.1) -> Workload:
    """ViT: batch 256, 32x32 images, patch 4, 16 class tokens, dim 256, 6 layers, 8 heads."""
    module = example("vit")
    config = module.Config(dropout=dropout)
    kind = np.float64 if precision == "float64" else np.float32

    def batch(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        images = random.standard_normal((256, 3, 32, 32)).astype(kind)
        return images, random.integers(0, 10, 256)

    return Workload(
        f"ViT, {precision}",
        precision,
        lambda lib: module.build_model(lib, config),
        batch,
        256,
        "images",
        transformer_flops(256, 64 + 16, config.dim, config.layers, False, 48 * config.dim * 0.8),
    )


WORKLOADS = {"reversal": reversal, "minigpt": minigpt, "vit": vit, "gpt2": gpt2}


class Program:
    """A workload made with one library on one device, ready to step.

    ``mode`` is "eager", "compiled" (PyTorch only) or "captured".
    """

    def __init__(self, workload: Workload, lib: Any, device: str, mode: str = "eager") -> None:
        self.lib, self.device = lib, device
        training = example("training")
        lib.set_float32_matmul_precision("high" if workload.precision == "tf32" else "highest")
        lib.manual_seed(0)
        dtype = lib.float64 if workload.precision == "float64" else lib.float32
        self.model = workload.build(lib).to(device=device, dtype=dtype)
        self.optimizer = self._optimizer(training, mode)
        random = np.random.default_rng(0)
        self.batches = [
            [lib.from_numpy(array).to(device) for array in workload.batch(random)] for _ in range(4)
        ]
        self.count = 0
        model = lib.compile(self.model) if mode == "compiled" else self.model
        autocast = lib.bfloat16 if workload.precision == "bfloat16" else None

        def update(inputs: Any, targets: Any) -> Any:
            return training.train_step(lib, model, self.optimizer, inputs, targets, autocast)

        self.update: Callable[[Any, Any], Any] = update
        if mode == "captured":
            ours = lib.__name__ == "vibetensor"
            self.update = lib.cuda.graphed(update) if ours else captured_by_torch(update, self)

    def _optimizer(self, training: ModuleType, mode: str) -> Any:
        optimizer = training.build_optimizer(self.lib, self.model, 1e-3)
        if self.lib.__name__ == "torch" and self.device != "cpu":
            # The fastest that PyTorch offers.
            for group in optimizer.param_groups:
                group.update(fused=True, foreach=False, capturable=mode == "captured")
        return optimizer

    def step(self) -> Any:
        """One update on the next batch; returns the loss as a tensor."""
        self.count += 1
        return self.update(*self.batches[self.count % len(self.batches)])

    def run(self, steps: int) -> None:
        """Some steps, and one synchronisation at the end."""
        for _ in range(steps):
            self.step()
        if self.device != "cpu":
            self.lib.cuda.synchronize()


def captured_by_torch(update: Callable[[Any, Any], Any], program: Program) -> Callable[..., Any]:
    """PyTorch's own CUDA graph of the step, with the batch copied into static inputs."""
    torch = program.lib
    inputs, targets = (tensor.clone() for tensor in program.batches[0])
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            update(inputs, targets)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = update(inputs, targets)

    def replay(*batch: Any) -> Any:
        inputs.copy_(batch[0])
        targets.copy_(batch[1])
        graph.replay()
        return loss

    return replay
