# SPDX-License-Identifier: Apache-2.0
"""What the tower is asked about how things stand to each other.

Three things seen from the front: a red box 1 m away, a blue box 2 m away, a red ball 3 m away, so
that of the boxes the blue one is next to the ball.
"""

from __future__ import annotations

import numpy as np

from qwen3vl_ros.offline.dense_targets import RELATED, TRAITS
from qwen3vl_ros.offline.pictures import related_of
from qwen3vl_ros.synthetic.known_objects import KnownObject
from qwen3vl_ros.synthetic.phrases import RELATIONS


def thing(name: str, *, u: float, away: float) -> KnownObject:
    return KnownObject(
        name=name,
        xyxy_norm1000=np.array([u - 50, 400, u + 50, 500]),
        bbox_3d=np.array([0, 0, away, 0.1, 0.1, 0.1, 0, 0, 0]),
    )


WORLD = (
    thing("red box", u=200, away=1.0),
    thing("blue box", u=500, away=2.0),
    thing("red ball", u=350, away=3.0),
)


def told(objects, relation, trait):
    related = related_of(objects).reshape(len(objects), len(RELATIONS), len(TRAITS))
    return related[:, RELATIONS.index(relation), TRAITS.index(trait)]


def test_the_one_of_a_group_that_a_relation_picks_is_told_from_the_others():
    for trait in ("red", "ball"):  # of the thing they are held against
        np.testing.assert_equal(told(WORLD, "next to", trait), [0, 1, np.nan])
        np.testing.assert_equal(told(WORLD, "left of", trait), [1, 0, np.nan])
        np.testing.assert_equal(told(WORLD, "right of", trait), [0, 1, np.nan])


def test_nobody_is_asked_about_a_relation_that_picks_nothing():
    # Both boxes stand in front of the ball, and nothing is blue but one of them.
    assert np.isnan(told(WORLD, "in front of", "ball")).all()
    assert np.isnan(told(WORLD, "next to", "blue")).all()
    assert np.isnan(related_of(WORLD[:1])).all()


def test_every_relation_to_every_trait_has_a_place_of_its_own():
    assert related_of(WORLD).shape == (3, RELATED)
    assert len(set(TRAITS)) == len(TRAITS)
