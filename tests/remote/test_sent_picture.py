# SPDX-License-Identifier: Apache-2.0
"""What is sent is what the model would see here: right pixels, right grid, right times."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.image.preprocess import PreprocessConfig, patches_from_image
from qwen3vl_ros.language.chat import Picture
from qwen3vl_ros.remote.remote_server import MAX_PIXELS, PictureFormat, RemoteServer
from qwen3vl_ros.remote.sent_picture import sight_from_view
from qwen3vl_ros.scene.camera import Frame, Intrinsics
from qwen3vl_ros.scene.clip import Clip

RELEASED = PreprocessConfig(
    patch_size=16,
    temporal_patch_size=2,
    merge_size=2,
    min_pixels=65536,
    max_pixels=16777216,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
)


def server(**settings) -> RemoteServer:
    return RemoteServer(base_url="http://localhost:8000/v1", model="tiny", **settings)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def picture_in(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("height", "width"),
    [(480, 848), (720, 1280), (400, 640), (480, 640), (33, 33), (1080, 1920), (50, 1000)],
)
def test_a_png_gives_the_server_the_patches_that_we_would_make(height, width):
    image = noise(height, width)
    (sent,) = sight_from_view(Frame(image=image, stamp_ns=0, frame_id="camera"), server()).pictures
    ours = patches_from_image(image, RELEASED)
    theirs = patches_from_image(picture_in(sent.data), RELEASED)  # its resize changes nothing
    assert sent.media_type == "image/png"
    assert (1, *sent.grid_hw) == tuple(ours.grid_thw[0])
    assert sent.image_tokens == len(ours.pixel_values) // 4
    np.testing.assert_array_equal(theirs.pixel_values, ours.pixel_values)


def test_a_full_hd_picture_is_not_shrunk_and_a_larger_one_is():
    sizes = {}
    for height, width in ((1080, 1920), (2160, 3840)):
        frame = Frame(image=np.zeros((height, width, 3), np.uint8), stamp_ns=0, frame_id="c")
        sizes[height] = picture_in(sight_from_view(frame, server()).pictures[0].data).shape[:2]
    assert sizes[1080] == (1088, 1920)
    assert sizes[2160][0] * sizes[2160][1] <= MAX_PIXELS


def test_a_jpeg_has_the_same_size_and_full_colour_resolution():
    frame = Frame(image=noise(480, 640), stamp_ns=0, frame_id="camera")
    (sent,) = sight_from_view(frame, server(picture_format=PictureFormat.JPEG)).pictures
    assert sent.media_type == "image/jpeg"
    assert sent.data.startswith(b"\xff\xd8")
    assert picture_in(sent.data).shape == (480, 640, 3)
    plain = np.zeros((480, 640, 3), np.uint8)
    plain[:, ::2] = (255, 0, 0)  # stripes of one pixel, which shared colour would blur
    (sent,) = sight_from_view(
        Frame(image=plain, stamp_ns=0, frame_id="camera"),
        server(picture_format=PictureFormat.JPEG, jpeg_quality=95),
    ).pictures
    assert np.abs(picture_in(sent.data).astype(int) - plain).mean() < 5


def test_quality_says_how_many_bytes_a_jpeg_takes():
    frame = Frame(image=noise(480, 640), stamp_ns=0, frame_id="camera")
    few, many = (
        sight_from_view(frame, server(picture_format=PictureFormat.JPEG, jpeg_quality=quality))
        for quality in (30, 95)
    )
    assert len(few.pictures[0].data) < len(many.pictures[0].data) / 2


def test_depth_and_calibration_change_nothing_that_is_sent():
    image = noise(64, 96)
    bare = Frame(image=image, stamp_ns=0, frame_id="camera")
    rich = Frame(
        image=image,
        stamp_ns=5,
        frame_id="camera",
        intrinsics=Intrinsics(K=np.eye(3), width=96, height=64),
        depth_m=np.ones((64, 96), np.float32),
    )
    assert sight_from_view(bare, server()) == sight_from_view(rich, server())


def test_a_picture_that_no_checkpoint_takes_is_refused():
    frame = Frame(image=np.zeros((10, 2001, 3), np.uint8), stamp_ns=0, frame_id="camera")
    with pytest.raises(FrameError, match="at most 200 times"):
        sight_from_view(frame, server())


def moment(time_s: float, *, grey: int = 0) -> Frame:
    return Frame(
        image=np.full((64, 64, 3), grey, np.uint8),
        stamp_ns=7_000_000_000 + round(time_s * 1e9),
        frame_id="camera",
    )


def clip(count: int, *, fps: float) -> Clip:
    """Frames whose grey level is their number."""
    return Clip(frames=tuple(moment(number / fps, grey=number) for number in range(count)))


def test_a_clip_is_sent_as_stills_with_their_own_times():
    sight = sight_from_view(clip(31, fps=10.0), server(clip_fps=1.0))
    assert [part.time_s for part in sight.parts] == pytest.approx([0.0, 1.5, 3.0])
    assert all(isinstance(part, Picture) for part in sight.parts)
    assert [picture_in(sent.data)[0, 0, 0] for sent in sight.pictures] == [0, 15, 30]


def test_a_clip_sends_no_more_stills_than_it_may():
    sight = sight_from_view(clip(101, fps=10.0), server(clip_max_stills=5))
    assert [picture_in(sent.data)[0, 0, 0] for sent in sight.pictures] == [0, 25, 50, 75, 100]


def test_stills_are_spread_over_time_however_uneven_the_frames():
    """A burst at the beginning once took most of the stills."""
    frames = (*clip(9, fps=10.0).frames, *(moment(s) for s in (2.0, 3.0, 4.0)))
    sight = sight_from_view(Clip(frames=frames), server(clip_max_stills=5))
    assert [part.time_s for part in sight.parts] == pytest.approx([0.0, 0.8, 2.0, 3.0, 4.0])


def test_a_clip_of_an_instant_still_shows_how_it_ends():
    """Of 0.7 s at 2 stills a second one was sent, and nothing moved in it."""
    sight = sight_from_view(clip(8, fps=10.0), server())
    assert [part.time_s for part in sight.parts] == pytest.approx([0.0, 0.7])


@pytest.mark.parametrize("count", [1, 2])
def test_a_short_clip_is_sent_with_what_it_has(count):
    sight = sight_from_view(clip(count, fps=1.0), server())
    assert len(sight.parts) == len(sight.pictures) == count


def test_stills_have_a_budget_of_their_own():
    frames = tuple(
        Frame(image=noise(480, 640), stamp_ns=stamp_ns, frame_id="camera")
        for stamp_ns in (0, 1_000_000_000)
    )
    sight = sight_from_view(Clip(frames=frames), server(clip_max_pixels=128 * 1024))
    assert all(sent.image_tokens <= 128 for sent in sight.pictures)
    assert all(
        part.grid_hw == sent.grid_hw
        for part, sent in zip(sight.parts, sight.pictures, strict=True)
    )
