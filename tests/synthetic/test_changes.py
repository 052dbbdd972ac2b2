# SPDX-License-Identifier: Apache-2.0
"""What moves, where to and when: moving rooms keep their ids, questions about them are true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qwen3vl_ros.language.time_answers import parse_moments
from qwen3vl_ros.scene.detections import Task
from qwen3vl_ros.synthetic.changes import direction_of, question_what_moved, question_when
from qwen3vl_ros.synthetic.known_objects import KnownObject
from qwen3vl_ros.synthetic.motion import moving_room_from_seed
from qwen3vl_ros.synthetic.room_rendering import render_room
from qwen3vl_ros.synthetic.rooms import GAP_M, gap_m
from qwen3vl_ros.synthetic.shards import known_objects

W, H = 160, 120


@pytest.fixture(scope="module", params=[0, 1, 2, 3])
def moving(request):
    return moving_room_from_seed(request.param, moves=2, width=W, height=H)


def test_a_solid_keeps_its_place_in_the_list_and_only_movers_move(moving):
    movers = {move.index for move in moving.moves}
    assert movers
    first, last = moving.room_at(0.0), moving.room_at(moving.times_s[-1])
    for index, (a, b) in enumerate(zip(first.solids, last.solids, strict=True)):
        assert a.name == b.name
        way = np.linalg.norm((a.T_world_solid - b.T_world_solid)[:2, 3])
        assert (way > 0.19) == (index in movers)


def test_a_move_begins_and_ends_when_it_is_said_to(moving):
    for move in moving.moves:
        times_s = (0.0, move.start_s, (move.start_s + move.end_s) / 2, move.end_s)
        first, start, middle, end = (
            moving.room_at(time_s).solids[move.index].T_world_solid[:2, 3] for time_s in times_s
        )
        assert np.array_equal(start, first)
        np.testing.assert_allclose(end, move.to_xy)
        np.testing.assert_allclose(middle, (first + move.to_xy) / 2)
        assert {move.start_s, move.end_s} <= set(moving.times_s)


def test_nothing_collides_on_its_way(moving):
    for time_s in moving.times_s:
        solids = moving.room_at(time_s).solids
        for i, solid in enumerate(solids):
            assert all(gap_m(solid, other) > 0.5 * GAP_M for other in solids[:i])


def test_every_frame_has_its_own_truth_and_its_own_noise(moving):
    move = moving.moves[0]
    indices = [0, len(moving.times_s) - 1]
    pictures = [render_room(moving.room_at(moving.times_s[i]), moving.lens_at(i)) for i in indices]
    centers = [picture.seen[move.index].box.center_m for picture in pictures]
    assert np.linalg.norm(centers[1] - centers[0]) > 0.19
    assert not np.array_equal(pictures[0].image, pictures[1].image)


def test_the_same_seed_moves_the_same():
    first, again = (moving_room_from_seed(3, width=W, height=H) for _ in range(2))
    assert [(m.index, m.start_s, m.end_s) for m in first.moves] == [
        (m.index, m.start_s, m.end_s) for m in again.moves
    ]


def test_when_something_moves_is_said_in_seconds_that_can_be_read():
    asked = 0
    for seed in range(6):
        moving = moving_room_from_seed(seed, width=W, height=H)
        known = known_objects(render_room(moving.room, moving.lens))
        question = question_when(moving, known)
        if question is None:
            continue
        asked += 1
        move = moving.moves[0]
        assert question.query.task is Task.LOCATE_MOMENT
        assert question.query.text == f"the {moving.room.solids[move.index].name} moves"
        reading = parse_moments(
            question.answer, duration_s=moving.times_s[-1], max_objects=3, ended=True
        )
        (moment,) = reading.value
        assert (moment.start_s, moment.end_s) == (move.start_s, move.end_s)
    assert asked >= 3


def thing(name: str, u: float, away: float) -> KnownObject:
    return KnownObject(
        name=name,
        xyxy_norm1000=np.array([u - 40, 300, u + 40, 400]),
        bbox_3d=np.array([0, 0, away, 0.1, 0.1, 0.1, 0, 0, 0]),
    )


@pytest.mark.parametrize(
    ("u", "away", "expected"),
    [
        pytest.param(200, 1.0, "to the left", id="left"),
        pytest.param(700, 2.0, "to the right", id="sideways-goes-before-depth"),
        pytest.param(510, 0.8, "nearer", id="nearer"),
        pytest.param(490, 1.3, "farther away", id="farther"),
        pytest.param(520, 1.02, None, id="hardly"),
    ],
)
def test_a_direction_has_a_name_or_none(u, away, expected):
    before, after = thing("red ball", 500, 1.0), thing("red ball", u, away)
    assert direction_of(before, after) == expected


def test_what_moved_is_said_only_of_what_a_person_could_tell():
    before = [thing("red ball", 500, 1.0), thing("blue box", 200, 1.0)]
    after = [thing("red ball", 200, 1.0), before[1]]
    question = question_what_moved(before, after, 0)
    assert question.words == "The red ball moved to the left."
    assert question.query.task is Task.COMPARE
    assert question_what_moved(before, before, None).words == "Nothing moved."
    assert question_what_moved(before, [None, before[1]], 0) is None
    hidden = [replace(after[0], askable=False), before[1]]
    assert question_what_moved(before, hidden, 0) is None
    twins = [before[0], replace(before[1], name="red ball")]
    assert question_what_moved(twins, [after[0], twins[1]], 0) is None
