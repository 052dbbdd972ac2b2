# SPDX-License-Identifier: Apache-2.0
"""Cached pictures are those of their seeds, and say of their objects what the renderer said."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.image.preprocess import preprocess_config_from_dict
from qwen3vl_ros.synthetic import shards
from qwen3vl_ros.synthetic.dataset import room_from_seed, scene_from_seed
from qwen3vl_ros.synthetic.rooms import random_room
from qwen3vl_ros.synthetic.shards import (
    PLAIN_EVERY,
    SIGNS_AFTER,
    cache_pictures,
    known_objects,
    known_of_row,
    read_shards,
    row_of_picture,
)

CONFIG = preprocess_config_from_dict(
    {
        "size": {"shortest_edge": 16384, "longest_edge": 76800},
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
)
COUNT = 4


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD", COUNT)
        assert list(cache_pictures(directory, count=COUNT, config=CONFIG, processes=1)) == [0, 4]
        assert list(cache_pictures(directory, count=COUNT, config=CONFIG, processes=1)) == [4]
        return read_shards(directory, count=COUNT)


def test_a_cached_picture_is_that_of_its_seed_and_every_fourth_is_of_a_plain_scene(cached):
    images = {image.tobytes() for shard in cached.values() for image in shard.images}
    assert len(images) == COUNT
    for seed in range(COUNT):
        after_plain = (seed + 1) % PLAIN_EVERY
        signs = after_plain == SIGNS_AFTER
        picture = (
            scene_from_seed(seed)[2] if after_plain == 0 else room_from_seed(seed, signs=signs)[2]
        )
        assert row_of_picture(picture, CONFIG)["images"].tobytes() in images


def test_a_room_with_signs_is_mostly_boxes_with_words_and_else_like_any_room():
    rooms = [
        [random_room(np.random.default_rng(seed), signs=signs) for seed in range(40)]
        for signs in (False, True)
    ]
    for some, least, most in zip(rooms, (0.0, 0.6), (0.3, 1.0), strict=True):
        solids = [solid for room in some for solid in room.solids]
        boxes = [solid for solid in solids if solid.shape == "box"]
        assert least < len(boxes) / len(solids) < most
    labelled = [sum(bool(s.word) for room in some for s in room.solids) for some in rooms]
    assert labelled[1] > 4 * labelled[0]


def test_a_row_says_what_was_known(cached):
    picture = room_from_seed(1)[2]
    row = row_of_picture(picture, CONFIG)
    for index, known in enumerate(known_objects(picture)):
        if known is None:
            assert row["colors"][index] == -1
            assert not row["coverage"][index].any()
            continue
        told = known_of_row(
            shape=int(row["shapes"][index]),
            color=int(row["colors"][index]),
            word=int(row["words"][index]),
            asked=bool(row["asked"][index]),
            flat_norm1000=row["flat_norm1000"][index],
            bbox_3d=row["bbox_3d"][index],
        )
        assert (told.name, told.askable, told.word) == (known.name, known.askable, known.word)
        np.testing.assert_allclose(told.xyxy_norm1000, known.xyxy_norm1000, rtol=1e-5)
        np.testing.assert_allclose(told.uv_norm1000, known.uv_norm1000, rtol=1e-5)
        np.testing.assert_allclose(told.bbox_3d, known.bbox_3d, atol=1e-5)


def test_coverage_is_the_share_of_a_token_that_an_object_fills():
    picture = room_from_seed(1, width=320, height=224)[2]  # as the model sees it: no resize
    coverage = row_of_picture(picture, CONFIG)["coverage"]
    for index, seen in enumerate(picture.seen):
        mask = (picture.solid_ids == index).reshape(7, 32, 10, 32)
        np.testing.assert_allclose(coverage[index], mask.mean(axis=(1, 3)), atol=1e-3)
        assert (coverage[index] > 0).any() == (seen.visible_px > 0)
