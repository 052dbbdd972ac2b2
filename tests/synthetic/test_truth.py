# SPDX-License-Identifier: Apache-2.0
"""What a rendered scene says of itself is true: boxes, depth, names, and answers about it."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.language.parsing import parse_answer
from qwen3vl_ros.scene.detections import SPATIAL_TASKS, Task
from qwen3vl_ros.synthetic.dataset import bbox_3d_of, scene_from_seed
from qwen3vl_ros.synthetic.questions import KnownObject, question_about, question_about_absent

W, H = 160, 120


@pytest.fixture(scope="module", params=[0, 1, 2])
def rendered(request):
    return scene_from_seed(request.param, width=W, height=H)


def test_the_same_seed_gives_the_same_bytes(rendered):
    first = scene_from_seed(5, width=W, height=H)[2]
    again = scene_from_seed(5, width=W, height=H)[2]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    assert not np.array_equal(first.image, rendered[2].image)


def test_a_2d_box_holds_all_visible_pixels_of_its_solid_and_touches_them(rendered):
    _, _, picture = rendered
    for index, truth in enumerate(picture.truth):
        rows, columns = np.nonzero(picture.solid_ids == index)
        if len(rows):
            x1, y1, x2, y2 = truth.xyxy_px
            assert (columns.min(), rows.min()) == (x1, y1)
            assert (columns.max() + 1, rows.max() + 1) == (x2, y2)


def test_what_is_seen_of_a_solid_lies_on_its_3d_box_and_not_outside(rendered):
    _, view, picture = rendered
    for index, truth in enumerate(picture.truth):
        v, u = np.nonzero(picture.solid_ids == index)
        if not len(u):
            continue
        points = view.intrinsics.deproject(
            u.astype(float), v.astype(float), picture.depth_m[v, u].astype(float)
        )
        T = truth.box.T_frame_box
        local = (points - T[:3, 3]) @ T[:3, :3]
        if truth.solid.shape == "box":
            assert (np.abs(local) <= truth.box.size_m / 2 + 2e-3).all()
        else:
            radii = truth.box.size_m[[0, 2]] / 2
            assert (np.hypot(*(local[:, [0, 2]] / radii).T) <= 1.02).all()
            assert (np.abs(local[:, 1]) <= truth.box.size_m[1] / 2 + 2e-3).all()


def test_boxes_stand_upright_and_face_the_camera_as_nearly_as_they_can(rendered):
    _, view, picture = rendered
    for truth in picture.truth:
        R = truth.box.T_frame_box[:3, :3]
        np.testing.assert_allclose((view.T_world_camera[:3, :3] @ R)[:, 1], [0, 0, -1], atol=1e-9)
        assert R[0, 0] >= np.cos(np.pi / 4) - 1e-9


@pytest.mark.parametrize("task", SPATIAL_TASKS, ids=lambda task: task.value)
def test_a_true_answer_parses_back_to_the_truth(rendered, task):
    _, _, picture = rendered
    truth = picture.truth[0]
    known = KnownObject(
        name=truth.solid.name,
        xyxy_norm1000=truth.xyxy_px * 1000 / [W, H, W, H],
        bbox_3d=bbox_3d_of(truth.box.T_frame_box, truth.box.size_m),
    )
    question = question_about([known], 0, task)
    answer = parse_answer(question.answer, task=task, width=W, height=H, max_objects=5)
    found = answer.objects[0]
    assert answer.complete
    assert found.label == truth.solid.name
    if task is Task.DETECT_3D:
        np.testing.assert_allclose(found.box.center_m, truth.box.center_m, atol=0.006)
        np.testing.assert_allclose(found.box.size_m, truth.box.size_m, atol=0.006)
    elif task is Task.POINT:
        middle = (truth.xyxy_px[:2] + truth.xyxy_px[2:]) / 2
        np.testing.assert_allclose(found.uv_px, middle, atol=0.1)
    else:
        np.testing.assert_allclose(found.xyxy_px, truth.xyxy_px, atol=0.1)


def test_what_is_not_there_is_truly_not_there_and_answered_with_an_empty_list(rendered):
    known = [
        KnownObject(name=t.solid.name, xyxy_norm1000=np.zeros(4), bbox_3d=np.zeros(9))
        for t in rendered[2].truth
    ]
    question = question_about_absent(known, Task.REFER, np.random.default_rng(0))
    assert question.query.text not in {k.name for k in known}
    answer = parse_answer(question.answer, task=Task.REFER, width=W, height=H, max_objects=5)
    assert answer.objects == ()
