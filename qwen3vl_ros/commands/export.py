# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl export`: a checkpoint becomes engines."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import CHECKPOINT, Commands, add_command, positive, workshop


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "export", export)
    parser.add_argument(
        "--checkpoint", type=Path, default=CHECKPOINT, help="Hugging Face directory"
    )
    parser.add_argument(
        "--output", type=Path, default=CHECKPOINT.parent, help="parent of the engines"
    )
    parser.add_argument(
        "--precision", nargs="+", default=["float32", "int4"], choices=["float32", "int4"]
    )
    parser.add_argument(
        "--cache-length",
        type=positive,
        metavar="TOKENS",
        help="of prompt and answer together; by default the largest picture and some words fit",
    )


def export(options: argparse.Namespace) -> int:
    """Write the engines of a checkpoint, one directory a precision."""
    with workshop("export"):
        from ..offline.export import export_checkpoint

    for precision in options.precision:
        target = options.output / f"onnxruntime-{precision}"
        export_checkpoint(
            options.checkpoint, target, precision=precision, cache_length=options.cache_length
        )
        print(f"{precision}: {target}")
    return 0
