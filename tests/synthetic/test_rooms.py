# SPDX-License-Identifier: Apache-2.0
"""What a rendered room says of itself is true: boxes, visibility, words, points, seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qwen3vl_ros.scene.geometry import points_in_frame
from qwen3vl_ros.synthetic.dataset import HELD_OUT_SEED, room_from_seed
from qwen3vl_ros.synthetic.lenses import random_lens
from qwen3vl_ros.synthetic.room_rendering import render_room
from qwen3vl_ros.synthetic.rooms import FLOORS, GAP_M, TRAINED_FLOORS, gap_m, random_room
from qwen3vl_ros.synthetic.shards import known_objects
from qwen3vl_ros.synthetic.solids import COLORS, SHAPES, mesh_of, random_solid

W, H = 160, 120
SEEDS = (0, 1, 2, 5)


@pytest.fixture(scope="module", params=SEEDS)
def taken(request):
    return room_from_seed(request.param, width=W, height=H)


@pytest.fixture(scope="module")
def many():
    """Thirty rooms and their pictures."""
    return [room_from_seed(seed, width=W, height=H) for seed in range(30)]


def corners_of(box):
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    return points_in_frame(box.T_frame_box, signs * box.size_m / 2)


def test_the_same_seed_gives_the_same_bytes(taken):
    first = room_from_seed(7, width=W, height=H)[2]
    again = room_from_seed(7, width=W, height=H)[2]
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    np.testing.assert_array_equal(first.solid_ids, again.solid_ids)
    assert not np.array_equal(first.image, taken[2].image)


def test_a_2d_box_holds_all_visible_pixels_of_its_solid_and_touches_them(taken):
    for index, seen in enumerate(taken[2].seen):
        rows, columns = np.nonzero(taken[2].solid_ids == index)
        assert seen.visible_px == len(rows)
        if len(rows):
            x1, y1, x2, y2 = seen.xyxy_px
            assert (columns.min(), rows.min()) == (x1, y1)
            assert (columns.max() + 1, rows.max() + 1) == (x2, y2)


def test_the_projection_of_a_3d_box_contains_the_2d_box(taken):
    _, lens, picture = taken
    for seen in picture.seen:
        if not seen.visible_px:
            continue
        # A lens bends edges: corners alone are not the outermost points of a box's picture.
        corners = corners_of(seen.box)
        shares = np.linspace(0, 1, 9)[:, None, None, None]
        between = (1 - shares) * corners[:, None] + shares * corners[None]
        pixels = lens.project(between.reshape(-1, 3)) + 0.5
        x1, y1, x2, y2 = seen.xyxy_px
        assert (pixels.min(axis=0) <= np.array([x1, y1]) + 1).all()
        assert (pixels.max(axis=0) >= np.array([x2, y2]) - 1).all()


def test_what_is_seen_of_a_solid_lies_within_its_3d_box(taken):
    _, lens, picture = taken
    for index, seen in enumerate(picture.seen):
        v, u = np.nonzero(picture.solid_ids == index)
        straight = lens.straightened(np.stack([u, v], axis=1).astype(float))
        depth = picture.depth_m[v, u].astype(float)[:, None]
        T = seen.box.T_frame_box
        local = (np.concatenate([straight, np.ones_like(depth)], axis=1) * depth - T[:3, 3]) @ T[
            :3, :3
        ]
        assert (np.abs(local) <= seen.box.size_m / 2 + 3e-3).all()


def test_visibility_is_the_share_of_the_solid_alone(many):
    """Counted again from a second picture in which nothing else stands, where no border cuts."""
    hidden = 0
    for room, lens, picture in many[:12]:
        for index, seen in enumerate(picture.seen):
            x1, y1, x2, y2 = seen.xyxy_px
            if seen.visible_px < 60 or min(x1, y1) == 0 or x2 == W or y2 == H:
                continue
            alone = render_room(replace(room, solids=(room.solids[index],), clutter=()), lens)
            a1, b1, a2, b2 = alone.seen[0].xyxy_px
            if min(a1, b1) == 0 or a2 == W or b2 == H:
                continue
            share = seen.visible_px / alone.seen[0].visible_px
            assert seen.visibility == pytest.approx(share, abs=0.06)
            hidden += share < 0.9
    assert hidden >= 3


def test_boxes_stand_upright_and_face_the_camera_as_nearly_as_they_can(taken):
    _, lens, picture = taken
    for seen in picture.seen:
        R = seen.box.T_frame_box[:3, :3]
        np.testing.assert_allclose((lens.T_world_camera[:3, :3] @ R)[:, 1], [0, 0, -1], atol=1e-9)
        assert R[0, 0] >= np.cos(np.pi / 4) - 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mesh_fills_its_box_and_does_not_leave_it(shape):
    for seed in range(5):
        solid = random_solid(np.random.default_rng(seed), shape=shape, color="red")
        vertices, triangles = mesh_of(solid)
        # A mug's handle reaches to its box as nearly as its tube allows.
        tolerance = 0.02 * solid.size_m.max() if shape == "mug" else 1e-6
        assert np.abs(vertices).max(axis=0) == pytest.approx(
            solid.size_m / 2, abs=tolerance + 1e-3
        )
        assert triangles.max() < len(vertices)


def test_solids_stand_apart_on_the_ground(many):
    for room, _, _ in many:
        for i, solid in enumerate(room.solids):
            assert solid.T_world_solid[2, 3] == pytest.approx(solid.size_m[2] / 2)
            assert all(gap_m(solid, other) > GAP_M for other in room.solids[:i])


def test_rooms_are_as_various_as_they_should_be(many):
    seen = [one for _, _, picture in many for one in picture.seen]
    assert {one.solid.shape for one in seen} == set(SHAPES)
    assert {one.solid.color for one in seen} == set(COLORS)
    assert {room.table_m is None for room, _, _ in many} == {True, False}
    names = [[solid.name for solid in room.solids] for room, _, _ in many]
    assert any(len(set(some)) < len(some) for some in names)  # two of a kind
    assert any(lens.distortion.any() for _, lens, _ in many)
    assert any(0 < one.visibility < 0.5 for one in seen)
    assert any(one.visible_px and one.xyxy_px[2] == W for one in seen)  # cut by the border
    assert any(one.solid.word and one.word_visibility > 0.9 for one in seen)
    assert {solid.pattern for room, _, _ in many for solid in room.solids} == {
        "plain",
        "striped",
        "checked",
    }


def test_nobody_looks_from_behind_a_wall(many):
    """Room 59 once was a picture of one grey plane."""
    for room, lens, picture in [*many, room_from_seed(59, width=W, height=H)]:
        eye = lens.T_world_camera[:2, 3]
        for axis in np.flatnonzero(np.isfinite(room.walls)):
            wall = room.walls[axis]
            assert eye[axis] < wall if wall > 0 else eye[axis] > wall
        assert any(seen.visible_px for seen in picture.seen)


def test_sizes_of_pictures_are_drawn_and_some_stand_upright():
    sizes = {
        (lens.intrinsics.width, lens.intrinsics.height)
        for lens in (random_lens(np.random.default_rng(seed)) for seed in range(80))
    }
    assert {(320, 240), (426, 240), (240, 320)} <= sizes


def test_one_kind_of_floor_is_kept_for_the_examination():
    kept = set(FLOORS) - set(TRAINED_FLOORS)

    def kinds(first: int, floors: tuple[str, ...]) -> set[str]:
        rooms = (random_room(np.random.default_rng(first + i), floors=floors) for i in range(40))
        return {room.surface.kind for room in rooms}

    assert kept == {"bricks"}
    assert kinds(0, TRAINED_FLOORS) == set(TRAINED_FLOORS)
    trained = [room_from_seed(seed, width=16, height=12)[0].surface.kind for seed in range(30)]
    held_out = [
        room_from_seed(HELD_OUT_SEED + seed, width=16, height=12)[0].surface.kind
        for seed in range(30)
    ]
    assert kept.isdisjoint(trained)
    assert kept <= set(held_out)


@pytest.mark.parametrize("seed", [4, 29, 51, 57])
def test_a_word_is_painted_where_it_is_said_to_be(seed):
    """The sign is white and its letters black, whatever the box's colour."""
    room, lens, picture = room_from_seed(seed, width=320, height=240)
    bare = tuple(replace(solid, word="") for solid in room.solids)
    unpainted = render_room(replace(room, solids=bare), lens)
    changed = (picture.image != unpainted.image).any(axis=2)
    signs = [seen for seen in picture.seen if np.isfinite(seen.word_xyxy_px).all()]
    assert signs
    outside = changed.copy()
    for seen in signs:
        x1, y1, x2, y2 = seen.word_xyxy_px.astype(int)
        bx1, by1, bx2, by2 = seen.xyxy_px
        assert bx1 <= x1 < x2 <= bx2
        assert by1 <= y1 < y2 <= by2
        # Seen from the side a sign is a slanted strip; grey edges of letters may be as before.
        assert changed[y1:y2, x1:x2].mean() > 0.25
        blur = int(np.ceil(3 * lens.blur_px)) + 1
        outside[y1 - blur : y2 + blur, x1 - blur : x2 + blur] = False
    assert not outside.any()


def test_only_words_that_can_be_read_are_asked_for():
    """Both signs of room 4 are seen from the side, narrower than they are high."""

    def painted_and_legible(seed: int) -> tuple[list[str], list[str]]:
        _, _, picture = room_from_seed(seed, width=320, height=240)
        seen = [one.solid.word for one in picture.seen if one.word_visibility > 0]
        known = [one.word for one in known_objects(picture) if one is not None]
        return sorted(filter(None, seen)), sorted(filter(None, known))

    assert painted_and_legible(4) == (["MILK", "SALT"], [])
    assert painted_and_legible(51) == (["TEA", "TOOLS"], ["TEA"])


def test_a_point_inside_is_on_the_solid_itself(many):
    """The middle of a ring is a hole; its point is not."""
    holes = 0
    for _, _, picture in many:
        for index, known in enumerate(known_objects(picture)):
            if known is None:
                continue
            u, v = known.uv_norm1000 * [W, H] / 1000
            assert picture.solid_ids[int(v), int(u)] == index
            x1, y1, x2, y2 = picture.seen[index].xyxy_px
            holes += picture.solid_ids[int((y1 + y2) / 2), int((x1 + x2) / 2)] != index
    assert holes >= 3
