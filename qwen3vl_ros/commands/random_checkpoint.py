# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl random-checkpoint`: a checkpoint of a released shape, with weights that say nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError
from .command import Commands, add_command, positive, workshop
from .progress_bar import Effort, progress_bar


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "random-checkpoint", random_checkpoint)
    parser.add_argument("--size", required=True, help="of a released Qwen3-VL: 2B, 4B, ...")
    parser.add_argument("--output", type=Path, required=True, help="new or empty directory")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument(
        "--image-tokens", type=positive, default=1024, help="of the largest picture"
    )
    parser.add_argument(
        "--small", action="store_true", help="an eighth of the widths, a third of the depth"
    )


def random_checkpoint(options: argparse.Namespace) -> int:
    """Write a random checkpoint of a released shape, for measuring exports and engines."""
    with workshop("random-checkpoint"):
        from ..offline.family import RELEASED, shrunk
        from ..offline.random_checkpoint import write_random_checkpoint

    if options.size not in RELEASED:
        raise ConfigError(f"--size is '{options.size}', expected one of {', '.join(RELEASED)}")
    config, effort = RELEASED[options.size], Effort()
    with progress_bar() as progress:
        write_random_checkpoint(
            shrunk(config) if options.small else config,
            options.output,
            seed=options.seed,
            image_tokens=options.image_tokens,
            progress=progress,
        )
    print(f"{options.size}: {options.output}, {effort}")
    return 0
