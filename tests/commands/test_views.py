# SPDX-License-Identifier: Apache-2.0
"""Files on disk become frames and clips: with their true times, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from qwen3vl_ros.commands.views import clip_from_path
from qwen3vl_ros.errors import FrameError


def black(path: Path) -> None:
    assert cv2.imwrite(str(path), np.zeros((32, 48, 3), np.uint8))


def test_a_folder_of_stamped_pictures_is_a_clip_with_those_stamps(tmp_path):
    """As a bag is unpacked: the names are stamps in nanoseconds."""
    stamps_ns = [1_700_000_000_000_000_000 + after for after in (0, 500_000_000, 2_000_000_000)]
    for stamp_ns in stamps_ns:
        black(tmp_path / f"{stamp_ns}.png")
    clip = clip_from_path(tmp_path, fps=None)
    assert [frame.stamp_ns for frame in clip.frames] == stamps_ns


def test_a_folder_of_other_names_needs_a_rate(tmp_path):
    for name in ("a.png", "b.png"):
        black(tmp_path / name)
    with pytest.raises(FrameError, match="say --fps"):
        clip_from_path(tmp_path, fps=None)
    clip = clip_from_path(tmp_path, fps=4)
    assert [frame.stamp_ns for frame in clip.frames] == [0, 250_000_000]


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_a_rate_that_is_none_is_named(tmp_path, rate):
    for name in ("a.png", "b.png"):
        black(tmp_path / name)
    with pytest.raises(FrameError, match="expected a positive number"):
        clip_from_path(tmp_path, fps=float(rate))


def test_a_video_file_has_its_own_times(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (48, 32))
    for grey in range(0, 200, 10):
        writer.write(np.full((32, 48, 3), grey, np.uint8))
    writer.release()
    clip = clip_from_path(path, fps=None)
    steps_s = np.diff([frame.stamp_ns for frame in clip.frames]) * 1e-9
    assert len(clip.frames) >= 7, "about twice the four looks of so short a video"
    np.testing.assert_allclose(steps_s % 0.1, 0, atol=1e-6)
    assert clip.frames[-1].stamp_ns * 1e-9 > 1.5


def test_a_video_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FrameError, match="does not exist, expected a video file or a folder"):
        clip_from_path(tmp_path / "none.mp4", fps=None)


def test_a_file_that_is_no_video_is_named(tmp_path):
    (tmp_path / "words.mp4").write_text("no video")
    with pytest.raises(FrameError, match="cannot read a video"):
        clip_from_path(tmp_path / "words.mp4", fps=None)
