# SPDX-License-Identifier: Apache-2.0
"""The `qwen3vl` command: ground a picture, serve or export engines, evaluate, train.

Knows which commands there are (`commands/`, a file each) and how a failure ends: one line on
stderr, exit code 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import cast

from .commands import (
    bench,
    build,
    doctor,
    evaluate,
    export,
    ground,
    random_checkpoint,
    serve,
    train_tiny,
)
from .commands.standard_output import exit_code_of
from .errors import Qwen3VLError

COMMANDS = (
    ground,
    serve,
    doctor,
    export,
    build,
    bench,
    evaluate,
    train_tiny,
    random_checkpoint,
)
EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked."""
    return exit_code_of(lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="qwen3vl", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    options = parser.parse_args(arguments)
    run = cast(Callable[[argparse.Namespace], int], options.run)
    try:
        return run(options)
    except Qwen3VLError as error:
        print(f"qwen3vl {options.command}: {error}", file=sys.stderr)
        return EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
