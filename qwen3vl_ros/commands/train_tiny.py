# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl train-tiny`: the tiny checkpoint, from nothing or from an earlier one."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import CHECKPOINT, Commands, add_command, positive, workshop

STAGES = ("heads", "tower", "decoder", "joint")


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "train-tiny", train_tiny)
    parser.add_argument("--output", type=Path, default=CHECKPOINT, help="checkpoint directory")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        help="checkpoint directory to go on from; without it weights begin at random",
    )
    parser.add_argument("--work", type=Path, default=Path("out"), help="cached scenes and states")
    parser.add_argument(
        "--scenes", type=positive, default=7400, help="scenes to render and learn from"
    )
    parser.add_argument(
        "--clips", type=int, default=300, help="clips of moving things, 0 for none"
    )
    for stage in STAGES:
        parser.add_argument(
            f"--{stage}-steps", type=int, help=f"length of the stage '{stage}', instead of its own"
        )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn at random")
    parser.add_argument(
        "--threads",
        type=int,
        default=0,
        help="0 means two; on a machine that others use, one gets more done (docs/LOG.md)",
    )


def train_tiny(options: argparse.Namespace) -> int:
    """Render scenes, train the tiny checkpoint on them, and write it."""
    with workshop("train-tiny"):
        from ..offline.tiny_training import recipe_for, train_tiny_checkpoint

    lengths = {stage: getattr(options, f"{stage}_steps") for stage in STAGES}
    train_tiny_checkpoint(
        options.output,
        work=options.work,
        scenes=options.scenes,
        clips=options.clips,
        seed=options.seed,
        threads=options.threads or 2,
        source=options.source,
        recipe=recipe_for(options.source, seed=options.seed, lengths=lengths),
    )
    return 0
