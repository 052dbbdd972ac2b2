# SPDX-License-Identifier: Apache-2.0
"""A clip is frames of one camera in the order of their stamps; a few of them can stand for it."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip, evenly


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


@pytest.mark.parametrize(
    ("times_s", "count", "chosen_s"),
    [
        pytest.param((0, 1, 2, 3, 4), 3, (0, 2, 4), id="even"),
        pytest.param((0, 1, 2, 3, 4), 2, (0, 4), id="first and last"),
        pytest.param((0, 1), 2, (0, 1), id="all there are"),
        pytest.param((0, 1.0, 1.3, 2.0, 2.6, 4.0), 3, (0, 2.0, 4.0), id="nearest in time"),
        pytest.param((0, 0.1, 0.2, 0.3, 10), 4, (0, 0.2, 0.3, 10), id="late gap: none twice"),
        pytest.param((0, 9.7, 9.8, 9.9, 10), 4, (0, 9.7, 9.8, 10), id="early gap: none twice"),
    ],
)
def test_pictures_are_evenly_spread_in_time_and_none_is_shown_twice(times_s, count, chosen_s):
    stamps = [1_700_000_000_000_000_000 + round(s * 1e9) for s in times_s]
    chosen = evenly([frame(stamp) for stamp in stamps], count)
    assert [one.stamp_ns - stamps[0] for one in chosen] == [round(s * 1e9) for s in chosen_s]
