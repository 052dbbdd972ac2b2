# SPDX-License-Identifier: Apache-2.0
"""What people see: boxes where the objects are, labels that do not hide each other."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.image.drawing import (
    PALETTE,
    _free_row,
    annotated_image,
    label_colour,
)
from qwen3vl_ros.scene.camera import Intrinsics
from qwen3vl_ros.scene.detections import BoxSource, Detection2D, Detection3D, Point2D
from qwen3vl_ros.scene.geometry import OrientedBox

GREY = np.full((240, 320, 3), 128, np.uint8)
CAMERA = Intrinsics(
    K=np.array([[300.0, 0, 159.5], [0, 300.0, 119.5], [0, 0, 1]]), width=320, height=240
)


def solid(center_m: tuple[float, float, float], size_m: float = 0.2) -> Detection3D:
    T = np.eye(4)
    T[:3, 3] = center_m
    box = OrientedBox(T_frame_box=T, size_m=np.full(3, size_m))
    return Detection3D(label="mug", box=box, score=0.5, source=BoxSource.DEPTH)


def painted(picture: np.ndarray) -> np.ndarray:
    return (picture != 128).any(axis=2)


def test_the_colours_of_labels_are_fixed():
    """The same label looks the same in 2D, in 3D, tomorrow and on another machine."""
    assert label_colour("mug") == label_colour("mug")
    assert {label_colour(f"thing {n}") for n in range(100)} == set(PALETTE)
    assert label_colour("mug") == (204, 121, 167)


def test_a_2d_box_is_drawn_around_its_pixels():
    """A box from 100 to 200 holds the pixels 100 to 199; its line runs along them."""
    box = Detection2D(label="mug", xyxy_px=np.array([100.0, 80.0, 200.0, 160.0]), score=0.5)
    picture = annotated_image(GREY, detections_2d=[box])
    assert (GREY == 128).all(), "the picture itself stays"
    lower = painted(picture)[100:]
    v, u = np.nonzero(lower)
    assert abs(u.min() - 100) <= 2
    assert abs(u.max() - 199) <= 2
    assert abs(v.max() + 100 - 159) <= 2
    assert not lower[10:40, 110:190].any(), "the inside is left to see"


def test_a_3d_box_is_drawn_where_the_camera_sees_it():
    picture = annotated_image(GREY, detections_3d=[solid((0.1, 0.05, 1.0))], intrinsics=CAMERA)
    v, u = np.nonzero(painted(picture)[120:])
    # The near face is at z = 0.9: u = 159.5 + 300 * (0.0 .. 0.2) / 0.9.
    assert abs(u.min() - 159.5) < 3
    assert abs(u.max() - (159.5 + 300 * 0.2 / 0.9)) < 3
    assert abs(v.max() + 120 - (119.5 + 300 * 0.15 / 0.9)) < 3


@pytest.mark.parametrize(
    "center_m",
    [
        pytest.param((0.0, 0.0, 0.0), id="around the camera"),
        pytest.param((0.0, 0.0, -1.0), id="behind the camera"),
        pytest.param((1e5, 0.0, 0.1), id="far outside"),
    ],
)
def test_boxes_that_the_camera_cannot_show_are_no_trouble(center_m):
    picture = annotated_image(GREY, detections_3d=[solid(center_m)], intrinsics=CAMERA)
    assert picture.shape == GREY.shape


def test_boxes_and_labels_at_the_border_and_strange_words_are_no_trouble():
    boxes = [
        Detection2D(label="über 杯子", xyxy_px=np.array(xyxy, float), score=0.5)
        for xyxy in ([0, 0, 5, 5], [310, 230, 320, 240], [-50, -50, 400, 400], [7, 7, 7, 7])
    ]
    point = Point2D(label="handle", uv_px=np.array([319.9, 0.1]), score=0.5)
    picture = annotated_image(GREY, detections_2d=boxes, points=[point])
    assert painted(picture).any()
    tiny = annotated_image(GREY[:4, :6], detections_2d=boxes)
    assert tiny.shape == (4, 6, 3)


def test_labels_of_neighbours_do_not_hide_each_other():
    taken = [(100, 50, 180, 70)]
    assert _free_row(100, 50, 80, 20, taken=taken, height=240) in (30, 70)
    assert _free_row(190, 50, 80, 20, taken=taken, height=240) == 50
