#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our reference model against transformers, measured: the tables of docs/parity.md.

Without arguments: all six family shapes, shrunk, with random weights; writes docs/parity.md and
ends with 1 where a tolerance is missed. With `--checkpoint DIR`: the weights you have, printed.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch

from qwen3vl_ros.offline.checkpoint import write_checkpoint
from qwen3vl_ros.offline.family import RELEASED, shrunk
from qwen3vl_ros.offline.parity import (
    INPUTS,
    NEW_TOKENS,
    agreement,
    half_precision,
    load_pair,
    random_reference,
)

REPORT = Path(__file__).resolve().parent.parent / "docs" / "parity.md"
TOLERANCE = 1e-4  # float32: logits absolute, hidden states relative
HEADER = (
    "| shape | input | max abs | max rel | tokens equal | bf16 apart | bf16 ours | bf16 theirs |"
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure parity with transformers.")
    parser.add_argument("--checkpoint", type=Path, help="measure these weights, write nothing")
    directory = parser.parse_args().checkpoint
    torch.set_num_threads(1)
    if directory is not None:
        rows, missed = measured(directory.name, directory)
        print("\n".join([HEADER, *rows]))
        return int(missed)
    table, misses = [HEADER, "|---" * 8 + "|"], 0
    for shape, released in RELEASED.items():
        with tempfile.TemporaryDirectory() as name:
            model = random_reference(shrunk(released), seed=0)
            write_checkpoint(model, Path(name), torch.float32)
            rows, missed = measured(shape, Path(name))
        table += rows
        misses += missed
        print("\n".join(rows), flush=True)
    REPORT.write_text(report(table), encoding="utf-8")
    return int(misses > 0)


def measured(shape: str, directory: Path) -> tuple[list[str], bool]:
    """Rows of the table, and whether any tolerance is missed."""
    pair, half = load_pair(directory), load_pair(directory, torch.bfloat16)
    rows, missed = [], False
    for kind in INPUTS:
        found = agreement(pair, kind)
        rounded = half_precision(pair, half, kind)
        missed |= max(found.max_abs, found.max_rel) > TOLERANCE
        missed |= found.equal_tokens < NEW_TOKENS
        rows.append(
            f"| {shape} | {kind} | {found.max_abs:.1e} | {found.max_rel:.1e} "
            f"| {found.equal_tokens} of {NEW_TOKENS} | {rounded.apart:.1%} | {rounded.ours:.1%} "
            f"| {rounded.theirs:.1%} |"
        )
    return rows, missed


def report(table: list[str]) -> str:
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    versions = ", ".join(f"{name} {version(name)}" for name in ("transformers", "torch", "numpy"))
    return f"""# Parity with transformers

Written by `make parity` on {today}, with {versions}, on the CPU, one thread.

Each row is one of the six family shapes with random weights: an eighth of the widths, a third of
the tower's blocks, four decoder layers, 32 experts instead of 128 (`qwen3vl_ros/offline/family.py`
says what is kept: widths of heads, deepstack taps, M-RoPE sections, routing, tied or not). Weights
are written by us and loaded by both. Tolerances: {TOLERANCE:.0e} for both columns of differences,
and all {NEW_TOKENS} greedy tokens.

- *max abs*: largest difference of two float32 logits, over all tokens.
- *max rel*: largest distance of two float32 hidden states after the final norm, as vectors, in
  parts of transformers'.
- *second turn*: an image, an answer, another image; ours continues the cache of the first turn,
  transformers reads the whole conversation anew.
- *bf16*: distance of the logits as vectors, in parts of transformers' float32 logits: between the
  two models in bfloat16, and of each of them from float32 (for scale: what rounding alone does).

{chr(10).join(table)}

With weights of your own: `.venv/bin/python scripts/parity.py --checkpoint DIR`.
"""


if __name__ == "__main__":
    sys.exit(main())
