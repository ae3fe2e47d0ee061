"""``python -m bench SUBJECT``: dispatch to one module per subject."""

from __future__ import annotations

import sys

from . import overhead, train

SUBJECTS = {"overhead": overhead.main, "train": train.main}


def main() -> int:
    """Run the subject that the command line names."""
    if len(sys.argv) < 2 or sys.argv[1] not in SUBJECTS:
        print(f"usage: python -m bench {{{','.join(SUBJECTS)}}} [options]", file=sys.stderr)
        return 2
    SUBJECTS[sys.argv[1]](sys.argv[2:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
