"""``python -m bench SUBJECT``: dispatch to one module per subject."""

from __future__ import annotations

import sys

from . import gpu_overhead, gpu_train, kernels, overhead, train, triton_launch

SUBJECTS = {
    "overhead": overhead.main,
    "train": train.main,
    "gpu_overhead": gpu_overhead.main,
    "kernels": kernels.main,
    "gpu_train": gpu_train.main,
    "triton_launch": triton_launch.main,
}


def main() -> int:
    """Run the subject that the command line names."""
    usage = f"usage: python -m bench {{{','.join(SUBJECTS)}}} [options]"
    if sys.argv[1:] and sys.argv[1] in ("-h", "--help"):
        print(usage)
        return 0
    if len(sys.argv) < 2 or sys.argv[1] not in SUBJECTS:
        print(usage, file=sys.stderr)
        return 2
    SUBJECTS[sys.argv[1]](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
