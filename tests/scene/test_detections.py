# SPDX-License-Identifier: Apache-2.0
"""Queries that can be asked, and those that cannot; groundings that are empty unless filled."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from qwen3vl_ros.errors import QueryError
from qwen3vl_ros.scene.detections import (
    MAX_QUERY_CHARACTERS,
    SPATIAL_TASKS,
    Grounding,
    Query,
    Task,
)
from qwen3vl_ros.scene.tools import Tool

GRASP = Tool(name="grasp", description="Close the gripper.", parameters={"type": "object"})


@pytest.mark.parametrize(
    "query",
    [
        pytest.param({"task": Task.DETECT, "categories": ("mug", "laptop")}, id="detect"),
        pytest.param({"task": Task.REFER, "text": "the red mug"}, id="refer"),
        pytest.param({"task": Task.POINT, "text": "handles"}, id="point"),
        pytest.param({"task": Task.DETECT_3D, "text": "chair"}, id="detect 3d"),
        pytest.param({"task": Task.REFER, "text": "x" * MAX_QUERY_CHARACTERS}, id="longest"),
        pytest.param({"task": Task.REFER, "text": "mug", "max_objects": 1}, id="one object"),
        pytest.param({"task": Task.SPOT_TEXT}, id="text needs no words"),
        pytest.param({"task": Task.LIST_EVENTS}, id="events need no words"),
        pytest.param({"task": Task.COMPARE, "text": "Which is newer?"}, id="compare"),
        pytest.param({"task": Task.ACT, "text": "Take it.", "tools": (GRASP,)}, id="act"),
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
            {"task": Task.REFER, "text": "mug", "max_objects": 0}, "expected 1 to 1000", id="none"
        ),
        pytest.param(
            {"task": Task.REFER, "text": "mug", "max_objects": 10**9},
            "max_objects is 1000000000",
            id="more than any answer holds",
        ),
        pytest.param({"task": Task.ASK}, "an 'ask' query has no text", id="ask nothing"),
        pytest.param({"task": Task.ASK, "text": "ü\udcff"}, "half a character", id="no UTF-8"),
        pytest.param(
            {"task": Task.DETECT, "categories": ("\ud83d", "\ude00")}, "half", id="two halves"
        ),
        pytest.param(
            {"task": Task.SPOT_TEXT, "text": "signs"}, "'signs', expected none", id="text of what"
        ),
        pytest.param(
            {"task": Task.ACT, "text": "Take it."},
            "an 'act' query has 0 tools",
            id="act without tools",
        ),
        pytest.param(
            {"task": Task.ASK, "text": "Why?", "tools": (GRASP,)}, "1 tools", id="tools to ask"
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


@pytest.mark.parametrize("task", SPATIAL_TASKS, ids=lambda task: task.value)
def test_a_spatial_query_can_be_grounded(task: Task) -> None:
    words: dict[str, Any] = {"categories": ("mug",)} if task is Task.DETECT else {"text": "mug"}
    Query(task=task, **words).require_spatial()


@pytest.mark.parametrize("task", sorted({*Task} - {*SPATIAL_TASKS, Task.ACT}, key=str))
def test_any_other_is_refused_and_told_what_can_be(task: Task) -> None:
    query = Query(task=task, text="" if task in (Task.SPOT_TEXT, Task.LIST_EVENTS) else "mug")
    with pytest.raises(QueryError, match="expected one of detect, refer, point, detect_3d"):
        query.require_spatial()
