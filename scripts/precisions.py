#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What every precision of both flavours costs on the tiny checkpoint: docs/precisions.md.

Without arguments: exports them all, holds each against the reference and against the float32
engine's boxes, and writes the table. With `--check`: few questions, no boxes, nothing written;
what `make engines-check` runs. Either ends with 1 where an engine is outside its tolerance.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from qwen3vl_ros.model.golden_tolerances import decoder_tolerance, tower_tolerance
from qwen3vl_ros.offline.agreement import (
    Agreement,
    EngineSpeaker,
    Said,
    TaughtQuestion,
    agreement,
    said_by_reference,
    taught_questions,
)
from qwen3vl_ros.offline.box_cost import BoxCost, BoxScores, box_cost, box_scores
from qwen3vl_ros.offline.checkpoint import load_checkpoint
from qwen3vl_ros.offline.cpu_twin import cpu_twin
from qwen3vl_ros.offline.export import PRECISIONS, export_checkpoint
from qwen3vl_ros.offline.tensorrt_choices import PRECISIONS as TENSORRT_PRECISIONS
from qwen3vl_ros.offline.tensorrt_choices import GraphChoices, OperatorSet
from qwen3vl_ros.offline.tensorrt_export import export_for_tensorrt
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.runtime.loading import load_engines
from qwen3vl_ros.runtime.manifest import Manifest, read_manifest
from qwen3vl_ros.runtime.precision_name import precision_name

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = ROOT / "engines" / "tiny" / "checkpoint"
REPORT = ROOT / "docs" / "precisions.md"
CACHE_LENGTH = 1024
CHECKED_SCENES, TOLD_SCENES = 2, 12  # of which every object is asked for, answers told
MORE = (
    "float16-tower32",
    "int4-tower16",
    "int4-tower8",
    "int4-calibrated",
    "int4-128-calibrated",
    "float32-cache8",
    "int4-cache8",
)
ONE_IS_ENOUGH = "int4-128-calibrated"  # to calibrate takes a while, and 32 says as much
# The doctor asks about one token; here the worst of some 800 is sought, and two precisions have
# one that is further off (2026-11-28: 0.107 and 0.547).
WORST_TOKEN = {"int8": 0.15, "int4-128": 0.67}
HEADER = (
    "| flavour | precision | tower | MB | max abs | max rel | all rel | top-1 | image cosine |"
)
BOXES_HEADER = " IoU | against float32 |"


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """A way to export. `tower`: its precision, "" for what the name says."""

    flavour: str
    precision: str
    tower: str = ""

    @property
    def runs_here(self) -> bool:
        """ONNX Runtime's CPU has no arithmetic in bfloat16, which TensorRT's graphs ask for."""
        return (self.flavour, self.precision) != ("tensorrt", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What was measured of a variant; None where it cannot run here or was not asked for."""

    variant: Variant
    manifest: Manifest
    size_bytes: int
    agreement: Agreement | None
    scores: BoxScores | None


def variants() -> list[Variant]:
    """Every precision of both flavours, calibrated ones, and towers that are otherwise."""
    found = [Variant(flavour="onnxruntime", precision=name) for name in (*PRECISIONS, *MORE)]
    for name, (width, _) in TENSORRT_PRECISIONS.items():
        found.append(Variant(flavour="tensorrt", precision=name, tower=width))
    return [*found, Variant(flavour="tensorrt", precision="int4", tower="float32")]


def exported(variant: Variant, root: Path) -> Path:
    """The directory of a variant, as ONNX Runtime loads it, if it can."""
    directory = root / f"{variant.flavour}-{variant.precision}-{variant.tower}"
    if variant.flavour == "onnxruntime":
        export_checkpoint(
            CHECKPOINT, directory, precision=variant.precision, cache_length=CACHE_LENGTH
        )
        return directory
    choices = GraphChoices(
        operators=OperatorSet.FUSED,
        precision=variant.precision,
        vision_precision=variant.tower,
        cache_length=CACHE_LENGTH,
    )
    export_for_tensorrt(CHECKPOINT, directory, choices)
    if not variant.runs_here:
        return directory
    twin = directory.with_name(f"{directory.name}-cpu")
    cpu_twin(directory, twin)
    return twin


def measured(
    variant: Variant,
    root: Path,
    told: Sequence[tuple[TaughtQuestion, Said]],
    *,
    scenes: int,
) -> Row:
    """One variant, exported and asked. `scenes`: of which boxes are asked for, or 0."""
    directory = exported(variant, root)
    size_bytes = sum(file.stat().st_size for file in directory.iterdir())
    agrees, scores = None, None
    if variant.runs_here:
        speaker = EngineSpeaker(load_engines(directory, threads=1), directory)
        agrees = agreement([(speaker.said(question), truth) for question, truth in told])
    if variant.runs_here and scenes:
        scores = box_scores(Perception.load(directory, threads=1), scenes=scenes)
    return Row(
        variant=variant,
        manifest=read_manifest(directory),
        size_bytes=size_bytes,
        agreement=agrees,
        scores=scores,
    )


def misses(row: Row) -> list[str]:
    """What of a row is outside its precision's tolerance, in words; written so that NaN is."""
    found = row.agreement
    if found is None:
        return []
    decoder, tower = decoder_tolerance(row.manifest), tower_tolerance(row.manifest)
    weights = precision_name(row.manifest.precision).weights
    worst = max(decoder.first_error, WORST_TOKEN.get(weights, 0.0))
    limits = (
        ("all rel", found.mean_rel, "at most", decoder.answer_error),
        ("max rel", found.max_rel, "at most", worst),
        ("image cosine", found.image_cosine, "at least", tower.cosine),
    )
    name = f"{row.variant.flavour} {row.variant.precision} {row.variant.tower}".strip()
    return [
        f"{name}: {what} is {got:.3g}, expected {side} {limit:g}"
        for what, got, side, limit in limits
        if not (got <= limit if side == "at most" else got >= limit)
    ]


def line(row: Row, baseline: BoxScores | None) -> str:
    """A row of the table."""
    variant, found = row.variant, row.agreement
    cells = [
        variant.flavour,
        f"`{variant.precision}`",
        variant.tower or "as named",
        f"{row.size_bytes / 1e6:.1f}",
    ]
    if found is None:
        cells += ["not run"] * (5 + 2 * (baseline is not None))
    else:
        cells += [f"{found.max_abs:.1e}", f"{found.max_rel:.1e}", f"{found.mean_rel:.1e}"]
        cells += [f"{found.top1:.2%}", f"1 - {1 - found.image_cosine:.0e}"]
        if baseline is not None and row.scores is not None:
            cells += _box_cells(box_cost(row.scores, baseline))
    return f"| {' | '.join(cells)} |"


def _box_cells(cost: BoxCost) -> list[str]:
    return [f"{cost.mean_iou:.4f}", f"{cost.difference:+.4f} ± {cost.standard_error:.4f}"]


def report(table: Sequence[str], *, objects: int, scenes: int, tokens: int) -> str:
    """docs/precisions.md."""
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    names = ("onnxruntime", "onnx", "torch", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"""# What a precision costs

Written by `make precisions` on {today}, with {versions}, on {processor()}, one thread a pass; the
committed tiny checkpoint.

Graphs of the `tensorrt` flavour (the fused operator set) were run by ONNX Runtime on the CPU,
which computes most of float16 in float32: their rows show what rounded weights and narrow inputs
cost, not a GPU's sums. It has no bfloat16 for them at all.

- *MB*: the whole engine directory, tokenizer and embedding table included.
- *max abs*, *max rel*, *all rel*, *top-1*: logits beside those of the float32 torch reference,
  over {tokens} answer tokens of questions about {TOLD_SCENES} held-out scenes (2D and 3D boxes of
  every object), the true answer told token by token: the largest difference of two logits; the
  largest distance of the logits before one token, as vectors, in parts of the reference's; that of
  all logits as one vector; how often both find the same token likeliest.
- *image cosine*: of an image row and the reference's, the least of {TOLD_SCENES} pictures.
- *IoU*: of the first 2D box with the truth, {objects} objects of {scenes} held-out scenes asked
  for by name, greedily. *Against float32*: the mean difference from the float32 engine over the
  same objects, and its standard error (scenes independent, objects of one scene not). What is
  below two standard errors was not seen.

{chr(10).join(table)}

`make engines-check` holds every row against `qwen3vl_ros/model/golden_tolerances.py`, as
`qwen3vl doctor` holds an engine.
"""


def processor() -> str:
    """The CPU's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    for text in info.read_text().splitlines() if info.exists() else ():
        if text.startswith("model name"):
            return f"{text.partition(':')[2].strip()} ({platform.machine()})"
    return platform.machine()


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure what precisions cost.")
    parser.add_argument("--check", action="store_true", help="few questions, nothing written")
    parser.add_argument("--scenes", type=int, default=200, help="of which boxes are asked for")
    options = parser.parse_args()
    torch.set_num_threads(1)
    scenes = 0 if options.check else options.scenes
    model = load_checkpoint(CHECKPOINT).eval()
    questions = taught_questions(
        CHECKPOINT, scenes=CHECKED_SCENES if options.check else TOLD_SCENES
    )
    told = [(question, said_by_reference(model, question)) for question in questions]
    table = [HEADER + (BOXES_HEADER if scenes else ""), "|---" * (11 if scenes else 9) + "|"]
    print(table[0], flush=True)
    wrong, baseline = list[str](), None
    for variant in variants():
        if options.check and variant.precision == ONE_IS_ENOUGH:
            continue
        with tempfile.TemporaryDirectory() as root:
            row = measured(variant, Path(root), told, scenes=scenes)
        baseline = row.scores if baseline is None else baseline  # float32 comes first
        table.append(line(row, baseline))
        wrong += misses(row)
        print(table[-1], flush=True)
    if baseline is not None:
        tokens = sum(len(question.answer_ids) for question, _ in told)
        objects = len(baseline.iou)
        text = report(table, objects=objects, scenes=scenes, tokens=tokens)
        REPORT.write_text(text, encoding="utf-8")
    print("\n".join(wrong))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
