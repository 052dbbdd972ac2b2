# SPDX-License-Identifier: Apache-2.0
"""Room and lens → picture, depth and truth, by ray casting (Open3D RaycastingScene).

Knows no questions. Sun with soft shadows, lambertian surfaces (`surfaces.py`), and what a cheap
camera adds; no global illumination. Colours are computed linear and written as sRGB.

Boxes in the picture are measured from the image's corner, as Qwen3-VL's are: a solid that covers
the columns 3 to 7 has x from 3 to 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from ..scene.geometry import OrientedBox, inverse, points_in_frame
from .lenses import Lens
from .rooms import Block, Room
from .solids import Mesh, Solid, mesh_of
from .surfaces import sign_corners, solid_albedo, surface_albedo, word_pixels
from .upright_boxes import upright_box

try:
    import open3d as o3d
except ImportError as error:  # pragma: no cover - the synthetic room is useless without it
    raise MissingDependency(
        "open3d",
        needed_for="rendering synthetic scenes",
        install="make setup (or pip install -r requirements/runtime.txt)",
    ) from error

Array = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]

OUTDOORS = np.array([0.55, 0.60, 0.66])  # linear RGB where there is nothing
FLOOR_REACH_M = 8.0
TABLE_THICKNESS_M = 0.03


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """Truth about one solid in one picture.

    Attributes:
        solid: the solid.
        box: in the camera optical frame, metres.
        xyxy_px: (4,) float64, around its visible pixels; NaN when none are.
        visible_px: number of visible pixels.
        visibility: visible share of its outline, inside and outside the picture, 0 to 1.
        word_xyxy_px: (4,) float64, around the visible pixels of its painted word; NaN without.
        word_visibility: share of the painted sign that is seen, 0 to 1.
    """

    solid: Solid
    box: OrientedBox
    xyxy_px: Array
    visible_px: int
    visibility: float
    word_xyxy_px: Array
    word_visibility: float


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomPicture:
    """A picture of a room and the truth about it.

    Attributes:
        image: (h, w, 3) uint8, RGB.
        depth_m: (h, w) float32, metres along z; NaN where there is nothing.
        solid_ids: (h, w) int32, index into `seen`, -1 elsewhere.
        seen: one per solid of the room, in its order.
    """

    image: npt.NDArray[np.uint8]
    depth_m: Floats
    solid_ids: npt.NDArray[np.int32]
    seen: tuple[Seen, ...]


def render_room(room: Room, lens: Lens) -> RoomPicture:
    """The picture a camera takes of a room; the same arguments give the same bytes."""
    w, h = lens.intrinsics.width, lens.intrinsics.height
    world, kinds = _world(room)
    rays = lens.rays()
    hits = world.cast_rays(o3d.core.Tensor.from_numpy(rays), nthreads=1)
    depth = hits["t_hit"].numpy()
    hit = np.isfinite(depth)
    points = rays[hit, :3] + depth[hit, None] * rays[hit, 3:]
    ids = hits["geometry_ids"].numpy()[hit].astype(np.int64)
    normals = hits["primitive_normals"].numpy()[hit]
    # The backs of walls and of cut surfaces are lit like their fronts.
    normals = np.where((normals * rays[hit, 3:]).sum(1, keepdims=True) > 0, -normals, normals)
    albedo, words = _albedo(room, points, ids, kinds)
    radiance = np.tile(OUTDOORS.astype(np.float32), (h * w, 1))
    radiance[hit] = albedo * _light(room, world, points, normals, lens.noise_seed)
    depth = np.where(hit, depth, np.float32(np.nan))
    solid_ids, word_ids = np.full((2, h * w), -1, np.int32)
    first = len(kinds) - len(room.solids)
    solid_ids[hit] = np.maximum(ids - first, -1)
    word_ids[hit] = np.where(words, ids - first, -1)
    pixels = (solid_ids.reshape(h, w), word_ids.reshape(h, w))
    return RoomPicture(
        image=_developed((radiance * room.light.tint.astype(np.float32)).reshape(h, w, 3), lens),
        depth_m=depth.reshape(h, w).astype(np.float32),
        solid_ids=pixels[0],
        seen=tuple(_seen(solid, i, pixels, lens) for i, solid in enumerate(room.solids)),
    )


def _world(room: Room) -> tuple[o3d.t.geometry.RaycastingScene, list[str]]:
    """All there is to hit, and what each geometry id is; the solids come last."""
    reach, floor_z = FLOOR_REACH_M, room.floor_z
    parts: list[tuple[str, Mesh]] = []
    if room.table_m is None:
        parts.append(("surface", _cuboid((-reach, -reach, -0.01), (reach, reach, 0.0))))
    else:
        x, y = room.table_m
        parts.append(("surface", _cuboid((-x, -y, -TABLE_THICKNESS_M), (x, y, 0.0))))
        parts.append(("floor", _cuboid((-reach, -reach, floor_z - 0.01), (reach, reach, floor_z))))
    for axis in np.flatnonzero(np.isfinite(room.walls)):
        low, high = np.array([-reach, -reach, floor_z]), np.array([reach, reach, 3.0])
        low[axis] = high[axis] = room.walls[axis]
        (high if room.walls[axis] > 0 else low)[axis] *= 1.01
        parts.append(("wall", _cuboid(low, high)))
    parts += [("clutter", _cuboid(block.low, block.high)) for block in room.clutter]
    parts += [("solid", _placed(mesh_of(solid), solid.T_world_solid)) for solid in room.solids]
    world = o3d.t.geometry.RaycastingScene(nthreads=1)
    for _, (vertices, triangles) in parts:
        world.add_triangles(
            o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(triangles)
        )
    return world, [kind for kind, _ in parts]


def _cuboid(low: npt.ArrayLike, high: npt.ArrayLike) -> Mesh:
    low, high = np.asarray(low, float), np.asarray(high, float)
    mesh = o3d.geometry.TriangleMesh.create_box(*(high - low))
    mesh.translate(low)
    return np.asarray(mesh.vertices, np.float32), np.asarray(mesh.triangles).astype(np.uint32)


def _placed(mesh: Mesh, T_world_solid: Array) -> Mesh:
    return points_in_frame(T_world_solid, mesh[0].astype(float)).astype(np.float32), mesh[1]


def _albedo(
    room: Room, points: Floats, ids: npt.NDArray[np.int64], kinds: list[str]
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """(N, 3) linear RGB of what was hit, and whether it is a painted word, (N,)."""
    albedo = np.empty((len(points), 3), np.float32)
    words = np.zeros(len(points), bool)
    solids, blocks = iter(room.solids), iter(room.clutter)
    for index, kind in enumerate(kinds):
        of_block: Block | None = next(blocks) if kind == "clutter" else None
        of_solid: Solid | None = next(solids) if kind == "solid" else None
        mine = np.flatnonzero(ids == index)
        if not len(mine):
            continue
        if of_solid is not None:
            local = points_in_frame(inverse(of_solid.T_world_solid), points[mine].astype(float))
            albedo[mine] = solid_albedo(of_solid, local)
            words[mine] = word_pixels(of_solid, local)
        elif of_block is not None:
            albedo[mine] = of_block.albedo
        elif kind == "wall":
            albedo[mine] = room.wall_albedo
        else:
            surface = room.floor if kind == "floor" and room.floor else room.surface
            albedo[mine] = surface_albedo(surface, points[mine])
    return albedo, words


def _light(
    room: Room,
    world: o3d.t.geometry.RaycastingScene,
    points: Floats,
    normals: Floats,
    seed: int,
) -> Floats:
    """(N, 1): light from everywhere, and sunlight where nothing stands in its way."""
    sun = room.light.direction.astype(np.float32)
    rng = np.random.default_rng([seed, 1])
    towards = sun + np.float32(room.light.softness) * rng.standard_normal(
        (len(points), 3), dtype=np.float32
    )
    rays = np.concatenate([points + np.float32(2e-3) * normals, towards], axis=1)
    shaded = world.test_occlusions(o3d.core.Tensor.from_numpy(rays), nthreads=1).numpy()
    # One by one, not as a matrix product: BLAS rounds by the shape of the whole.
    facing = np.maximum((normals * sun).sum(axis=1), 0) * ~shaded
    ambient = np.float32(room.light.ambient)
    # What faces up is brighter than what faces sideways, even in shadow.
    sky = ambient * (np.float32(0.75) + np.float32(0.25) * normals[:, 2])
    return np.asarray((sky + (1 - ambient) * facing)[:, None], np.float32)


def _developed(radiance: Floats, lens: Lens) -> npt.NDArray[np.uint8]:
    """(h, w, 3) sRGB of linear light, as the sensor has it."""
    h, w = radiance.shape[:2]
    if lens.blur_px:
        radiance = cv2.GaussianBlur(radiance, (0, 0), lens.blur_px)
    v, u = np.mgrid[0:h, 0:w].astype(np.float32)
    away = ((u - w / 2) ** 2 + (v - h / 2) ** 2) / ((w / 2) ** 2 + (h / 2) ** 2)
    light = np.float32(lens.exposure) * (1 - np.float32(lens.vignette) * away)
    srgb = np.clip(radiance * light[..., None], 0, 1) ** np.float32(1 / 2.2) * 255
    rng = np.random.default_rng([lens.noise_seed, 2])
    noise = rng.standard_normal(srgb.shape, dtype=np.float32) * np.float32(lens.noise)
    return np.asarray(np.clip(srgb + noise + 0.5, 0, 255), np.uint8)


def _seen(
    solid: Solid,
    index: int,
    pixels: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    lens: Lens,
) -> Seen:
    visible, painted = (ids == index for ids in pixels)
    outline_px, sign_px = _outline_px(solid, lens), 0.0
    visible_px, painted_px = int(np.count_nonzero(visible)), int(np.count_nonzero(painted))
    if painted_px:
        sign_px = _sign_px(solid, lens)
    return Seen(
        solid=solid,
        box=upright_box(solid, lens.T_world_camera),
        xyxy_px=_around(visible),
        visible_px=visible_px,
        visibility=min(1.0, visible_px / outline_px) if visible_px else 0.0,
        word_xyxy_px=_around(painted),
        word_visibility=min(1.0, painted_px / sign_px) if painted_px else 0.0,
    )


def _around(mask: npt.NDArray[np.bool_]) -> Array:
    """(4,) xyxy pixels around what is True; NaN if nothing is."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return np.full(4, np.nan)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def _outline_px(solid: Solid, lens: Lens) -> float:
    """Pixels that the solid would cover, alone and in a picture without borders."""
    vertices, triangles = _placed(mesh_of(solid), solid.T_world_solid)
    in_camera = points_in_frame(inverse(lens.T_world_camera), vertices.astype(float))
    corners = lens.project(in_camera)
    (left, top), (right, bottom) = np.floor(corners.min(0)), np.ceil(corners.max(0))
    u, v = np.meshgrid(np.arange(left, right + 1), np.arange(top, bottom + 1))
    straight = lens.straightened(np.stack([u.ravel(), v.ravel()], axis=1))
    T = lens.T_world_camera
    rays = np.empty((len(straight), 6), np.float32)
    rays[:, :3] = T[:3, 3]
    rays[:, 3:] = np.c_[straight, np.ones(len(straight))] @ T[:3, :3].T
    alone = o3d.t.geometry.RaycastingScene(nthreads=1)
    alone.add_triangles(
        o3d.core.Tensor.from_numpy(vertices), o3d.core.Tensor.from_numpy(triangles)
    )
    hit = alone.test_occlusions(o3d.core.Tensor.from_numpy(rays), nthreads=1).numpy()
    return float(max(1, int(np.count_nonzero(hit))))


def _sign_px(solid: Solid, lens: Lens) -> float:
    """Pixels of the painted sign that faces the camera, were nothing in front of it."""
    T_camera_solid = inverse(lens.T_world_camera) @ solid.T_world_solid
    eye = inverse(T_camera_solid)[:3, 3]
    corners = lens.project(points_in_frame(T_camera_solid, sign_corners(solid, towards=eye)))
    return float(max(1.0, cv2.contourArea(corners.astype(np.float32))))
