# SPDX-License-Identifier: Apache-2.0
"""The camera: pixels and rays, resized pictures, and frames that do not fit together."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.scene.camera import Frame, Intrinsics

K = np.array([[100.0, 0, 31.5], [0, 200.0, 23.5], [0, 0, 1]])
INTRINSICS = Intrinsics(K=K, width=64, height=48)


def test_a_point_ahead_is_seen_at_the_principal_point() -> None:
    pixels = INTRINSICS.project(np.array([[0.0, 0.0, 2.0], [0.2, 0.1, 2.0]]))
    np.testing.assert_allclose(pixels, [[31.5, 23.5], [41.5, 33.5]])


def test_what_is_behind_the_camera_has_no_pixel() -> None:
    pixels = INTRINSICS.project(np.array([[0.1, 0.1, -1.0], [0.1, 0.1, 0.0], [0.0, 0.0, 1.0]]))
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [31.5, 23.5])


def test_a_pixel_and_its_depth_give_the_point_back() -> None:
    points = np.array([[0.3, -0.2, 1.5], [-0.1, 0.4, 3.0]])
    u, v = INTRINSICS.project(points).T
    np.testing.assert_allclose(INTRINSICS.deproject(u, v, points[:, 2]), points)


def test_half_the_picture_has_half_the_focal_length_about_the_same_corner() -> None:
    """The corner (-0.5, -0.5) stays a corner: the centre of 64 columns, 31.5, becomes 15.5."""
    half = INTRINSICS.resized(width=32, height=24)
    assert (half.width, half.height) == (32, 24)
    np.testing.assert_allclose(half.K, [[50, 0, 15.5], [0, 100, 11.5], [0, 0, 1]])
    corner = INTRINSICS.deproject(np.array([-0.5]), np.array([-0.5]), np.array([1.0]))
    np.testing.assert_allclose(half.project(corner), [[-0.5, -0.5]])


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        pytest.param(
            np.zeros((3, 3)), r"K is \[\[0.0, 0.0", id="all zero, as an uncalibrated driver says"
        ),
        pytest.param(np.diag([-1.0, 1, 1]), r"K is \[\[-1.0", id="negative"),
        pytest.param(np.full((3, 3), np.nan), r"K is \[\[nan", id="nan"),
        pytest.param(
            np.array([[500.0, 0, np.nan], [0, 500, 240], [0, 0, 1]]),
            "expected finite numbers",
            id="no principal point",
        ),
        pytest.param(np.eye(4), r"shape \(4, 4\)", id="shape"),
    ],
)
def test_intrinsics_that_see_nothing_are_refused(bad: Any, words: str) -> None:
    with pytest.raises(FrameError, match=words):
        Intrinsics(K=bad, width=64, height=48)


def frame(**changes: Any) -> Frame:
    whole: dict[str, Any] = {
        "image": np.zeros((48, 64, 3), np.uint8),
        "stamp_ns": 1,
        "frame_id": "camera",
        "intrinsics": INTRINSICS,
        "depth_m": np.ones((48, 64), np.float32),
    }
    return Frame(**(whole | changes))


def test_a_frame_may_lack_depth_and_calibration() -> None:
    bare = frame(depth_m=None, intrinsics=None)
    assert bare.depth_m is None
    assert bare.intrinsics is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"image": np.zeros((48, 64), np.uint8)}, r"expected uint8 \(h, w, 3\)", id="grey"
        ),
        pytest.param({"image": np.zeros((48, 64, 4), np.uint8)}, "64, 4", id="four channels"),
        pytest.param({"image": np.zeros((48, 64, 3), np.float32)}, "float32", id="not bytes"),
        pytest.param(
            {"image": np.zeros((0, 64, 3), np.uint8), "intrinsics": None, "depth_m": None},
            "64 x 0",
            id="empty",
        ),
        pytest.param(
            {"intrinsics": Intrinsics(K=K, width=32, height=24)}, "of a 32 x 24 image", id="half K"
        ),
        pytest.param(
            {"depth_m": np.ones((24, 32), np.float32)},
            r"depth has shape \(24, 32\), expected \(48, 64\)",
            id="half depth",
        ),
        pytest.param(
            {"depth_m": np.ones((48, 64, 1), np.float32)},
            r"depth has shape \(48, 64, 1\)",
            id="depth with a channel",
        ),
    ],
)
def test_a_frame_whose_parts_do_not_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(FrameError, match=words):
        frame(**changes)


def test_a_frame_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        frame().stamp_ns = 2  # type: ignore[misc]
