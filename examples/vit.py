"""Train a vision transformer.

    python examples/vit.py                                 # scikit-learn's digits
    python examples/vit.py --cifar10 cifar-10-batches-py   # CIFAR-10, from its unpacked folder

Images are cut into patches by a view and one matrix product; class tokens are put in front, and
their mean is classified. Dosovitskiy et al., arXiv 2010.11929. On the GPU and with CIFAR-10 the
model is the full one (dim 256, 6 layers, 8 heads); on the CPU the digits train a smaller one.
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from training import (
    Run,
    checkpoint_path,
    command_line,
    pick_device,
    resume,
    train_step,
)
from transformer import build_block, initialise, run_blocks

__all__ = ["build_model", "main", "train_step"]


@dataclass
class Config:
    """The size of images and model."""

    side: int = 32
    channels: int = 3
    classes: int = 10
    patch: int = 4
    class_tokens: int = 16
    dim: int = 256
    layers: int = 6
    heads: int = 8
    dropout: float = 0.1


def build_model(lib: Any, config: Config) -> Any:
    """A vision transformer: (batch, channels, side, side) to (batch, classes)."""
    nn = lib.nn
    across = config.side // config.patch
    patch_size = config.channels * config.patch**2

    class ViT(nn.Module):  # type: ignore[name-defined]
        """Images in, the logits of the classes out."""

        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Linear(patch_size, config.dim)
            self.class_tokens = nn.Parameter(lib.zeros(1, config.class_tokens, config.dim))
            self.positions = nn.Parameter(lib.zeros(1, across**2, config.dim))
            self.dropout = nn.Dropout(config.dropout)
            self.blocks = nn.ModuleList(
                build_block(lib, config.dim, config.heads, config.dropout, causal=False)
                for _ in range(config.layers)
            )
            self.norm = nn.LayerNorm(config.dim)
            self.head = nn.Linear(config.dim, config.classes)
            initialise(lib, self, config.layers)

        def forward(self, images: Any) -> Any:
            batch, size = images.shape[0], config.patch
            tiles = images.view(batch, config.channels, across, size, across, size)
            tiles = tiles.permute(0, 2, 4, 1, 3, 5).reshape(batch, across**2, patch_size)
            x = self.dropout(self.patches(tiles) + self.positions)
            x = lib.cat([self.class_tokens.expand(batch, -1, -1), x], dim=1)
            x = run_blocks(self.blocks, self.norm, x)
            return self.head(x[:, : config.class_tokens].mean(1))

    return ViT()


class Images:
    """Labelled images, scaled to mean 0 and deviation 1, in two parts."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, training: int, dtype: str) -> None:
        images = images.astype(np.float32)
        images = (images - images[:training].mean()) / images[:training].std()
        self.images = images.astype(np.float64 if dtype == "float64" else np.float32)
        self.labels = labels.astype(np.int64)
        self.parts = {True: np.arange(training), False: np.arange(training, len(labels))}

    def batch(self, training: bool, size: int, *seed: int) -> tuple[np.ndarray, np.ndarray]:
        """(size, channels, side, side) images and (size,) labels."""
        chosen = np.random.default_rng(seed).choice(self.parts[training], size)
        return self.images[chosen], self.labels[chosen]


def digits(dtype: str) -> Images:
    """1,797 handwritten digits of 8 by 8 pixels, in an order that is always the same."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return Images(images.reshape(-1, 1, 8, 8)[order], labels[order], 1500, dtype)


def cifar10(folder: str, dtype: str) -> Images:
    """Photographs of 32 by 32 pixels: 50,000 in ``data_batch_1`` to ``data_batch_5``, 10,000 in
    ``test_batch``."""
    images, labels = [], []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        with open(Path(folder) / name, "rb") as file:
            # The format of the data set is a pickle; only run this on files you trust.
            part = pickle.load(file, encoding="bytes")
        images.append(part[b"data"].reshape(-1, 3, 32, 32))
        labels.append(np.array(part[b"labels"]))
    training = sum(map(len, labels[:-1]))
    return Images(np.concatenate(images), np.concatenate(labels), training, dtype)


def accuracy(run: Run, data: Images) -> float:
    """The share of the validation images that are classified right."""
    chosen, right = data.parts[False], 0
    run.model.eval()
    with run.lib.no_grad():
        for begin in range(0, len(chosen), 256):
            part = chosen[begin : begin + 256]
            images = run.lib.from_numpy(data.images[part]).to(run.device)
            found = run.model(images).argmax(-1).cpu().numpy()
            right += int((found == data.labels[part]).sum())
    run.model.train()
    return right / len(chosen)


SIZES = ("cifar10", "patch", "class_tokens", "dim", "layers", "heads")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = command_line(
        __doc__.split("\n\n")[0], "vit-out", steps=1000, batch=64, lr=1e-3, dropout=0.1
    )
    add = parser.add_argument
    add(
        "--cifar10",
        metavar="FOLDER",
        help="the unpacked CIFAR-10; scikit-learn's digits if left out",
    )
    add("--patch", type=int, help="pixels; 4, or 2 for the digits")
    add("--class-tokens", type=int, help="16, or 1 for the digits on the CPU")
    add("--dim", type=int, help="256, or 64 on the CPU")
    add("--layers", type=int, help="6, or 3 on the CPU")
    add("--heads", type=int, help="8, or 4 on the CPU")
    return parser.parse_args(arguments)


def choose_sizes(options: argparse.Namespace, device: str) -> None:
    """Sizes that were not given: those of the device and of the images."""
    small = device == "cpu" and not options.cifar10
    sizes = {
        "patch": 4 if options.cifar10 else 2,
        "class_tokens": 1 if small else 16,
        "dim": 64 if small else 256,
        "layers": 3 if small else 6,
        "heads": 4 if small else 8,
    }
    for name, value in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, value)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Run as the command line says; returns the results."""
    import vibetensor as vt

    options = parse(arguments)
    state = resume(vt, options)
    choose_sizes(options, pick_device(vt, options.device))
    data = cifar10(options.cifar10, options.dtype) if options.cifar10 else digits(options.dtype)
    _, channels, side, _ = data.images.shape
    config = Config(
        side=side,
        channels=channels,
        dropout=options.dropout,
        **{name: getattr(options, name) for name in SIZES[1:]},
    )
    run = Run(vt, options, lambda: build_model(vt, config), data, SIZES)
    if state is not None:
        run.restore(state)
    run.train(1, "images")
    plot = run.plot("Vision transformer", "loss (nats per image)")
    results = run.results()
    results["accuracy"] = accuracy(run, data)
    print(
        f"{results['accuracy']:.2%} of the validation images are classified right; "
        f"see {plot} and {checkpoint_path(options.out)}"
    )
    run.write(results)
    return results


if __name__ == "__main__":
    main()
