# SPDX-License-Identifier: Apache-2.0
"""A clip becomes the frames, sizes, patches and times that transformers' video processor makes.

That processor needs torchvision for two steps, resizing and normalising, and there is none here:
Pillow resizes in its place, as for still pictures, and normalising is torchvision's two lines. All
else that is compared is transformers' own.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.video_processing_utils import BaseVideoProcessor
from transformers.video_utils import VideoMetadata

from qwen3vl_ros.errors import ConfigError, FrameError
from qwen3vl_ros.image.video import patches_from_clip, resized_frame_size, sampled_indices
from qwen3vl_ros.image.video_config import (
    VideoConfig,
    load_video_config,
    video_config_from_dict,
)
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip

SECOND_NS = 1_000_000_000
RELEASED_FILE = {
    "video_processor_type": "Qwen3VLVideoProcessor",
    "size": {"shortest_edge": 4096, "longest_edge": 25165824},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
RELEASED = video_config_from_dict(RELEASED_FILE)
UNCAPPED = replace(RELEASED, cap_pixels_per_frame=False)
TINY = replace(
    RELEASED, max_pixels=2 * 76800, image_mean=(0.48, 0.46, 0.41), image_std=(0.27, 0.26, 0.28)
)


@functools.cache
def processor(config: VideoConfig) -> Qwen3VLVideoProcessor:
    return Qwen3VLVideoProcessor(
        size={"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels},
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
        cap_pixels_per_frame=config.cap_pixels_per_frame,
    )


@pytest.fixture
def without_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two steps of the processor that torchvision does."""

    def resize(self, image, size, resample=None, **_):
        pictures = image[0].permute(0, 2, 3, 1).numpy()
        resized = [
            np.asarray(Image.fromarray(one).resize((size.width, size.height), Image.BICUBIC))
            for one in pictures
        ]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)[None]

    def normalize(self, image, mean, std, inplace=False, **_):
        return image.sub(mean[:, None, None]).div_(std[:, None, None])

    monkeypatch.setattr(BaseVideoProcessor, "resize", resize)
    monkeypatch.setattr(BaseVideoProcessor, "normalize", normalize)


def clip_of(stamps_ns: list[int], *, width: int = 64, height: int = 48) -> Clip:
    rng = np.random.default_rng(len(stamps_ns))
    return Clip(
        frames=tuple(
            Frame(
                image=rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
                stamp_ns=stamp_ns,
                frame_id="camera",
            )
            for stamp_ns in stamps_ns
        )
    )


def even_stamps(frames: int, fps: float) -> list[int]:
    return [SECOND_NS + round(number * 1e9 / fps) for number in range(frames)]


@settings(max_examples=400, deadline=None)
@given(frames=st.integers(1, 3000), fps=st.sampled_from((1, 2, 5, 10, 15, 24, 29.97, 30, 60)))
def test_of_even_frames_those_are_chosen_that_transformers_chooses(frames, fps):
    metadata = VideoMetadata(total_num_frames=frames, fps=fps)
    theirs = processor(RELEASED).sample_frames(metadata)
    assert sampled_indices(even_stamps(frames, fps), RELEASED) == theirs.tolist()


@pytest.mark.parametrize(
    ("frames", "fps", "chosen"),
    [
        pytest.param(1, 30, 1, id="one frame is all there is"),
        pytest.param(3, 30, 3, id="fewer than the least"),
        pytest.param(31, 30, 4, id="a second, and still the least"),
        pytest.param(301, 30, 20, id="two a second"),
        pytest.param(20_000, 30, 768, id="no more than the most"),
    ],
)
def test_two_frames_a_second_are_chosen_between_both_caps(frames, fps, chosen):
    assert len(sampled_indices(even_stamps(frames, fps), RELEASED)) == chosen


@settings(max_examples=300, deadline=None)
@given(gaps_ms=st.lists(st.integers(1, 4000), min_size=1, max_size=60))
def test_of_uneven_frames_each_is_chosen_once_and_in_order(gaps_ms):
    stamps_ns = [SECOND_NS + int(after) * 1_000_000 for after in np.cumsum([0, *gaps_ms])]
    indices = sampled_indices(stamps_ns, RELEASED)
    assert indices == sorted(set(indices))
    assert (indices[0], indices[-1]) == (0, len(stamps_ns) - 1)
    mean_fps = len(gaps_ms) / (sum(gaps_ms) / 1000)
    wanted = int(len(stamps_ns) / mean_fps * 2 + 1e-6)
    assert len(indices) == min(max(wanted, 4), 768, len(stamps_ns))


def test_around_a_gap_the_frames_beside_it_step_in():
    """Ten frames in one second, none for two, then two; wanted are 0, 0.62, 1.24, ... 3.1 s."""
    stamps_ns = [round(second * 1e9) for second in (*np.arange(10) / 10, 3.0, 3.1)]
    assert sampled_indices(stamps_ns, RELEASED) == [0, 6, 8, 9, 10, 11]


@settings(max_examples=400, deadline=None)
@given(
    frames=st.integers(2, 768),
    height=st.integers(32, 2200),
    width=st.integers(32, 4000),
    config=st.sampled_from((RELEASED, UNCAPPED, TINY)),
)
def test_frames_are_resized_to_the_size_that_transformers_gives_them(
    frames, height, width, config
):
    rows, columns = resized_frame_size(frames, height, width, config)
    theirs = processor(config).get_num_of_video_patches(frames, height, width)
    assert -(-frames // 2) * (rows // 16) * (columns // 16) == theirs


def test_a_frame_smaller_than_a_token_is_enlarged_as_transformers_does():
    """20 x 30 pixels are scaled by 1.6 to 32 x 48; 48 is one token and a half, which is two."""
    assert resized_frame_size(2, 20, 30, RELEASED) == (32, 64)
    assert processor(RELEASED).get_num_of_video_patches(2, 20, 30) == 2 * 4


@pytest.mark.parametrize("config", [RELEASED, TINY], ids=["released", "tiny"])
@pytest.mark.parametrize(
    ("frames", "fps", "size"),
    [
        pytest.param(8, 2.0, (64, 48), id="even number, every frame"),
        pytest.param(9, 3.0, (96, 64), id="odd number, the last one twice"),
        pytest.param(60, 30.0, (50, 70), id="two seconds at camera rate"),
    ],
)
@pytest.mark.usefixtures("without_torchvision")
def test_patches_and_times_are_those_of_transformers_bit_for_bit(frames, fps, size, config):
    clip = clip_of(even_stamps(frames, fps), width=size[0], height=size[1])
    upstream = processor(config)
    indices = upstream.sample_frames(VideoMetadata(total_num_frames=frames, fps=fps))
    video = torch.from_numpy(np.stack([clip.frames[index].image for index in indices]))
    theirs = upstream.preprocess(
        [video.permute(0, 3, 1, 2)],
        do_sample_frames=False,
        do_convert_rgb=False,
        return_tensors="np",
    )
    ours = patches_from_clip(clip, config)
    np.testing.assert_array_equal(ours.patches.pixel_values, theirs["pixel_values_videos"])
    np.testing.assert_array_equal(ours.patches.grid_thw, theirs["video_grid_thw"])
    times_s = Qwen3VLProcessor._calculate_timestamps(None, indices, fps, 2)
    np.testing.assert_allclose(ours.times_s, times_s, atol=1e-9)


def test_times_are_of_the_stamps_and_not_of_a_rate():
    """Four frames at 0, 0.1, 1.9 and 2 s: two temporal patches, at 0.05 and 1.95 s."""
    clip = clip_of([round(second * 1e9) for second in (7, 7.1, 8.9, 9)])
    assert patches_from_clip(clip, RELEASED).times_s == (0.05, 1.95)


def test_one_frame_is_a_clip_of_one_temporal_patch():
    clip = patches_from_clip(clip_of([SECOND_NS]), RELEASED)
    assert clip.patches.grid_thw[0, 0] == 1
    assert clip.times_s == (0.0,)


def test_the_budget_of_a_frame_keeps_a_short_clip_from_costing_as_much_as_a_long_one():
    """Four frames of a 1080p camera: 2040 tokens a temporal patch without it, 720 with it."""
    tokens = [
        np.prod(resized_frame_size(4, 1080, 1920, config)) // 1024
        for config in (UNCAPPED, RELEASED)
    ]
    assert tokens == [2040, 720]


@settings(max_examples=200, deadline=None)
@given(
    frames=st.integers(1, 60),
    height=st.integers(20, 1080),
    width=st.integers(20, 4000),
    room=st.integers(30, 2000),
    tower=st.integers(1, 400),
)
def test_a_clip_takes_no_more_tokens_than_cache_and_tower_have_room_for(
    frames, height, width, room, tower
):
    rows, columns = resized_frame_size(
        frames, height, width, RELEASED, max_tokens=room, max_patch_tokens=tower
    )
    tokens = rows * columns // 1024
    assert 1 <= tokens <= tower
    assert -(-frames // 2) * tokens <= room


def test_more_frames_than_room_for_the_smallest_are_refused_with_both_numbers():
    with pytest.raises(FrameError, match=r"at least 10 visual tokens.*room for 9"):
        resized_frame_size(20, 480, 640, RELEASED, max_tokens=9)


def test_an_extreme_shape_is_refused_with_the_rule():
    with pytest.raises(FrameError, match=r"10000 x 40 pixels.*at most 200 times the other"):
        resized_frame_size(4, 40, 10_000, RELEASED)


def test_the_config_is_read_from_its_own_file_or_made_of_the_pictures_one(tmp_path: Path):
    pictures = {key: RELEASED_FILE[key] for key in RELEASED_FILE if key != "video_processor_type"}
    pictures["size"] = {"shortest_edge": 65536, "longest_edge": 16777216}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
    assert load_video_config(tmp_path) == RELEASED
    own = {**RELEASED_FILE, "fps": 4, "max_frames": 16, "cap_pixels_per_frame": False}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(own))
    assert load_video_config(tmp_path) == replace(UNCAPPED, fps=4.0, max_frames=16)


def test_a_directory_without_either_file_is_refused_by_the_name_it_lacks(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"preprocessor_config\.json"):
        load_video_config(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"video_processor_type": "Qwen2VLVideoProcessor"}, "Qwen3VL", id="another"),
        pytest.param({"do_sample_frames": False}, "do_sample_frames = False", id="no sampling"),
        pytest.param({"num_frames": 8}, "num_frames = 8", id="a fixed number"),
        pytest.param({"fps": 0}, "fps = 0.0", id="no frames a second"),
        pytest.param({"fps": "two"}, "garbles a number", id="a word"),
        pytest.param({"min_frames": 9, "max_frames": 8}, "min_frames = 9", id="crossed"),
        pytest.param({"resample": 2}, "resample = 2", id="another filter"),
        pytest.param({"patch_size": None}, "lacks or garbles", id="no patch size"),
        pytest.param(
            {"size": {"shortest_edge": 9000, "longest_edge": 8192}}, "9000 to 8192", id="budget"
        ),
    ],
)
def test_a_config_that_asks_for_another_preprocessing_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        video_config_from_dict({**RELEASED_FILE, **change})
