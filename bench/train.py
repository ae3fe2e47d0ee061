"""Whole training steps: on the GPU where there is one (``gpu_train``), or on the CPU (``cpu_train``)."""

from __future__ import annotations

import argparse

from . import cpu_train, gpu_train


def main(arguments: list[str]) -> None:
    """``python -m bench train``."""
    parser = argparse.ArgumentParser(prog="python -m bench train", add_help=False)
    parser.add_argument("--device", choices=["cpu", "cuda"])
    options, rest = parser.parse_known_args(arguments)
    device = options.device
    if device is None:
        import vibetensor

        device = "cuda" if vibetensor.cuda.is_available() else "cpu"
    (gpu_train if device == "cuda" else cpu_train).main(rest)
