# SPDX-License-Identifier: Apache-2.0
"""What the committed checkpoint knows of rooms, each task: as right as it was, on a small subset.

The floors are what was measured on these rooms (docs/LOG.md tells 500) less a margin; they guard
against getting worse. A third of the floors in the pictures are of a kind never trained on.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from qwen3vl_ros.evaluation.evaluation import evaluate
from qwen3vl_ros.evaluation.remembering_model import RememberingModel
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.perception import Perception
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.synthetic.room_cases import GROUPS, room_data

ROOMS = 24
# Group of questions, its number, the least it may be.
FLOORS = (
    ("refer", "iou_mean", 0.63),  # measured 0.70
    ("relations", "accuracy_50", 0.5),  # 0.83, of 6
    ("superlatives", "accuracy_50", 0.75),  # 0.94
    ("absent", "absent_answered_nothing", 0.85),  # 0.96
    ("several", "ap50", 0.55),  # 0.66
    ("kind", "accuracy_50", 0.5),  # 0.65
    ("point", "points_inside", 0.85),  # 0.95
    ("count", "count_right", 0.3),  # 0.43
    ("words", "answers_right", 0.7),  # 0.83
    ("moment", "time_iou_mean", 0.4),  # 0.53
)
# Likewise, the most it may be.
CEILINGS = (
    ("detect_3d", "center_median_m", 0.2),  # measured 0.165
    ("refer", "lifted_center_median_m", 0.02),  # 0.007
)
UNREADABLE = 2  # of about 280 answers

Groups = Mapping[str, Mapping[str, float]]


@pytest.fixture(scope="module")
def groups(tmp_path_factory) -> Groups:
    """Every number, by group of questions."""
    model = LocalModel.load(tiny_engine_directory(), threads=1)
    perception = Perception(RememberingModel(lambda: model))
    output = tmp_path_factory.mktemp("rooms") / "rooms.json"
    return evaluate(perception, room_data(ROOMS), model={"kind": "engine"}, output=output).groups


def test_every_kind_of_question_is_asked_and_nearly_every_answer_can_be_read(groups):
    assert {*groups} == {*GROUPS}
    assert sum(numbers["unreadable"] for numbers in groups.values()) <= UNREADABLE


@pytest.mark.parametrize(("group", "number", "floor"), FLOORS)
def test_it_is_as_right_as_it_was(groups, group, number, floor):
    assert groups[group][number] >= floor


@pytest.mark.parametrize(("group", "number", "ceiling"), CEILINGS)
def test_it_is_as_near_as_it_was(groups, group, number, ceiling):
    assert groups[group][number] <= ceiling
