# SPDX-License-Identifier: Apache-2.0
"""Scene and camera → picture, depth and truth, by ray casting (Open3D RaycastingScene).

Knows nothing about questions. Sunlight with hard shadows, a lambertian floor of tiles, sensor
noise; no global illumination. Colours are computed linear and written as sRGB.

Boxes in the picture are measured from the image's corner, as Qwen3-VL's are: a solid that
covers the columns 3 to 7 has x from 3 to 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from ..scene.geometry import OrientedBox
from .scenes import TILE_M, CameraView, Scene, Solid, box_in_camera

try:
    import open3d as o3d
except ImportError as error:  # pragma: no cover - the synthetic room is useless without it
    raise MissingDependency(
        "open3d",
        needed_for="rendering synthetic scenes",
        install="make setup (or pip install -r requirements/runtime.txt)",
    ) from error

FLOOR = 0  # geometry id of the floor; solid i has id i + 1
BACKGROUND = np.array([0.55, 0.60, 0.66])  # linear RGB beyond the floor


@dataclass(frozen=True, kw_only=True, slots=True)
class SolidTruth:
    """Truth about one solid in one picture.

    Attributes:
        solid: the solid.
        box: in the camera optical frame, metres.
        xyxy_px: (4,) float64, around its visible pixels; NaN when none are.
        visible_px: number of visible pixels.
        visibility: visible part of its silhouette, 0 to 1.
    """

    solid: Solid
    box: OrientedBox
    xyxy_px: npt.NDArray[np.float64]
    visible_px: int
    visibility: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A picture and the truth about it.

    Attributes:
        image: (h, w, 3) uint8, RGB.
        depth_m: (h, w) float32, metres along z; NaN beyond the floor.
        solid_ids: (h, w) int32, index into `truth`, -1 elsewhere.
        truth: one per solid of the scene, in its order.
    """

    image: npt.NDArray[np.uint8]
    depth_m: npt.NDArray[np.float32]
    solid_ids: npt.NDArray[np.int32]
    truth: tuple[SolidTruth, ...]


def render(scene: Scene, view: CameraView, *, noise_seed: int = 0) -> Rendered:
    """The picture a camera takes of a scene; the same arguments give the same bytes."""
    w, h = view.intrinsics.width, view.intrinsics.height
    world = _ray_casting_scene(scene)
    rays = _camera_rays(view)
    hits = world.cast_rays(o3d.core.Tensor.from_numpy(rays))
    # Ray directions have z = 1 in the camera frame, so the ray parameter is the depth itself.
    depth = hits["t_hit"].numpy()
    beyond = ~np.isfinite(depth)
    # Rays that hit nothing are carried along as floor at the camera: picking rows out of arrays
    # costs more than the work on them.
    ids = np.where(beyond, FLOOR, hits["geometry_ids"].numpy()).astype(np.int32)
    depth[beyond] = 0.0
    points = np.empty((h * w, 3), np.float32)
    for axis in range(3):
        points[:, axis] = rays[:, axis] + depth * rays[:, 3 + axis]
    light = _light(scene, world, points, hits["primitive_normals"].numpy(), ~beyond)
    radiance = _albedo(scene, points, ids) * light
    radiance[beyond] = BACKGROUND
    depth[beyond] = np.nan
    solid_ids = (ids - 1).reshape(h, w)
    return Rendered(
        image=_develop(radiance.reshape(h, w, 3) * np.float32(scene.exposure), noise_seed),
        depth_m=depth.reshape(h, w),
        solid_ids=solid_ids,
        truth=tuple(
            _truth(solid, index, solid_ids, view) for index, solid in enumerate(scene.solids)
        ),
    )


def _ray_casting_scene(scene: Scene) -> o3d.t.geometry.RaycastingScene:
    world = o3d.t.geometry.RaycastingScene(nthreads=1)
    floor = o3d.geometry.TriangleMesh.create_box(12.0, 12.0, 0.01)
    floor.translate((-6.0, -6.0, -0.01))
    for mesh in [floor, *(_mesh(solid) for solid in scene.solids)]:
        world.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    return world


def _mesh(solid: Solid) -> o3d.geometry.TriangleMesh:
    x, y, z = solid.size_m
    if solid.shape == "box":
        mesh = o3d.geometry.TriangleMesh.create_box(x, y, z)
        mesh.translate((-x / 2, -y / 2, -z / 2))
    elif solid.shape == "ball":
        mesh = o3d.geometry.TriangleMesh.create_sphere(x / 2, resolution=24)
    else:
        mesh = o3d.geometry.TriangleMesh.create_cylinder(x / 2, z, resolution=40, split=1)
    mesh.transform(solid.T_world_solid)
    return mesh


def _camera_rays(view: CameraView) -> npt.NDArray[np.float32]:
    """(h * w, 6) origin and direction in the world; directions have z = 1 in the camera."""
    K, T = view.intrinsics.K, view.T_world_camera
    w, h = view.intrinsics.width, view.intrinsics.height
    right, down, forward = T[:3, :3].T.astype(np.float32)
    columns = ((np.arange(w) - K[0, 2]) / K[0, 0]).astype(np.float32)[:, None] * right
    rows = ((np.arange(h) - K[1, 2]) / K[1, 1]).astype(np.float32)[:, None] * down + forward
    rays = np.empty((h, w, 6), np.float32)
    for axis in range(3):
        rays[..., axis] = T[axis, 3]
        rays[..., 3 + axis] = rows[:, None, axis] + columns[:, axis]
    return rays.reshape(-1, 6)


def _albedo(
    scene: Scene, points: npt.NDArray[np.float32], ids: npt.NDArray[np.int32]
) -> npt.NDArray[np.float32]:
    c, s = np.cos(scene.floor_yaw), np.sin(scene.floor_yaw)
    xy = points[:, :2] @ np.array([[c, -s], [s, c]], np.float32) / TILE_M
    tile = np.floor(xy).astype(np.int32)
    # A grain for every tile and every 1/10 of it, from an integer hash of where it is.
    grain = 0.06 * _hash(tile, scene.floor_seed)
    grain += 0.05 * _hash(np.floor(xy * 10).astype(np.int32), scene.floor_seed + 1)
    tiles = scene.floor_albedo.astype(np.float32)
    albedo = tiles.take((tile[:, 0] + tile[:, 1]) % 2, axis=0) * (1 + grain[:, None])
    solid = np.flatnonzero(ids > FLOOR)
    if len(solid):
        palette = np.stack([solid.albedo for solid in scene.solids]).astype(np.float32)
        albedo[solid] = palette.take(ids[solid] - 1, axis=0)
    return np.asarray(albedo, np.float32)


def _hash(cells: npt.NDArray[np.int32], seed: int) -> npt.NDArray[np.float32]:
    """(N,) float32 in [-1, 1), fixed by cell (N, 2) and seed."""
    x, y = cells.view(np.uint32).T
    mixed = (x * np.uint32(73856093)) ^ (y * np.uint32(19349663))
    mixed ^= np.uint32(seed * 83492791 & 0xFFFFFFFF)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    unit = (mixed >> np.uint32(16)).astype(np.float32) / np.float32(32768.0)
    return np.asarray(unit - np.float32(1.0), np.float32)


def _light(
    scene: Scene,
    world: o3d.t.geometry.RaycastingScene,
    points: npt.NDArray[np.float32],
    normals: npt.NDArray[np.float32],
    hit: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float32]:
    """(N, 1) float32: ambient light, and sunlight where no solid stands in its way."""
    sun = scene.light_direction.astype(np.float32)
    # Without the rays that hit nothing: BLAS rounds by the shape of the product, and the bytes of
    # a seed shall stay what they were.
    facing = np.zeros(len(points), np.float32)
    facing[hit] = np.maximum(normals[hit] @ sun, 0)
    rays = np.empty((len(points), 6), np.float32)
    rays[:, :3] = points + 2e-3 * normals
    rays[:, 3:] = sun
    facing[world.test_occlusions(o3d.core.Tensor.from_numpy(rays)).numpy()] = 0.0
    # Sky light: what faces up is brighter than what faces sideways, even in shadow.
    ambient = np.float32(scene.ambient)
    sky = ambient * (np.float32(0.75) + np.float32(0.25) * normals[:, 2])
    return (sky + (1 - ambient) * facing)[:, None]


def _develop(radiance: npt.NDArray[np.float32], noise_seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(noise_seed)
    srgb = np.clip(radiance, 0, 1) ** np.float32(1 / 2.2) * 255
    noise = rng.standard_normal(srgb.shape, dtype=np.float32) * np.float32(rng.uniform(1, 4))
    return np.clip(srgb + noise + 0.5, 0, 255).astype(np.uint8)


def _truth(
    solid: Solid, index: int, solid_ids: npt.NDArray[np.int32], view: CameraView
) -> SolidTruth:
    box = box_in_camera(solid, view)
    visible = solid_ids == index
    visible_px = int(np.count_nonzero(visible))
    if visible_px == 0:
        return SolidTruth(
            solid=solid, box=box, xyxy_px=np.full(4, np.nan), visible_px=0, visibility=0.0
        )
    columns, rows = np.flatnonzero(visible.any(axis=0)), np.flatnonzero(visible.any(axis=1))
    xyxy = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    silhouette = _silhouette_px(solid, view)
    return SolidTruth(
        solid=solid,
        box=box,
        xyxy_px=xyxy,
        visible_px=visible_px,
        visibility=min(1.0, visible_px / max(silhouette, 1.0)),
    )


def _silhouette_px(solid: Solid, view: CameraView) -> float:
    """Area, in pixels, of the whole solid as the camera would see it alone and uncut."""
    mesh = np.asarray(_mesh(solid).vertices)
    T_camera_world = np.linalg.inv(view.T_world_camera)
    points = mesh @ T_camera_world[:3, :3].T + T_camera_world[:3, 3]
    flat = np.c_[view.intrinsics.project(points), np.zeros(len(points))]
    # All three solids are convex, so their silhouette is the hull of their projected vertices.
    return _hull_area(flat[:, :2])


def _hull_area(points: npt.NDArray[np.float64]) -> float:
    """Area of the convex hull of (N, 2) points."""
    hull = cv2.convexHull(points.astype(np.float32))
    return float(cv2.contourArea(hull))
