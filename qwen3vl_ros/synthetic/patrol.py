# SPDX-License-Identifier: Apache-2.0
"""A robot that looks at a scene while it moves: where it stands, where its camera points.

Knows scenes and geometry, draws nothing and knows no ROS. The robot swings on an arc around the
scene, slows down at both ends, turns its body a little while its neck keeps the camera on the
scene. All views lie inside what `scenes.random_view` draws, so that the tiny model is at home.

Frames: map (the scene's world: z up, floor at z = 0), base (on the floor, x towards the scene),
        camera (optical). The camera is carried above the base at one height and one tilt; the
        neck only pans.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..scene.camera import Intrinsics
from ..scene.geometry import Array, transform_from_rotation
from .scenes import CameraView, Scene, random_scene

# Patrols draw from a stream of their own: no seed of theirs repeats a scene that was trained on.
STREAM = 20_000_000
LOOK_AT_HEIGHT_M = 0.08
CAMERA_FORWARD_M = 0.15  # of the camera, in front of the base's origin
SWING = np.radians(17)  # to either side
BODY_TURN = np.radians(12)
SWAY_M = 0.05  # nearer and farther
# Optical axes (x right, y down, z forward) in axes x forward, y left, z up.
R_FORWARD_OPTICAL: Array = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Patrol:
    """A scene, and the poses of a robot that looks at it; n poses from one end to the other.

    Attributes:
        scene: does not move.
        intrinsics: of every picture.
        T_map_base: (n, 4, 4) float64.
        T_base_camera: (n, 4, 4) float64, camera optical frame; only its pan changes.
    """

    scene: Scene
    intrinsics: Intrinsics
    T_map_base: Array
    T_base_camera: Array

    def __len__(self) -> int:
        return len(self.T_map_base)

    def view(self, index: int) -> CameraView:
        """What the camera sees from a pose."""
        return CameraView(
            intrinsics=self.intrinsics,
            T_world_camera=self.T_map_base[index] @ self.T_base_camera[index],
        )

    def pose_at(self, step: int) -> int:
        """Index of the pose at a step: to the far end, back, and so on.

        Of four poses: 0 1 2 3 2 1 0 1 2 …
        """
        last = len(self) - 1
        step = step % (2 * last) if last else 0
        return min(step, 2 * last - step)


def random_patrol(
    seed: int, *, poses: int, width: int = 640, height: int = 480, solids: int | None = None
) -> Patrol:
    """The patrol of a seed. One pose is the middle of the arc; scene and arc do not depend on
    how many there are.

    Args:
        poses: number of poses from one end of the arc to the other.
        width, height: of the pictures, pixels.
        solids: number of objects; None draws one to five.
    """
    rng = np.random.default_rng([STREAM, seed])
    scene = random_scene(rng, solids=solids)
    focal_px = rng.uniform(0.84, 0.94) * max(width, height)
    tilt = rng.uniform(np.radians(30), np.radians(44))
    distance = rng.uniform(1.15, 1.45)
    azimuth = rng.uniform(0, 2 * np.pi)
    K = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1.0]])
    # From -1 to 1, slow at both ends as a robot that turns back is.
    along = -np.cos(np.linspace(0, np.pi, poses)) if poses > 1 else np.zeros(1)
    T_map_base, T_base_camera = [], []
    for s in along:
        bearing = azimuth + s * SWING  # of the camera, seen from the scene
        reach = distance * np.cos(tilt) + SWAY_M * np.sin(np.pi * s)
        heading = bearing + np.pi + s * BODY_TURN
        at = reach * _direction(bearing) - CAMERA_FORWARD_M * _direction(heading)
        T_map_base.append(transform_from_rotation(_yaw(heading), at))
        pan = _yaw(-s * BODY_TURN) @ _tilt_down(tilt) @ R_FORWARD_OPTICAL
        mount = np.array([CAMERA_FORWARD_M, 0.0, LOOK_AT_HEIGHT_M + distance * np.sin(tilt)])
        T_base_camera.append(transform_from_rotation(pan, mount))
    return Patrol(
        scene=scene,
        intrinsics=Intrinsics(K=K, width=width, height=height),
        T_map_base=np.stack(T_map_base),
        T_base_camera=np.stack(T_base_camera),
    )


def _direction(azimuth: float) -> Array:
    return np.array([np.cos(azimuth), np.sin(azimuth), 0.0])


def _yaw(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def _tilt_down(angle: float) -> Array:
    """(3, 3) about y (left): x forward dips towards the floor."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1.0, 0], [-s, 0, c]])
