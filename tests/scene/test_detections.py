# SPDX-License-Identifier: Apache-2.0
"""Queries that can be asked, and those that cannot; groundings that are empty unless filled."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from qwen3vl_ros.errors import QueryError
from qwen3vl_ros.scene.detections import MAX_QUERY_CHARACTERS, Grounding, Query, Task


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"task": Task.DETECT, "categories": ("mug", "laptop")}, id="detect"),
        pytest.param({"task": Task.REFER, "text": "the red mug"}, id="refer"),
        pytest.param({"task": Task.POINT, "text": "handles"}, id="point"),
        pytest.param({"task": Task.DETECT_3D, "text": "chair"}, id="detect 3d"),
        pytest.param({"task": Task.REFER, "text": "x" * MAX_QUERY_CHARACTERS}, id="longest"),
        pytest.param({"task": Task.REFER, "text": "mug", "max_objects": 1}, id="one object"),
    ],
)
def test_a_query_can_be_asked(query: dict[str, Any]) -> None:
    assert Query(**query).query_id == ""


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param({"task": Task.DETECT}, "at least one", id="no category"),
        pytest.param({"task": Task.DETECT, "text": "mug"}, "at least one", id="text only"),
        pytest.param(
            {"task": Task.DETECT, "categories": ("mug", " ")}, "none of them empty", id="blank one"
        ),
        pytest.param({"task": Task.REFER}, "has no text", id="refer to nothing"),
        pytest.param({"task": Task.POINT, "text": " \t"}, "has no text", id="point at blanks"),
        pytest.param({"task": Task.DETECT_3D}, "'detect_3d' query has no text", id="3d"),
        pytest.param(
            {"task": Task.REFER, "text": "x" * (MAX_QUERY_CHARACTERS + 1)}, "2001", id="too long"
        ),
        pytest.param(
            {"task": Task.DETECT, "categories": ("x" * 1500, "y" * 1500)}, "3000", id="too many"
        ),
        pytest.param(
            {"task": Task.REFER, "text": "mug", "max_objects": 0}, "expected at least 1", id="none"
        ),
    ],
)
def test_a_query_that_asks_nothing_is_refused(query: dict[str, Any], words: str) -> None:
    with pytest.raises(QueryError, match=words):
        Query(**query)


def test_a_grounding_without_finds_is_empty_and_not_absent() -> None:
    grounding = Grounding(
        stamp_ns=1, frame_id="camera", query=Query(task=Task.REFER, text="the red mug")
    )
    assert (grounding.detections_2d, grounding.points, grounding.detections_3d) == ((), (), ())
    assert grounding.complete


def test_values_cannot_be_changed() -> None:
    query = Query(task=Task.REFER, text="mug")
    with pytest.raises(FrozenInstanceError):
        query.text = "cup"  # type: ignore[misc]
