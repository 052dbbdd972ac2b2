# SPDX-License-Identifier: Apache-2.0
"""A picture becomes patches bit for bit as transformers' PIL image processor makes them.

That is `Qwen2VLImageProcessorPil`, which transformers 5.23 picks where torchvision is missing;
the torchvision one stays within a grey level of it (compared once, by hand).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from qwen3vl_ros.errors import ConfigError, FrameError
from qwen3vl_ros.image.preprocess import (
    PreprocessConfig,
    load_preprocess_config,
    patches_from_image,
    preprocess_config_from_dict,
    smart_resize,
    with_pixel_budget,
)

RELEASED = PreprocessConfig(
    patch_size=16,
    temporal_patch_size=2,
    merge_size=2,
    min_pixels=65536,
    max_pixels=16777216,
    image_mean=(0.5, 0.5, 0.5),
    image_std=(0.5, 0.5, 0.5),
)
TINY = PreprocessConfig(
    patch_size=16,
    temporal_patch_size=2,
    merge_size=2,
    min_pixels=16384,
    max_pixels=76800,
    image_mean=(0.48, 0.46, 0.41),
    image_std=(0.27, 0.26, 0.28),
)
CONFIG_FILE = {
    "size": {"shortest_edge": 16384, "longest_edge": 76800},
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def patches_of_transformers(image: np.ndarray, config: PreprocessConfig):
    processor = Qwen2VLImageProcessorPil(
        size={"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels},
        patch_size=config.patch_size,
        temporal_patch_size=config.temporal_patch_size,
        merge_size=config.merge_size,
        image_mean=list(config.image_mean),
        image_std=list(config.image_std),
    )
    output = processor(image, return_tensors="np", input_data_format="channels_last")
    return output["pixel_values"], output["image_grid_thw"]


# Camera modes, width x height in and out, at the limits of the released checkpoints. Three of
# them lie on the half: 640x400, 848x480 and 1280x720 round to even, not up.
@pytest.mark.parametrize(
    ("camera", "resized"),
    [
        ((320, 240), (320, 256)),
        ((424, 240), (416, 256)),
        ((640, 360), (640, 352)),
        ((640, 400), (640, 384)),
        ((640, 480), (640, 480)),
        ((752, 480), (768, 480)),
        ((848, 480), (832, 480)),
        ((960, 540), (960, 544)),
        ((1024, 768), (1024, 768)),
        ((1280, 720), (1280, 704)),
        ((1280, 800), (1280, 800)),
        ((1600, 900), (1600, 896)),
        ((1920, 1080), (1920, 1088)),
        ((1920, 1200), (1920, 1216)),
        ((2448, 2048), (2432, 2048)),
        ((3840, 2160), (3840, 2176)),
        ((100, 100), (256, 256)),
        ((33, 33), (256, 256)),
        ((1, 1), (256, 256)),
        ((1, 200), (32, 3648)),
        ((8000, 6000), (4704, 3520)),
    ],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
def test_sizes_round_half_to_even_within_the_budget(camera, resized):
    width, height = smart_resize(
        camera[1], camera[0], factor=32, min_pixels=65536, max_pixels=16777216
    )[::-1]
    assert (width, height) == resized


def test_the_tiny_budget_makes_seventy_tokens_of_a_vga_picture():
    patches = patches_from_image(noise(640, 480), TINY)
    assert patches.grid_thw.tolist() == [[1, 14, 20]]
    assert patches.pixel_values.shape == (4 * 70, 1536)


@pytest.mark.parametrize(
    ("size", "config"),
    [
        ((320, 240), RELEASED),
        ((424, 240), RELEASED),
        ((640, 400), RELEASED),
        ((848, 480), RELEASED),
        ((1280, 720), RELEASED),
        ((33, 33), RELEASED),
        ((31, 257), RELEASED),
        ((1, 1), RELEASED),
        ((5, 1000), RELEASED),
        ((640, 480), TINY),
        ((480, 640), TINY),
        ((320, 224), TINY),
        ((33, 33), TINY),
        ((1919, 1081), TINY),
    ],
    ids=lambda value: f"{value[0]}x{value[1]}" if isinstance(value, tuple) else "",
)
def test_patches_are_those_of_transformers_bit_for_bit(size, config):
    image = noise(*size)
    pixel_values, grid_thw = patches_of_transformers(image, config)
    patches = patches_from_image(image, config)
    np.testing.assert_array_equal(patches.pixel_values, pixel_values)
    np.testing.assert_array_equal(patches.grid_thw, grid_thw)
    assert patches.pixel_values.dtype == np.float32
    assert patches.grid_thw.dtype == np.int64


@settings(max_examples=500, deadline=None)
@given(
    width=st.integers(33, 4000),
    height=st.integers(33, 3000),
    config=st.sampled_from((RELEASED, TINY)),
)
def test_every_size_of_picture_has_the_grid_of_transformers(width, height, config):
    budget = {"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels}
    theirs = Qwen2VLImageProcessorPil(size=budget, patch_size=16).get_number_of_image_patches(
        height, width
    )
    rows, columns = smart_resize(
        height, width, factor=32, min_pixels=config.min_pixels, max_pixels=config.max_pixels
    )
    assert rows * columns == theirs * 16 * 16


def test_the_largest_picture_is_cut_as_transformers_cuts_it():
    image = noise(4000, 3000)
    pixel_values, grid_thw = patches_of_transformers(image, RELEASED)
    patches = patches_from_image(image, RELEASED)
    np.testing.assert_array_equal(patches.grid_thw, grid_thw)
    np.testing.assert_array_equal(patches.pixel_values, pixel_values)


@pytest.mark.parametrize(
    ("asked", "budget"),
    [
        pytest.param({}, (16384, 76800), id="the checkpoint's"),
        pytest.param({"max_pixels": 32768}, (16384, 32768), id="smaller"),
        pytest.param({"max_pixels": 8192}, (8192, 8192), id="below its least"),
        pytest.param({"min_pixels": 65536}, (65536, 76800), id="larger"),
        pytest.param({"min_pixels": 90000}, (90000, 90000), id="above its most"),
        pytest.param({"min_pixels": 1024, "max_pixels": 1024}, (1024, 1024), id="one token"),
    ],
)
def test_another_budget_of_pixels_may_be_asked_for(asked, budget):
    given = {"min_pixels": None, "max_pixels": None, **asked}
    config = with_pixel_budget(TINY, **given, room_px=100 * 1024)
    assert (config.min_pixels, config.max_pixels) == budget


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"min_pixels": 5000, "max_pixels": 4000}, id="crossed"),
        pytest.param({"min_pixels": 1, "max_pixels": 1023}, id="no room for a token"),
        pytest.param({"min_pixels": None, "max_pixels": 103_000}, id="more than the tower takes"),
    ],
)
def test_a_budget_that_cannot_be_is_refused_with_the_engines(asked):
    with pytest.raises(ConfigError, match=r"from 1024 \(one image token\) to 102400"):
        with_pixel_budget(TINY, **asked, room_px=100 * 1024)


def test_four_rows_in_a_row_are_a_block_and_a_row_is_channel_time_y_x():
    """One pixel, at column 40 and row 18 of the green channel, in an image of 64x64."""
    config = PreprocessConfig(
        patch_size=16,
        temporal_patch_size=2,
        merge_size=2,
        min_pixels=1024,
        max_pixels=4096,
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
    )
    image = np.zeros((64, 64, 3), np.uint8)
    image[18, 40, 1] = 255
    values = patches_from_image(image, config).pixel_values
    # patch row 1, column 2: block (0, 1), inside it row 1, column 0
    row = (0 * 2 + 1) * 4 + 1 * 2 + 0
    first_frame = ((1 * 2 + 0) * 16 + 2) * 16 + 8
    assert np.argwhere(values).tolist() == [[row, first_frame], [row, first_frame + 256]]


def test_an_image_that_is_a_view_of_another_is_read_as_seen():
    whole = noise(300, 200)
    view = whole[::-1, 20:220, ::-1]
    np.testing.assert_array_equal(
        patches_from_image(view, TINY).pixel_values,
        patches_from_image(view.copy(), TINY).pixel_values,
    )


@pytest.mark.parametrize(
    "size", [(201, 1), (1, 201), (6500, 32), (0, 10), (10, 0)], ids=lambda s: f"{s[0]}x{s[1]}"
)
def test_an_extreme_or_empty_picture_is_refused(size):
    with pytest.raises(FrameError, match="crop it first"):
        patches_from_image(np.zeros((size[1], size[0], 3), np.uint8), TINY)


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3))],
    ids=["grey", "rgba", "float"],
)
def test_anything_but_rgb_bytes_is_refused(image):
    with pytest.raises(FrameError, match="expected uint8"):
        patches_from_image(image, TINY)


def test_the_config_is_read_from_a_directory_or_a_file(tmp_path: Path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(CONFIG_FILE))
    assert load_preprocess_config(tmp_path) == TINY
    assert load_preprocess_config(file) == TINY


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patch_size": None}, "patch_size"),
        ({"size": None}, "size"),
        ({"size": {"shortest_edge": 65536}}, "longest_edge"),
        ({"size": {"shortest_edge": 200, "longest_edge": 100}}, "room for one token"),
        ({"size": {"shortest_edge": 0, "longest_edge": 76800}}, "0 to 76800 pixels"),
        ({"image_mean": [0.5]}, "garbles"),
        ({"image_std": [0.5, 0.0, 0.5]}, "positive"),
        ({"merge_size": 0}, "positive"),
        ({"resample": 2}, "resample = 2, expected 3"),
        ({"do_normalize": False}, "do_normalize = False"),
        ({"rescale_factor": 1.0}, "rescale_factor"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_config_that_asks_for_something_else_is_refused(change, message):
    values = {**CONFIG_FILE, **change}
    with pytest.raises(ConfigError, match=message):
        preprocess_config_from_dict({k: v for k, v in values.items() if v is not None})


@pytest.mark.parametrize("text", [None, "{", "\xff"], ids=["missing", "cut", "no-json"])
def test_an_unreadable_config_file_is_a_config_error(tmp_path: Path, text):
    if text is not None:
        (tmp_path / "preprocessor_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match="cannot read the preprocessor config"):
        load_preprocess_config(tmp_path)
