"""The command line: parse before torch is imported, call one function below, print."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `convattn`; returns 0 (ok), 1 (the work failed) or 2 (wrong arguments)."""
    from convattn.cli.parser import parse

    command, options = parse(sys.argv[1:] if arguments is None else list(arguments))
    from convattn.cli.run import run

    return run(command, options)


if __name__ == "__main__":
    sys.exit(main())
