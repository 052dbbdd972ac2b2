# SPDX-License-Identifier: Apache-2.0
"""Which shapes a plan takes: prompts up to the cache, and one window for every later pass."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from qwen3vl_ros.image.preprocess import preprocess_config_from_dict
from qwen3vl_ros.image.video import resized_frame_size
from qwen3vl_ros.image.video_config import video_config_from_dict
from qwen3vl_ros.model.local_model import SHARE_FOR_CLIPS
from qwen3vl_ros.offline.recipes import TokenRange, load_recipe, recipe_names
from qwen3vl_ros.offline.tensorrt_profiles import (
    DECODE,
    PREFILL,
    Lengths,
    lengths_of,
    profiles_of,
)
from qwen3vl_ros.runtime.manifest import ShapeRange

RELEASED = preprocess_config_from_dict(
    {
        "size": {"shortest_edge": 65536, "longest_edge": 16777216},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
)
VIDEOS = video_config_from_dict(
    {
        "size": {"shortest_edge": 4096, "longest_edge": 25165824},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
)
LENGTHS = Lengths(
    image_tokens=TokenRange(min=64, opt=300, max=1024),
    patches_per_token=4,
    cache_length=2048,
    decode_window=16,
)
DECODER = {
    "token_embeds": (-1, -1, 2048),
    "visual_rows": (-1, -1),
    "visual_embeds": (-1, 2048),
    "deepstack_embeds": (3, -1, 2048),
    "cached_tokens": (-1,),
    "output_rows": (-1,),
    "past_key_0": (-1, 8, 2048, 128),
}


def test_a_tower_takes_pictures_of_as_many_patches_as_their_tokens_have():
    (profile,) = profiles_of(
        "vision", {"pixel_values": (-1, -1, 1536), "rotary_cos": (-1, 32)}, LENGTHS
    )
    assert profile == {
        "pixel_values": ShapeRange(min=(1, 256, 1536), opt=(1, 1200, 1536), max=(1, 4096, 1536)),
        "rotary_cos": ShapeRange(min=(256, 32), opt=(1200, 32), max=(4096, 32)),
    }


def test_a_prompt_is_as_long_as_the_cache_at_most_and_holds_several_pictures():
    prefill = profiles_of("decoder", DECODER, LENGTHS)[PREFILL]
    assert prefill["token_embeds"] == ShapeRange(
        min=(1, 1, 2048), opt=(1, 364, 2048), max=(1, 2048, 2048)
    )
    assert prefill["deepstack_embeds"] == ShapeRange(
        min=(3, 1, 2048), opt=(3, 300, 2048), max=(3, 2048, 2048)
    )
    assert prefill["output_rows"] == ShapeRange(min=(1,), opt=(1,), max=(16,))


def test_a_later_pass_has_one_shape_only():
    decode = profiles_of("decoder", DECODER, LENGTHS)[DECODE]
    assert all(shapes.min == shapes.opt == shapes.max for shapes in decode.values())
    assert decode["token_embeds"].max == (1, 16, 2048)
    assert decode["visual_embeds"].max == (1, 2048)
    assert decode["past_key_0"].max == (1, 8, 2048, 128)


def test_a_head_takes_one_row_or_the_whole_window():
    (profile,) = profiles_of("lm_head", {"hidden_states": (-1, -1, 2048)}, LENGTHS)
    assert profile["hidden_states"] == ShapeRange(
        min=(1, 1, 2048), opt=(1, 1, 2048), max=(1, 16, 2048)
    )


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_gives_profiles_that_rise_for_released_checkpoints(name):
    lengths = lengths_of(load_recipe(name), RELEASED)
    assert lengths.image_tokens == load_recipe(name).image_tokens
    for graph, inputs in (("decoder", DECODER), ("lm_head", {"hidden_states": (-1, -1, 2048)})):
        for profile in profiles_of(graph, inputs, lengths):
            for shapes in profile.values():
                assert shapes.min <= shapes.opt <= shapes.max


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_takes_the_small_frames_of_a_long_clip(name):
    """Two frames go through the tower together, in as few tokens as the cache has left for them.

    A picture of a released checkpoint has 64 tokens at least; a minute of video has far fewer.
    """
    recipe = load_recipe(name)
    room = int(SHARE_FOR_CLIPS * recipe.cache_length)
    height, width = resized_frame_size(120, 480, 640, VIDEOS, max_tokens=room)
    tokens = height * width // VIDEOS.factor**2
    assert tokens < 64
    assert lengths_of(recipe, RELEASED).image_tokens.min <= tokens


def test_a_checkpoint_of_smaller_pictures_narrows_a_recipe():
    """The tiny checkpoint's pictures take 16 to 75 tokens, less than any recipe is tuned for."""
    file = Path("engines/tiny/checkpoint/preprocessor_config.json")
    tiny = preprocess_config_from_dict(json.loads((Path(__file__).parents[2] / file).read_text()))
    lengths = lengths_of(load_recipe("rtx-ada"), tiny)
    assert lengths.image_tokens == TokenRange(min=1, opt=75, max=75)


def test_a_recipe_is_not_widened_by_a_checkpoint_of_larger_pictures():
    recipe = dataclasses.replace(
        load_recipe("rtx-ada"), image_tokens=TokenRange(min=64, opt=64, max=64)
    )
    assert lengths_of(recipe, RELEASED).image_tokens == TokenRange(min=64, opt=64, max=64)
