# SPDX-License-Identifier: Apache-2.0
"""What is no number is told as such, and is outside of every tolerance."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.offline.agreement import Agreement, Said, agreement
from qwen3vl_ros.runtime.manifest import read_manifest
from scripts.precisions import Row, Variant, misses

TINY = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "onnxruntime-int4"


def said(image: list[list[float]], logits: list[list[float]]) -> Said:
    return Said(image_embeds=np.float32(image), logits=np.float32(logits))


def test_logits_and_rows_are_held_against_the_references():
    """Two tokens: the first as the reference has it, the second off by 5 of a length of 10."""
    truth = said([[1, 0], [0, 2]], [[0, 5], [6, 8]])
    found = agreement([(said([[3, 0], [1, 1]], [[0, 5], [9, 4]]), truth)])
    assert (found.tokens, found.max_abs, found.max_rel, found.top1) == (2, 4, 0.5, 0.5)
    assert found.mean_rel == pytest.approx(5 / math.sqrt(125))
    assert found.image_cosine == pytest.approx(math.sqrt(0.5))


def test_a_tower_that_gives_no_numbers_for_one_picture_is_seen_in_any_order():
    right = said([[1, 0]], [[0, 5]])
    wrong = said([[math.nan, 0]], [[0, 5]])
    for pairs in ([(right, right), (wrong, right)], [(wrong, right), (right, right)]):
        assert math.isnan(agreement(pairs).image_cosine)


def row(**numbers: float) -> Row:
    fine = {"max_abs": 0.0, "max_rel": 0.0, "mean_rel": 0.0, "top1": 1.0, "image_cosine": 1.0}
    return Row(
        variant=Variant(flavour="onnxruntime", precision="int4"),
        manifest=read_manifest(TINY),
        size_bytes=0,
        agreement=Agreement(tokens=1, **(fine | numbers)),
        scores=None,
    )


def test_what_is_within_its_tolerance_misses_nothing():
    assert misses(row(max_rel=0.4, mean_rel=0.1)) == []


@pytest.mark.parametrize(
    ("field", "shown"),
    [("max_rel", "max rel"), ("mean_rel", "all rel"), ("image_cosine", "image cosine")],
)
def test_what_is_no_number_misses_its_tolerance(field, shown):
    (miss,) = misses(row(**{field: math.nan}))
    assert miss.startswith(f"onnxruntime int4: {shown} is nan, expected at ")
