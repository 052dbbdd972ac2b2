# SPDX-License-Identifier: Apache-2.0
"""A clip is frames of one camera in the order of their stamps, or it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip


def frame(stamp_ns: int, *, width: int = 8, frame_id: str = "camera") -> Frame:
    return Frame(image=np.zeros((6, width, 3), np.uint8), stamp_ns=stamp_ns, frame_id=frame_id)


def test_a_clip_begins_with_its_first_frame_and_counts_seconds_from_there():
    clip = Clip(frames=(frame(5_000_000_000), frame(5_250_000_000), frame(7_000_000_000)))
    assert clip.stamp_ns == 5_000_000_000
    assert clip.times_s == (0.0, 0.25, 2.0)
    assert clip.duration_s == 2.0
    assert (clip.width, clip.height, clip.frame_id) == (8, 6, "camera")


def test_a_single_frame_is_a_clip_without_duration():
    assert Clip(frames=(frame(3),)).duration_s == 0.0


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        pytest.param((), "holds no frame", id="none"),
        pytest.param(
            (frame(1), frame(2, width=9)), "frame 2 of the clip is 9 x 6 pixels", id="another size"
        ),
        pytest.param(
            (frame(1), frame(2), frame(3, frame_id="left")),
            "frame 3 of the clip is of the camera 'left', expected 'camera'",
            id="another camera",
        ),
        pytest.param((frame(2), frame(2)), "has the stamp 2 ns, expected one after 2", id="twice"),
        pytest.param((frame(2), frame(1)), "has the stamp 1 ns, expected one after 2", id="back"),
    ],
)
def test_frames_that_are_no_clip_are_refused_by_number(frames, message):
    with pytest.raises(FrameError, match=message):
        Clip(frames=frames)
