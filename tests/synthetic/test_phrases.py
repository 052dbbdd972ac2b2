# SPDX-License-Identifier: Apache-2.0
"""Words mean one thing or are not used: groups, superlatives and relations of a small world.

Three things seen from the front: a red box on the left, 1 m away; a blue box in the middle, 2 m
away and twice as large in every direction; a red ball on the right, 3 m away.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qwen3vl_ros.synthetic.known_objects import KnownObject
from qwen3vl_ros.synthetic.phrases import (
    members,
    relation_phrases,
    superlative_of,
    superlative_phrases,
)


def thing(name: str, *, u: float, away: float, size: float, x: float = 0.0) -> KnownObject:
    box_3d = np.array([x, 0, away, size, size, size, 0, 0, 0])
    return KnownObject(
        name=name, xyxy_norm1000=np.array([u - 50, 400, u + 50, 500]), bbox_3d=box_3d
    )


WORLD = (
    thing("red box", u=200, away=1.0, size=0.1),
    thing("blue box", u=500, away=2.0, size=0.2),
    thing("red ball", u=800, away=3.0, size=0.15),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("red box", [0], id="name"),
        pytest.param("box", [0, 1], id="shape"),
        pytest.param("red object", [0, 2], id="color"),
        pytest.param("object", [0, 1, 2], id="anything"),
        pytest.param("green mug", [], id="absent"),
    ],
)
def test_a_group_holds_what_its_words_fit(words, expected):
    assert members(WORLD, words) == expected


@pytest.mark.parametrize(
    ("superlative", "expected"),
    [
        pytest.param(*pair, id=pair[0])
        for pair in (
            ("leftmost", 0), ("rightmost", 2), ("nearest", 0),
            ("farthest", 2), ("largest", 1), ("smallest", 0),
        )
    ],
)  # fmt: skip
def test_a_superlative_is_measured_as_a_person_would(superlative, expected):
    assert superlative_of(WORLD, [0, 1, 2], superlative) == expected


def test_a_superlative_needs_a_margin_and_company_that_shows_itself():
    close = (WORLD[0], replace(WORLD[1], xyxy_norm1000=WORLD[0].xyxy_norm1000 + 60), WORLD[2])
    assert superlative_of(close, [0, 1], "leftmost") is None
    assert superlative_of(WORLD, [0], "leftmost") is None
    peeping = (WORLD[0], replace(WORLD[1], askable=False), WORLD[2])
    assert superlative_of(peeping, [0, 1], "leftmost") is None


def test_superlatives_are_said_of_every_group_and_mean_one_thing():
    said = {phrase.text: phrase.index for phrase in superlative_phrases(WORLD)}
    assert said["nearest box"] == 0
    assert said["largest box"] == 1
    assert said["rightmost red object"] == 2
    assert said["largest object"] == 1
    assert not any(text.endswith("ball") for text in said)  # it is the only one


def test_a_relation_picks_one_of_a_group_by_its_place_to_a_thing_with_a_name():
    twins = (
        thing("green ball", u=200, away=1.0, size=0.1, x=-0.5),
        thing("green ball", u=800, away=1.5, size=0.1, x=0.5),
        thing("red box", u=500, away=1.2, size=0.1, x=-0.3),
    )
    said = {phrase.text: phrase.index for phrase in relation_phrases(twins)}
    assert said == {
        "green ball left of the red box": 0,
        "ball left of the red box": 0,
        "green ball right of the red box": 1,
        "ball right of the red box": 1,
        "green ball in front of the red box": 0,
        "ball in front of the red box": 0,
        "green ball behind the red box": 1,
        "ball behind the red box": 1,
        "green ball next to the red box": 0,
        "ball next to the red box": 0,
    }


def test_a_relation_that_nearly_holds_of_another_too_is_not_said():
    twins = (
        thing("green ball", u=200, away=1.0, size=0.1),
        thing("green ball", u=480, away=1.0, size=0.1),
        thing("red box", u=500, away=1.2, size=0.1),
    )
    said = {phrase.text for phrase in relation_phrases(twins)}
    assert not any("left of" in text for text in said)


def test_a_relation_to_a_thing_that_has_a_twin_is_not_said():
    anchors = (
        thing("green ball", u=100, away=1.0, size=0.1),
        thing("blue ball", u=900, away=1.0, size=0.1),
        thing("red box", u=400, away=1.2, size=0.1),
        thing("red box", u=600, away=1.2, size=0.1),
    )
    assert not [phrase for phrase in relation_phrases(anchors) if "red box" in phrase.text]
