# SPDX-License-Identifier: Apache-2.0
"""What the commands share: how one is declared, and the options that several of them take.

A command is a file with `add(commands)`, which declares its arguments, and a function that runs
it, whose docstring is its help and which returns the process's exit code. The workshop (torch,
exporters, Open3D rendering) is imported only inside the commands that need it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from ..errors import MissingDependency
from ..model.local_model import LocalModel
from ..runtime.loading import tiny_engine_directory
from ..runtime.providers import PROVIDERS

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

CHECKPOINT = Path("engines/tiny/checkpoint")  # of the tree one works in
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


class HelpWithDefaults(argparse.HelpFormatter):
    """Says the default of every option that has one, unless its own words do."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        words, default = action.help, action.default
        # Switches are off, and None is "not given".
        has_one = default != argparse.SUPPRESS and (bool(default) or type(default) is int)
        if not words or "default" in words or not has_one:
            return words
        shown = " ".join(map(str, default)) if isinstance(default, list) else f"{default}"
        return f"{words} (default: {shown.replace('%', '%%')})"


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A parser for the arguments of one more command."""
    parser = commands.add_parser(
        name, help=run.__doc__, description=run.__doc__, formatter_class=HelpWithDefaults
    )
    parser.set_defaults(run=run)
    return parser


def warn(options: argparse.Namespace, warnings: Iterable[str]) -> None:
    """Lines on stderr, each with the command's name before it."""
    for warning in warnings:
        print(f"qwen3vl {options.command}: {warning}", file=sys.stderr)


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Which engine, and how many threads it may take."""
    parser.add_argument(
        "--engines",
        type=Path,
        default=tiny_engine_directory(),
        help="engine directory; by default the tiny engine of this package",
    )
    parser.add_argument(
        "--threads", type=count, default=0, help="of the runtime; 0 means all cores"
    )


def add_running_options(parser: argparse.ArgumentParser) -> None:
    """Which engine, and how it runs: what `loaded_engine` goes by."""
    add_engine_options(parser)
    parser.add_argument(
        "--spinning", action="store_true", help="threads that wait keep their cores busy"
    )
    parser.add_argument(
        "--providers",
        nargs="+",
        metavar="NAME",
        help=f"ONNX Runtime's, in order: {', '.join(PROVIDERS)}; by default what is installed",
    )
    parser.add_argument(
        "--allow-fallback",
        action="store_true",
        help="run without a provider that does not start; by default that is an error",
    )


def add_picture_options(parser: argparse.ArgumentParser) -> None:
    """How large pictures are shown."""
    parser.add_argument(
        "--min-pixels",
        type=positive,
        metavar="AREA",
        help="smaller pictures are enlarged to this area; by default the checkpoint's",
    )
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="AREA",
        help="larger pictures are shrunk to this area: faster, and sees less; likewise",
    )


def loaded_engine(options: argparse.Namespace) -> LocalModel:
    """The engine that the options name, run as they say; errors as `Perception.load`."""
    return LocalModel.load(
        options.engines,
        threads=options.threads,
        spinning=options.spinning,
        providers=options.providers,
        allow_fallback=options.allow_fallback,
    )


@contextmanager
def workshop(command: str) -> Iterator[None]:
    """Says what to install where the workshop's imports fail.

    Raises:
        MissingDependency: one of them did.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingDependency(
            error.name or "torch",
            needed_for=f"qwen3vl {command}",
            install="make setup (or pip install -e '.[workshop]')",
        ) from error


def positive(text: str) -> int:
    """The type of an argument that counts something."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"is {value}, expected at least 1")
    return value


def count(text: str) -> int:
    """The type of an argument that counts something, of which there may be none."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"is {value}, expected 0 or more")
    return value


def picture_to_write(text: str) -> Path:
    """The type of an argument that says where a picture goes."""
    path = Path(text)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"is '{path}', expected a path that ends in {', '.join(PICTURE_SUFFIXES)}"
        )
    return path
