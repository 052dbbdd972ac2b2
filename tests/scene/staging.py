# SPDX-License-Identifier: Apache-2.0
"""Depth images of things whose true boxes are known, by ray casting; and what spoils them.

World: z up, floor at z = 0, metres; the camera stands at y < 0 and looks along +y, downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import open3d as o3d

from qwen3vl_ros.scene.camera import Frame, Intrinsics
from qwen3vl_ros.scene.detections import Detection2D
from qwen3vl_ros.scene.geometry import (
    Array,
    OrientedBox,
    inverse,
    transform_box,
    transform_from_rotation,
)

WIDTH, HEIGHT, FOCAL_PX = 640, 480, 570.0
INTRINSICS = Intrinsics(
    K=np.array([[FOCAL_PX, 0, 319.5], [0, FOCAL_PX, 239.5], [0, 0, 1]]),
    width=WIDTH,
    height=HEIGHT,
)
# A box's axes (x right, y down, z away) in this world.
R_UPRIGHT = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
Depth = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A mesh, and the box around it, in the world."""

    mesh: o3d.geometry.TriangleMesh
    box: OrientedBox


def thing(
    shape: str,
    size: tuple[float, float, float],
    *,
    at: tuple[float, float] = (0.0, 0.0),
    yaw_deg: float = 0.0,
    above_m: float = 0.0,
) -> Thing:
    """A shape of extents x, y, z, standing at (x, y), or `above_m` higher."""
    create = o3d.geometry.TriangleMesh
    mesh = {
        "box": lambda: create.create_box(),
        "ball": lambda: create.create_sphere(resolution=40),
        "cylinder": lambda: create.create_cylinder(resolution=60, split=1),
        "lying cylinder": lambda: create.create_cylinder(resolution=60, split=1),
        "cone": lambda: create.create_cone(resolution=60),
        "ring": lambda: create.create_torus(torus_radius=0.35, tube_radius=0.15),
    }[shape]()
    if shape == "lying cylinder":  # along x
        mesh.rotate(o3d.geometry.get_rotation_matrix_from_xyz((0, np.pi / 2, 0)))
    low, high = mesh.get_min_bound(), mesh.get_max_bound()
    vertices = (np.asarray(mesh.vertices) - (low + high) / 2) / (high - low) * size
    mesh.vertices = o3d.utility.Vector3dVector(vertices)
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
    T = transform_from_rotation(R, np.array([*at, above_m + size[2] / 2]))
    mesh.transform(T)
    T_box = T @ transform_from_rotation(R_UPRIGHT, np.zeros(3))
    return Thing(mesh=mesh, box=OrientedBox(T_frame_box=T_box, size_m=np.array(size)[[0, 2, 1]]))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What the camera sees, and where things truly are.

    Attributes:
        depth_m: (480, 640) float32, NaN where there is nothing.
        boxes: of the things, camera optical frame.
        xyxy_px: around the visible pixels of each thing; NaN for one that is not seen.
    """

    depth_m: Depth
    boxes: tuple[OrientedBox, ...]
    xyxy_px: tuple[Array, ...]

    def frame(self, depth_m: Depth | None = None) -> Frame:
        return Frame(
            image=np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            stamp_ns=1,
            frame_id="camera",
            intrinsics=INTRINSICS,
            depth_m=self.depth_m if depth_m is None else depth_m,
        )


def stage(
    things: Sequence[Thing],
    *,
    pitch_deg: float = 35.0,
    distance_m: float = 1.2,
    aim: tuple[float, float, float] = (0.0, 0.0, 0.05),
    wall_m: float | None = None,
    has_floor: bool = True,
) -> Stage:
    """The view of a camera that looks `pitch_deg` down at `aim` from `distance_m` away.

    Args:
        wall_m: a wall this far behind the origin.
        has_floor: else things float in empty space.
    """
    pitch = np.radians(pitch_deg)
    forward = np.array([0, np.cos(pitch), -np.sin(pitch)])
    right = np.array([1.0, 0, 0])
    R = np.stack([right, np.cross(forward, right), forward], axis=1)
    T_world_camera = transform_from_rotation(R, np.array(aim) - distance_m * forward)

    world = o3d.t.geometry.RaycastingScene(nthreads=1)
    meshes = [item.mesh for item in things]
    if has_floor:
        floor = o3d.geometry.TriangleMesh.create_box(20, 20, 0.01)
        meshes.append(floor.translate((-10, -10, -0.01)))
    if wall_m is not None:
        wall = o3d.geometry.TriangleMesh.create_box(20, 0.01, 20)
        meshes.append(wall.translate((-10, wall_m, -10)))
    for mesh in meshes:
        world.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    ahead = INTRINSICS.deproject(u.ravel().astype(float), v.ravel().astype(float), np.ones(u.size))
    rays = np.empty((u.size, 6), np.float32)
    rays[:, :3], rays[:, 3:] = T_world_camera[:3, 3], ahead @ R.T
    hits = world.cast_rays(o3d.core.Tensor(rays))
    depth = hits["t_hit"].numpy().reshape(HEIGHT, WIDTH)  # ahead has z = 1, so this is z
    ids = hits["geometry_ids"].numpy().reshape(HEIGHT, WIDTH)
    T_camera_world = inverse(T_world_camera)
    return Stage(
        depth_m=np.where(np.isfinite(depth), depth, np.nan).astype(np.float32),
        boxes=tuple(transform_box(T_camera_world, item.box) for item in things),
        xyxy_px=tuple(_bounds(ids == index) for index in range(len(things))),
    )


def _bounds(is_seen: npt.NDArray[np.bool_]) -> Array:
    rows, columns = np.nonzero(is_seen)
    if not len(rows):
        return np.full(4, np.nan)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)


def spoiled(
    depth_m: Depth,
    *,
    seed: int = 0,
    holes: float = 0.3,
    noise_m: float = 0.003,
    flying: float = 0.01,
) -> Depth:
    """Depth as a sensor gives it: holes (half NaN, half zero), noise, and flying pixels."""
    rng = np.random.default_rng(seed)
    depth = depth_m + rng.normal(0, noise_m, depth_m.shape)
    flies = rng.random(depth.shape) < flying
    depth = np.where(flies, depth * rng.uniform(0.5, 1.5, depth.shape), depth)
    is_hole = rng.random(depth.shape) < holes
    depth = np.where(is_hole, np.where(rng.random(depth.shape) < 0.5, np.nan, 0.0), depth)
    return depth.astype(np.float32)


def changed(xyxy_px: Array, *, shift: tuple[float, float] = (0, 0), scale: float = 1.0) -> Array:
    """A 2D box moved by shares of its size, and scaled about its centre."""
    center, size = (xyxy_px[:2] + xyxy_px[2:]) / 2, xyxy_px[2:] - xyxy_px[:2]
    center = center + np.array(shift) * size
    return np.concatenate([center - scale * size / 2, center + scale * size / 2])


def detection(xyxy_px: Array, label: str = "thing") -> Detection2D:
    return Detection2D(label=label, xyxy_px=xyxy_px, score=0.9)
