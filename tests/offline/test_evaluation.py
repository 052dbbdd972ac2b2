# SPDX-License-Identifier: Apache-2.0
"""The measuring stick: what counts as right, and what is never counted as right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qwen3vl_ros.offline.evaluation import AbsentResult, ObjectResult, summary

ENGINES = Path(__file__).resolve().parents[2] / "engines" / "tiny" / "onnxruntime-int4"


def result(**changes: float) -> ObjectResult:
    values = {
        "iou": 0.8,
        "answered": 1,
        "depth_center_m": 0.01,
        "depth_size_m": 0.02,
        "model_center_m": 0.1,
        "model_size_share": 0.1,
        "model_turn_deg": 5.0,
    }
    return ObjectResult(seed=1, name="red box", **{**values, **changes})


def test_what_was_not_given_counts_as_infinitely_wrong():
    """A model that answers the easy third only would otherwise look best of all."""
    numbers = summary([result(), result(model_center_m=np.nan), result(model_center_m=np.nan)], [])
    assert numbers["model_center_median_m"] is None
    assert numbers["model_given"] == pytest.approx(1 / 3)
    assert numbers["depth_center_median_m"] == pytest.approx(0.01)


def test_an_unreadable_answer_is_counted_apart_and_is_not_an_empty_one():
    absent = [
        AbsentResult(seed=1, name="blue ball", is_empty=True),
        AbsentResult(seed=2, name="blue ball", is_empty=False),
    ]
    numbers = summary([result(), result(iou=0.0, answered=-1)], absent)
    assert numbers["unreadable"] == 1
    assert numbers["iou_mean"] == pytest.approx(0.4)
    assert numbers["iou_at_least_half"] == pytest.approx(0.5)
    assert numbers["absent_answered_empty"] == pytest.approx(0.5)
