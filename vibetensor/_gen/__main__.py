"""``python -m vibetensor._gen show NAME``: prints the code generated for one operator."""
import argparse

from .family import operator_source
from .load import load


def main():
    parser = argparse.ArgumentParser(prog="python -m vibetensor._gen", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    show = commands.add_parser("show", help="print the code generated for one operator")
    show.add_argument("name")
    commands.add_parser("list", help="print every operator with its kind and place")
    arguments = parser.parse_args()
    ops = load().OPS
    if arguments.command == "list":
        for op in ops.values():
            print(f"{op.name:32} {op.kind:10} {op.where}")
    elif arguments.name in ops:
        print(operator_source(ops[arguments.name], ops))
    else:
        parser.error(f"no operator is called {arguments.name!r}")


if __name__ == "__main__":
    main()
