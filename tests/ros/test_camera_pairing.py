# SPDX-License-Identifier: Apache-2.0
"""Which moment the worker gets, as a story of arrivals; time stands still unless told to pass."""

from __future__ import annotations

import threading

import pytest
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from qwen3vl_ros.ros.camera_pairing import (
    MAX_DEPTHS,
    MAX_WAITING_IMAGES,
    CameraPairing,
    Moment,
    stamp_ns,
)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Story:
    """A pairing and the hands that feed it; stamps in milliseconds."""

    def __init__(self, *, depth: bool = True, camera_info: bool = False) -> None:
        self.clock = Clock()
        self.pairing = CameraPairing(slop_s=0.05, wait_s=0.1, clock=self.clock)
        self.pairing.expect(depth=depth, camera_info=camera_info)

    def image(self, *stamps_ms: int) -> None:
        for stamp_ms in stamps_ms:
            self.pairing.put_image(Image(header=header(stamp_ms)))

    def depth(self, *stamps_ms: int) -> None:
        for stamp_ms in stamps_ms:
            self.pairing.put_depth(Image(header=header(stamp_ms)))

    def take(self) -> tuple[int, int | None] | None:
        """Stamps of the image and depth taken, in milliseconds."""
        moment = self.pairing.take(timeout_s=0.0)
        if moment is None:
            return None
        depth = moment.depth and stamp_ns(moment.depth) // 1_000_000
        return stamp_ns(moment.image) // 1_000_000, depth


def header(stamp_ms: int) -> Header:
    message = Header()
    message.stamp.sec, message.stamp.nanosec = stamp_ms // 1000, stamp_ms % 1000 * 1_000_000
    return message


def test_the_newest_image_wins_and_the_overtaken_are_counted():
    story = Story(depth=False)
    story.image(10_000, 10_033, 10_066)
    assert story.take() == (10_066, None)
    assert story.take() is None
    counts = story.pairing.counts
    assert (counts.images, counts.taken, counts.overtaken) == (3, 1, 2)


@pytest.mark.parametrize(
    ("depths", "expected"),
    [
        pytest.param([10_000], 10_000, id="same stamp"),
        pytest.param([9_970, 10_020], 10_020, id="nearest of two"),
        pytest.param([10_050], 10_050, id="just within the slop"),
        pytest.param([9_960, 9_990, 10_030], 9_990, id="nearest is before"),
    ],
)
def test_depth_is_paired_by_nearest_stamp(depths, expected):
    story = Story()
    story.image(10_000)
    story.depth(*depths)
    assert story.take() == (10_000, expected)


def test_an_image_waits_for_its_depth_and_then_goes_without():
    story = Story()
    story.depth(9_900)
    story.image(10_000)
    assert story.take() is None
    story.clock.now += 0.11
    assert story.take() == (10_000, None)
    assert story.pairing.counts.without_depth == 1


def test_an_image_without_its_depth_says_how_far_off_the_nearest_one_is():
    story = Story()
    story.depth(800, 920)
    story.image(1000)
    story.clock.now += 0.2
    moment = story.pairing.take(timeout_s=0.0)
    assert moment is not None
    assert moment.depth is None
    assert moment.nearest_depth_off_s == pytest.approx(0.08)


def test_without_any_depth_held_there_is_no_distance_to_tell():
    story = Story()
    story.image(1000)
    story.clock.now += 0.2
    moment = story.pairing.take(timeout_s=0.0)
    assert moment is not None
    assert moment.nearest_depth_off_s is None


def test_an_earlier_depth_is_taken_only_when_no_better_one_comes_in_time():
    """Depth at -33 ms is within the slop, but the one of the image itself is still on its way."""
    story = Story()
    story.depth(9_967)
    story.image(10_000)
    assert story.take() is None
    story.clock.now += 0.11
    assert story.take() == (10_000, 9_967)


def test_nobody_waits_for_depth_that_nobody_publishes():
    story = Story(depth=False)
    story.image(10_000)
    assert story.take() == (10_000, None)
    assert story.pairing.counts.without_depth == 0


def test_depth_that_always_comes_two_frames_late_is_still_paired():
    """With only the newest image held, such a camera never had depth."""
    story = Story()
    story.image(10_000, 10_033, 10_066)
    story.depth(10_000)
    assert story.take() == (10_000, 10_000)
    story.depth(10_033)
    assert story.take() == (10_033, 10_033)


def test_a_fast_camera_whose_depth_has_died_is_not_starved():
    """Newer images must not push the wait of the first one on and on."""
    story = Story()
    taken = []
    for n in range(60):
        story.image(10_000 + 10 * n)
        taken.append(story.take())
        story.clock.now += 0.01
    assert len([moment for moment in taken if moment]) >= 5


def test_an_image_waits_for_the_first_calibration():
    story = Story(depth=False, camera_info=True)
    story.image(10_000)
    assert story.take() is None
    story.pairing.put_camera_info(CameraInfo(width=640))
    story.image(10_033)
    moment = story.pairing.take(timeout_s=0.0)
    assert moment is not None
    assert moment.camera_info is not None
    assert stamp_ns(moment.image) == stamp_ns(Image(header=header(10_033)))


@pytest.mark.parametrize(
    ("stamps", "expected", "count"),
    [
        pytest.param([10_000, 10_000], None, "duplicate", id="same stamp again"),
        pytest.param([10_000, 9_990], None, "out_of_order", id="older than one taken"),
        pytest.param([10_000, 10_010], (10_010, None), "taken", id="newer"),
        pytest.param([10_000, 2_000], (2_000, None), "time_jumps", id="the camera began again"),
    ],
)
def test_outputs_never_go_back_except_when_time_does(stamps, expected, count):
    story = Story(depth=False)
    story.image(stamps[0])
    assert story.take() == (10_000, None)
    story.image(*stamps[1:])
    assert story.take() == expected
    assert getattr(story.pairing.counts, count) >= 1


def test_images_without_stamps_are_no_duplicates_of_each_other():
    story = Story(depth=False)
    story.image(0)
    assert story.take() == (0, None)
    story.image(0)
    assert story.take() == (0, None)


def test_reset_drops_all_but_the_calibration():
    story = Story(camera_info=True)
    story.pairing.put_camera_info(CameraInfo(width=640))
    story.image(10_000)
    story.depth(10_000)
    story.pairing.reset()
    assert story.take() is None
    story.image(5_000)
    story.depth(5_000)
    moment = story.pairing.take(timeout_s=0.0)
    assert moment is not None
    assert moment.camera_info is not None
    assert stamp_ns(moment.image) == 5_000_000_000


def test_what_is_held_is_bounded_whatever_comes():
    story = Story()
    story.image(*range(10_000, 20_000, 10))
    story.depth(*range(100_000, 200_000, 100))
    held_images = story.pairing._images
    held_depths = story.pairing._depths
    assert len(held_images) <= MAX_WAITING_IMAGES
    assert len(held_depths) <= MAX_DEPTHS
    assert story.pairing.counts.overtaken == 1000 - len(held_images)


def test_taking_waits_for_the_next_image_and_no_longer():
    pairing = CameraPairing(slop_s=0.05, wait_s=0.1)
    got: list[Moment | None] = []
    taker = threading.Thread(target=lambda: got.append(pairing.take(timeout_s=30.0)))
    taker.start()
    pairing.put_image(Image(header=header(10_000)))
    taker.join(timeout=30.0)
    assert not taker.is_alive()
    assert got[0] is not None
