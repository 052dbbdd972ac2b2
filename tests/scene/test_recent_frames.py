# SPDX-License-Identifier: Apache-2.0
"""The last seconds of a camera: thinned by stamps, bounded in time and bytes, never mixed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.recent_frames import RecentFrames

WIDTH, HEIGHT = 4, 2
PICTURE_BYTES = WIDTH * HEIGHT * 3


def frame(second: float, *, width: int = WIDTH, frame_id: str = "camera") -> Frame:
    return Frame(
        image=np.zeros((HEIGHT, width, 3), np.uint8),
        stamp_ns=round(second * 1e9),
        frame_id=frame_id,
    )


def filled(seconds: list[float], *, reach_s: float = 10.0, fps: float = 4.0, pictures: int = 100):
    ring = RecentFrames(seconds=reach_s, fps=fps, max_bytes=pictures * PICTURE_BYTES)
    for second in seconds:
        ring.add(frame(second))
    return ring


def kept(ring: RecentFrames, seconds: float = 1000.0) -> list[float]:
    return [round(one.stamp_ns / 1e9, 3) for one in ring.last(seconds)]


def test_of_a_fast_camera_so_many_a_second_are_kept():
    """30 a second for two seconds; a quarter of a second apart, give or take half a frame."""
    ring = filled([5 + number / 30 for number in range(61)])
    assert kept(ring) == [5.0, 5.133, 5.4, 5.633, 5.9, 6.133, 6.4, 6.633, 6.9]


def test_of_a_slow_camera_every_frame_is_kept():
    assert kept(filled([5, 6, 7.5, 9])) == [5, 6, 7.5, 9]


def test_a_camera_of_just_that_rate_whose_stamps_waver_is_not_halved():
    seconds = [5.0, 5.27, 5.49, 5.76, 5.98, 6.25]
    assert kept(filled(seconds)) == seconds


def test_what_is_older_than_the_reach_goes():
    assert kept(filled([5, 6, 7, 8, 9], reach_s=2.0)) == [7, 8, 9]


def test_what_is_over_the_bytes_goes_oldest_first():
    assert kept(filled([5, 6, 7, 8], pictures=2)) == [7, 8]


def test_a_picture_larger_than_the_bound_is_not_kept_and_breaks_nothing():
    ring = RecentFrames(seconds=5, fps=4, max_bytes=PICTURE_BYTES - 1)
    assert ring.add(frame(5))
    assert ring.last(10) == ()
    assert ring.add(frame(6))


def test_the_last_seconds_count_back_from_the_newest_frame():
    ring = filled([5, 6, 7, 8])
    assert kept(ring, seconds=1.0) == [7, 8]
    assert kept(ring, seconds=0.0) == [8]
    assert RecentFrames(seconds=1, fps=1, max_bytes=1).last(5) == ()


def test_repeated_and_late_frames_are_not_taken_in():
    ring = filled([5, 6])
    assert not ring.is_due(6_000_000_000)
    assert not ring.add(frame(6))
    assert not ring.add(frame(5.5))
    assert kept(ring) == [5, 6]


def test_a_camera_that_starts_again_begins_anew():
    ring = filled([50, 51, 52])
    assert ring.add(frame(3))
    assert kept(ring) == [3]


@pytest.mark.parametrize("other", [{"width": 5}, {"frame_id": "left"}], ids=["size", "camera"])
def test_another_camera_begins_anew_for_a_clip_is_of_one(other):
    ring = filled([5, 6])
    assert ring.add(frame(7, **other))
    assert kept(ring) == [7]


def test_a_gap_is_not_made_up_for_in_a_burst():
    """After three seconds of silence, two frames a tenth apart: one of them is kept."""
    assert kept(filled([5, 5.25, 8.25, 8.35, 8.5])) == [5, 5.25, 8.25, 8.5]


def test_depth_is_dropped_and_pictures_are_held_as_they_are():
    ring = filled([])
    taken = Frame(
        image=np.zeros((2, 4, 3), np.uint8),
        stamp_ns=1,
        frame_id="camera",
        depth_m=np.ones((2, 4), np.float32),
    )
    ring.add(taken)
    (held,) = ring.last(1)
    assert held.depth_m is None
    assert held.image is taken.image


def test_clearing_forgets_the_newest_stamp_too():
    ring = filled([5, 6])
    ring.clear()
    assert ring.last(100) == ()
    assert ring.is_due(5_000_000_000)


@settings(max_examples=200, deadline=None)
@given(
    gaps_ms=st.lists(st.integers(-3000, 3000), max_size=80),
    reach_s=st.floats(0.5, 5),
    fps=st.floats(0.5, 30),
    pictures=st.integers(1, 10),
)
def test_whatever_comes_the_bounds_hold_and_stamps_rise(gaps_ms, reach_s, fps, pictures):
    ring = RecentFrames(seconds=reach_s, fps=fps, max_bytes=pictures * PICTURE_BYTES)
    after_ms = 1_000_000
    for gap_ms in gaps_ms:
        after_ms += gap_ms
        was_due = ring.is_due(after_ms * 1_000_000)
        assert ring.add(frame(after_ms / 1000)) == was_due
        stamps = [one.stamp_ns for one in ring.last(1e9)]
        assert len(stamps) <= pictures
        assert stamps == sorted(set(stamps))
        assert not stamps or stamps[-1] - stamps[0] <= reach_s * 1e9
        # In any span of the reach there are no more than its steps, one early, one at its end.
        assert len(stamps) <= reach_s * fps + 2


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"fps": -1}, {"max_bytes": float("inf")}])
def test_a_ring_that_could_hold_nothing_or_everything_is_refused(wrong):
    arguments = {"seconds": 1.0, "fps": 1.0, "max_bytes": 10, **wrong}
    with pytest.raises(ConfigError, match="expected all of them positive and finite"):
        RecentFrames(**arguments)
