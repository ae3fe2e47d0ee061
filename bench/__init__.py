"""Benchmarks: ours and PyTorch in one run, interleaved. ``python -m bench SUBJECT``."""
