# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl bench`: how fast an engine is here, stage by stage, beside what memory allows."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from tqdm import tqdm

from ..errors import EngineError
from ..runtime.manifest import read_manifest
from ..runtime.rebuild import export_command
from .command import Commands, add_command, add_engine_options, positive, workshop


def add(commands: Commands) -> None:
    """Its arguments."""
    parser = add_command(commands, "bench", run_bench)
    parser.add_argument(
        "--image-tokens",
        type=positive,
        nargs="+",
        metavar="N",
        help="of pictures; by default of 300 and 1024 what fits",
    )
    parser.add_argument("--text-tokens", type=positive, default=32, help="around a picture")
    parser.add_argument(
        "--cached-tokens",
        type=positive,
        nargs="+",
        metavar="N",
        help="behind which one token is decoded; by default of 512 and 4096 what fits",
    )
    parser.add_argument(
        "--windows",
        type=positive,
        nargs="+",
        metavar="N",
        default=[1, 2, 8, 32],
        help="rows of a pass behind the fewest",
    )
    parser.add_argument("--rounds", type=positive, default=5, help="turns of each stage")
    parser.add_argument("--passes", type=positive, default=4, help="of decoding, in one turn")
    parser.add_argument(
        "--read-megabytes", type=positive, default=512, help="read to measure the memory"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, as JSON")
    add_engine_options(parser)


def run_bench(options: argparse.Namespace) -> int:
    """Time an engine's vision, prefill and decoding here, beside what memory allows."""
    with workshop("bench"):
        from ..offline import bench, bench_plan
        from ..offline.bench_report import table

    manifest = read_manifest(options.engines)
    if manifest.flavour != "onnxruntime":
        raise EngineError(
            f"bench holds passes against the host's memory and takes engines of flavour "
            f"'onnxruntime', this one is '{manifest.flavour}'; its stages' times are in every "
            "InferenceStatus of the node (vision_s, prefill_s, decode_s); for an engine that "
            f"bench takes: {export_command(options.engines)}",
            field="flavour",
        )
    room = manifest.cache_length
    plan = bench_plan.BenchPlan(
        image_tokens=tuple(options.image_tokens or ())
        or bench_plan.sizes_that_fit(
            bench_plan.IMAGE_TOKENS,
            most=max(1, min(manifest.max_visual_tokens, room - options.text_tokens)),
        ),
        text_tokens=options.text_tokens,
        cached_tokens=tuple(options.cached_tokens or ())
        or bench_plan.sizes_that_fit(
            bench_plan.CACHED_TOKENS, most=max(1, room - max(options.windows))
        ),
        windows=tuple(options.windows),
        rounds=options.rounds,
        passes=options.passes,
        threads=options.threads or os.cpu_count() or 1,
        read_megabytes=options.read_megabytes,
    )
    with tqdm(unit="turn", disable=None, leave=False) as bar:

        def on_turn(stage: str, over: int, total: int) -> None:
            bar.total = total
            bar.set_description(stage)
            bar.update(over - bar.n)

        report = bench.bench(options.engines, plan, on_turn=on_turn)
    print(table(report))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=1, allow_nan=False)
        options.json.write_text(text + "\n", encoding="utf-8")
        print(f"everything: {options.json}")
    return 0
