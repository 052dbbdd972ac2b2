# SPDX-License-Identifier: Apache-2.0
"""Videos on disk become clips: with true times, within bounds, or a refusal that says why."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from qwen3vl_ros.commands import video_file
from qwen3vl_ros.commands.video_file import video_from_path
from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.image.video_config import ReleasedLooks
from qwen3vl_ros.scene.answers import Moment, Response, TimedBox
from qwen3vl_ros.scene.clip import Clip
from qwen3vl_ros.scene.detections import Query, Task

LOOKS = ReleasedLooks()
WIDTH, HEIGHT = 48, 32


def black(path: Path, *, width: int = WIDTH) -> None:
    assert cv2.imwrite(str(path), np.zeros((HEIGHT, width, 3), np.uint8))


def video(path: Path, *, frames: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Ten frames a second, each ten grey levels brighter than the one before."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, size)
    for number in range(frames):
        writer.write(np.full((size[1], size[0], 3), 10 * number % 256, np.uint8))
    writer.release()
    return path


def clip_of(path: Path, *, fps: float | None = None) -> Clip:
    return video_from_path(path, fps=fps, looks=LOOKS).clip


def test_a_folder_of_stamped_pictures_is_a_clip_with_those_stamps(tmp_path):
    """As a bag is unpacked: the names are stamps in nanoseconds."""
    stamps_ns = [1_700_000_000_000_000_000 + after for after in (0, 500_000_000, 2_000_000_000)]
    for stamp_ns in stamps_ns:
        black(tmp_path / f"{stamp_ns}.png")
    assert [frame.stamp_ns for frame in clip_of(tmp_path).frames] == stamps_ns


def test_a_folder_of_other_names_needs_a_rate(tmp_path):
    for name in ("a.png", "b.png"):
        black(tmp_path / name)
    with pytest.raises(FrameError, match="say --fps"):
        clip_of(tmp_path)
    assert [frame.stamp_ns for frame in clip_of(tmp_path, fps=4).frames] == [0, 250_000_000]


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_rate_that_is_none_is_named(tmp_path, rate):
    for name in ("a.png", "b.png"):
        black(tmp_path / name)
    with pytest.raises(FrameError, match="expected a positive number"):
        clip_of(tmp_path, fps=float(rate))


def test_of_a_file_those_frames_are_taken_that_the_model_looks_at(tmp_path):
    """Two a second and at least four: of 20 frames at 10 a second 0, 6, 13 and 19."""
    clip = clip_of(video(tmp_path / "video.avi", frames=20))
    assert [round(frame.stamp_ns * 1e-8) for frame in clip.frames] == [0, 6, 13, 19]
    assert [round(float(frame.image.mean()) / 10) for frame in clip.frames] == [0, 6, 13, 19]


def test_a_model_that_looks_otherwise_gets_others(tmp_path):
    path = video(tmp_path / "video.avi", frames=20)
    often = video_from_path(path, fps=None, looks=ReleasedLooks(fps=5.0)).clip
    assert len(often.frames) == 10
    few = video_from_path(path, fps=None, looks=ReleasedLooks(min_frames=1, max_frames=2)).clip
    assert [round(frame.stamp_ns * 1e-8) for frame in few.frames] == [0, 19]


def test_frames_that_nobody_looks_at_are_never_held(tmp_path):
    """A long video was once held twice as finely as it was looked at: 9.5 GB at 1920 x 1080."""
    size = (640, 480)
    path = video(tmp_path / "video.avi", frames=200, size=size)
    frame_bytes = size[0] * size[1] * 3
    tracemalloc.start()
    clip = clip_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(clip.frames) == 40
    # And the one in hand, as OpenCV has it and as we do.
    assert 40 * frame_bytes <= peak < 43 * frame_bytes


def test_many_large_frames_are_kept_smaller_and_boxes_are_told_in_the_files_pixels(
    tmp_path, monkeypatch
):
    path = video(tmp_path / "video.avi", frames=20, size=(320, 240))
    monkeypatch.setattr(video_file, "KEPT_BYTES", 4 * 320 * 240 * 3 // 4)
    of_file = video_from_path(path, fps=None, looks=LOOKS)
    clip = of_file.clip
    assert (clip.width, clip.height) == (160, 120)
    assert sum(frame.image.nbytes for frame in clip.frames) <= video_file.KEPT_BYTES
    assert of_file.scale_uv == (2.0, 2.0)
    box = TimedBox(time_s=1.0, xyxy_px=np.array([10.0, 20, 30, 40]), label="cup")
    response = Response(
        stamp_ns=0,
        frame_id="camera",
        query=Query(task=Task.TRACK, text="the cup"),
        value=(box,),
        complete=True,
        answer_text="",
    )
    (told,) = of_file.in_its_pixels(response).value
    np.testing.assert_array_equal(told.xyxy_px, [20, 40, 60, 80])


def test_what_fits_stays_as_it_is_and_moments_have_no_pixels(tmp_path):
    of_file = video_from_path(video(tmp_path / "video.avi", frames=5), fps=None, looks=LOOKS)
    assert (of_file.clip.width, of_file.scale_uv) == (WIDTH, (1.0, 1.0))
    response = Response(
        stamp_ns=0,
        frame_id="camera",
        query=Query(task=Task.LOCATE_MOMENT, text="it falls"),
        value=(Moment(start_s=0.0, end_s=1.0),),
        complete=True,
        answer_text="",
    )
    assert of_file.in_its_pixels(response) == response


def test_a_picture_of_another_size_is_named(tmp_path):
    black(tmp_path / "a.png")
    black(tmp_path / "b.png", width=64)
    with pytest.raises(FrameError, match="frame 2 of the clip is 64 x 32 pixels"):
        clip_of(tmp_path, fps=1)


def test_a_video_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FrameError, match="does not exist, expected a video file or a folder"):
        clip_of(tmp_path / "none.mp4")


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(FrameError, match="cannot read a video"):
        clip_of(tmp_path / "words.mp4")
