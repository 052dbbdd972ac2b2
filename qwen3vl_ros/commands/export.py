# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl export`: a checkpoint becomes engines."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from ..model_config import load_model_config
from ..runtime.free_memory import memory_line
from ..runtime.precision_name import precision_name
from .command import CHECKPOINT, Commands, add_command, positive, workshop
from .progress_bar import Effort, progress_bar

PRECISIONS = ("float32", "bfloat16", "float16", "int8", "int4", "int4-128", "int4-a16")
CALIBRATED = ("int4-calibrated", "int4-128-calibrated", "int4-a16-calibrated")
# As manifests name those whose cache or tower is otherwise.
WITH_CACHE = tuple(
    f"{name}-cache8"
    for name in (*PRECISIONS, *CALIBRATED)
    if precision_name(name).cache_dtype == np.float32
)
WITH_TOWER = tuple(
    f"{name}-{tower}"
    for name in (*PRECISIONS, *CALIBRATED, *WITH_CACHE)
    for tower in ("tower32" if name == "float16" else "tower16", "tower8")
)


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
        "--precision",
        nargs="+",
        default=["float32", "int4"],
        choices=[*PRECISIONS, *CALIBRATED, *WITH_CACHE, *WITH_TOWER],
        metavar="NAME",
        help=f"of the weights: {', '.join(PRECISIONS)}; int4 has blocks of 32, int4-a16 computes "
        "in float16, for GPUs",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="round four bits for what rendered scenes bring about: nearer to the checkpoint, as "
        "large and as fast; takes a while (docs/precisions.md)",
    )
    parser.add_argument(
        "--tower",
        choices=["float32", "float16", "int8"],
        help="of the vision tower; by default as the rest, and float32 where that has few bits; "
        "int8 is for the CPU, where it is twice as fast",
    )
    parser.add_argument(
        "--cache",
        choices=["int8"],
        help="of keys and values; by default as wide as what products compute in; int8 is for the "
        "CPU: a quarter of the memory and faster answers behind long prompts; takes a while "
        "(docs/adr/0012)",
    )
    parser.add_argument(
        "--cache-length",
        type=positive,
        metavar="TOKENS",
        help="of prompt and answer together; by default the largest picture and some words fit",
    )
    parser.add_argument(
        "--no-golden",
        action="store_true",
        help="leave out what the reference says to one picture, without which nobody can check "
        "the engine (qwen3vl doctor)",
    )


def export(options: argparse.Namespace) -> int:
    """Write the engines of a checkpoint, one directory a precision."""
    with workshop("export"):
        from ..offline.checkpoint import checked_files
        from ..offline.engine_files import require_files
        from ..offline.export import export_checkpoint
        from ..offline.export_memory import export_memory_bytes
        from ..offline.precisions import (
            precision_from_name,
            with_cache,
            with_calibration,
            with_tower,
        )

    # All of them before the first is written: a wrong name shall not cost an export.
    names = [with_calibration(n) if options.calibrate else n for n in options.precision]
    names = [with_tower(with_cache(name, options.cache), options.tower) for name in names]
    chosen = [precision_from_name(name) for name in names]
    # What is wrong with the checkpoint comes first, alone.
    config = load_model_config(options.checkpoint)
    files = checked_files(options.checkpoint, config)
    require_files(options.checkpoint)
    needed = export_memory_bytes(
        config,
        golden=not options.no_golden,
        calibrated=any(precision.calibrated for precision in chosen),
        int8_cache=any(precision.int8_cache for precision in chosen),
    )
    print(memory_line(needed))
    for precision in names:
        target = options.output / f"onnxruntime-{precision}"
        effort = Effort()
        with progress_bar() as progress:
            export_checkpoint(
                options.checkpoint,
                target,
                precision=precision,
                cache_length=options.cache_length,
                golden=not options.no_golden,
                files=files,
                progress=progress,
            )
        size = sum(file.stat().st_size for file in target.iterdir())
        print(f"{precision}: {target}, {size / 1e6:.1f} MB, {effort}")
    return 0
