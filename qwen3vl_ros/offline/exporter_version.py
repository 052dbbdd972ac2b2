# SPDX-License-Identifier: Apache-2.0
"""Which exporter wrote graphs: our version, and a digest of the source files that it consists of.

A version alone would not tell yesterday's graphs from today's where somebody works on the
exporter, and a number that one has to count up by hand is forgotten. So what graphs, weights and
golden outputs depend on is found by following the imports of the exporter through this package.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

from .. import __version__

PACKAGE = Path(__file__).resolve().parents[1]
DIGITS = 12  # of the digest


@functools.cache
def exporter_version(exporter: Path) -> str:
    """For example "0.1.0+5f0c2a9b13de"; another one may write other graphs.

    Args:
        exporter: a source file of this package.
    """
    digest = hashlib.sha256()
    for file in sorted(sources_of(exporter)):
        digest.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode())
        digest.update(file.read_bytes())
    return f"{__version__}+{digest.hexdigest()[:DIGITS]}"


def sources_of(file: Path) -> frozenset[Path]:
    """A source file of this package, and those it imports, through any number of others."""
    found, waiting = set[Path](), {file.resolve()}
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting |= {*_imported(file)} - found
    return frozenset(found)


def _imported(file: Path) -> Iterator[Path]:
    """Files of this package that one imports; it names them relative to itself, as all do."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.level:
            origin = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [origin, *(origin / alias.name for alias in node.names)]
            for name in names:
                if (module := name.with_suffix(".py")).is_file():
                    yield module
