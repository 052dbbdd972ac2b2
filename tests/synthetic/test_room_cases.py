# SPDX-License-Identifier: Apache-2.0
"""Questions of every kind about held-out rooms: the same in every run, and true."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.evaluation.case import Number, Places, Solids, Span, Texts, Wording
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.detections import Task
from qwen3vl_ros.synthetic.room_cases import GROUPS, room_data

ROOMS = 8


@pytest.fixture(scope="module")
def cases():
    return room_data(ROOMS).cases


def test_every_kind_of_question_is_asked(cases):
    assert {case.group for case in cases} == set(GROUPS)
    assert len({case.case_id for case in cases}) == len(cases)


def test_the_same_rooms_are_asked_the_same(cases):
    again = [case for case in room_data(2).cases if not case.is_about_nothing]
    first = [case for case in cases if not case.is_about_nothing][: len(again)]
    assert [(a.case_id, a.query) for a in again] == [(b.case_id, b.query) for b in first]


def test_a_group_is_of_one_task_and_one_kind_of_truth(cases):
    for group in GROUPS:
        members = [case for case in cases if case.group == group]
        assert len({(case.query.task, type(case.truth)) for case in members}) == 1, group


def test_views_are_what_the_task_is_about_and_of_the_size_its_truth_is_in(cases):
    for group in GROUPS:
        case = next(case for case in cases if case.group == group)
        views = case.views()
        if case.query.task is Task.LOCATE_MOMENT:
            assert isinstance(views[0], Clip)
            assert isinstance(case.truth, Span)
            assert 0 <= case.truth.start_s < case.truth.end_s <= views[0].duration_s
            continue
        assert len(views) == (2 if case.query.task is Task.COMPARE else 1)
        frame = views[0]
        assert isinstance(frame, Frame)
        if isinstance(case.truth, Places):
            assert case.truth.places[0].mask.shape == frame.image.shape[:2]
        if isinstance(case.truth, Texts):
            h, w = frame.image.shape[:2]
            for text in case.truth.texts:
                assert (text.xyxy_px >= 0).all()
                assert (text.xyxy_px <= [w, h, w, h]).all()


def test_what_is_absent_is_absent_and_what_is_present_is_not(cases):
    for case in cases:
        assert case.is_about_nothing == (case.group == "absent"), case.case_id


def test_depth_stands_where_a_true_solid_is_held_against_it(cases):
    """A lens that bends has no depth here, and its boxes no solid."""
    for case in cases:
        if case.group == "refer":
            (frame,) = case.views()
            assert (frame.depth_m is not None) == (case.truth.boxes[0].solid is not None)


def test_3d_truths_are_in_front_of_the_camera_and_counts_are_not_zero(cases):
    for case in cases:
        if isinstance(case.truth, Solids):
            assert case.truth.solids[0].box.center_m[2] > 0.2
            assert np.isfinite(case.truth.solids[0].box.size_m).all()
        if isinstance(case.truth, Number):
            assert case.truth.number > 0
        if isinstance(case.truth, Wording):
            assert case.truth.accepted[0]
