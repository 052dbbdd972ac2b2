# SPDX-License-Identifier: Apache-2.0
"""Which picture belongs to which seed, and what in it is worth asking about.

Knows both kinds of pictures: rooms, and the plain scenes of the synthetic camera.

Seeds: training pictures count up from 0, those watched while training from `WATCHED_SEED`, those
of every evaluation from `HELD_OUT_SEED`; they never meet. A third of the held-out floors are of a
kind that no training room has.
"""

from __future__ import annotations

import numpy as np

from ..scene.geometry import inverse, points_in_frame
from .lenses import Lens, random_lens
from .rendering import Rendered, render
from .room_rendering import RoomPicture, render_room
from .rooms import FLOORS, TRAINED_FLOORS, Room, random_room
from .scenes import CameraView, Scene, random_scene, random_view
from .upright_boxes import bbox_3d_of as bbox_3d_of

WATCHED_SEED = 10_000_000
HELD_OUT_SEED = 20_000_000
ROOMS = 1  # the stream that rooms draw from; a room is not the plain scene of its seed
MIN_VISIBLE_SHARE = 0.0012  # of the picture's area; smaller ones are not asked about
MIN_VISIBILITY = 0.45
AIMS = 20  # cameras that are tried before one that sees little is taken
# Camera modes of plain scenes and how often each is drawn. Most scenes are rendered at half the
# camera's size: the model sees 320 columns either way, and rendering costs by the pixel.
MODES: tuple[tuple[tuple[int, int], float], ...] = (
    ((320, 240), 0.70),
    ((640, 480), 0.10),
    ((426, 240), 0.20),
)


def scene_from_seed(
    seed: int, *, width: int | None = None, height: int | None = None
) -> tuple[Scene, CameraView, Rendered]:
    """The scene, camera and picture of a seed; the camera mode is drawn too unless given."""
    rng = np.random.default_rng(seed)
    scene = random_scene(rng)
    mode = MODES[rng.choice(len(MODES), p=[share for _, share in MODES])][0]
    if width is not None and height is not None:
        mode = (width, height)
    view = random_view(rng, width=mode[0], height=mode[1])
    return scene, view, render(scene, view, noise_seed=seed)


def room_from_seed(
    seed: int, *, width: int | None = None, height: int | None = None, signs: bool = False
) -> tuple[Room, Lens, RoomPicture]:
    """The room, camera and picture of a seed; the camera's size is drawn too unless given."""
    rng = np.random.default_rng([ROOMS, seed])
    floors = FLOORS if seed >= HELD_OUT_SEED else TRAINED_FLOORS
    room = random_room(rng, floors=floors, signs=signs)
    lens = aimed_lens(room, rng, width=width, height=height)
    return room, lens, render_room(room, lens)


def aimed_lens(
    room: Room, rng: np.random.Generator, *, width: int | None = None, height: int | None = None
) -> Lens:
    """A random camera that has more than half of the solids' centres in its picture, or the best
    of `AIMS`."""
    lenses = [random_lens(rng, width=width, height=height)]
    for _ in range(AIMS - 1):
        if 2 * _in_sight(room, lenses[-1]) > len(room.solids):
            return lenses[-1]
        lenses.append(random_lens(rng, width=width, height=height))
    return max(lenses, key=lambda lens: _in_sight(room, lens))


def _in_sight(room: Room, lens: Lens) -> int:
    """Number of solids with their centre in the picture; none from behind a wall."""
    eye = lens.T_world_camera[:2, 3]
    if (np.where(room.walls > 0, eye > room.walls, eye < room.walls)).any():
        return 0
    centers = np.stack([solid.T_world_solid[:3, 3] for solid in room.solids])
    pixels = lens.project(points_in_frame(inverse(lens.T_world_camera), centers))
    size = (lens.intrinsics.width, lens.intrinsics.height)
    return int(((pixels > 0) & (pixels < size)).all(axis=1).sum())


def is_worth_asking(picture: Rendered | RoomPicture, index: int) -> bool:
    """Whether a solid shows enough of itself to be asked about."""
    seen = picture.truth[index] if isinstance(picture, Rendered) else picture.seen[index]
    area = picture.depth_m.size
    return seen.visible_px >= MIN_VISIBLE_SHARE * area and seen.visibility >= MIN_VISIBILITY
