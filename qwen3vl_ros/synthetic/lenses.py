# SPDX-License-Identifier: Apache-2.0
"""Cameras as they are bought: sizes, focal lengths, lenses that bend, sensors that blur and hiss.

Knows where a camera stands and what it does to light, not what it sees.

Camera: optical frame (x right, y down, z forward, REP 103). Pixel centres are integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from ..scene.camera import Intrinsics
from .scenes import look_at

Array = npt.NDArray[np.float64]

# Width, height and how often each is drawn. Most pictures are small: the tiny model sees some 70
# tokens of each, and rendering costs by the pixel.
SIZES: tuple[tuple[tuple[int, int], float], ...] = (
    ((320, 240), 0.62),
    ((426, 240), 0.20),
    ((240, 320), 0.13),
    ((640, 480), 0.03),
    ((480, 640), 0.02),
)
BENT = 0.4  # of the lenses


@dataclass(frozen=True, kw_only=True, slots=True)
class Lens:
    """Where a camera stands, and how it sees.

    Attributes:
        intrinsics: of the picture.
        distortion: (5,) float64, plumb_bob k1 k2 p1 p2 k3 as OpenCV has them; zeros for none.
        T_world_camera: (4, 4) float64, camera optical frame in the world.
        exposure: factor on all light.
        blur_px: standard deviation of what the lens blurs.
        noise: standard deviation of a grey level, of 255.
        vignette: 0 to 1, light that is missing in the corners.
        noise_seed: the same seed hisses the same.
    """

    intrinsics: Intrinsics
    distortion: Array
    T_world_camera: Array
    exposure: float
    blur_px: float
    noise: float
    vignette: float
    noise_seed: int

    def rays(self) -> npt.NDArray[np.float32]:
        """(h * w, 6) origin and direction of each pixel's ray in the world, row by row.

        Directions have z = 1 in the camera, so that the way along a ray is the depth itself.
        """
        w, h = self.intrinsics.width, self.intrinsics.height
        if self.distortion.any():
            u, v = np.meshgrid(np.arange(w, dtype=float), np.arange(h, dtype=float))
            straight = self.straightened(np.stack([u.ravel(), v.ravel()], axis=1))
            x, y = straight.T.astype(np.float32).reshape(2, h, w)
        else:
            K = self.intrinsics.K
            x = ((np.arange(w) - K[0, 2]) / K[0, 0]).astype(np.float32)[None]
            y = ((np.arange(h) - K[1, 2]) / K[1, 1]).astype(np.float32)[:, None]
        T = self.T_world_camera.astype(np.float32)
        rays = np.empty((h, w, 6), np.float32)
        for axis in range(3):
            rays[..., axis] = T[axis, 3]
            # Not a matrix product: three columns are too thin for one to be quick.
            rays[..., 3 + axis] = T[axis, 0] * x + (T[axis, 1] * y + T[axis, 2])
        return rays.reshape(-1, 6)

    def straightened(self, pixels: Array) -> Array:
        """(N, 2) x / z and y / z of pixels (N, 2)."""
        K = self.intrinsics.K
        if not self.distortion.any():
            return np.asarray((pixels - K[:2, 2]) / K[[0, 1], [0, 1]], float)
        found = cv2.undistortPoints(pixels.reshape(-1, 1, 2), K, self.distortion)
        return np.asarray(found, float).reshape(-1, 2)

    def project(self, points: Array) -> Array:
        """Pixels (N, 2) of points (N, 3) in the camera's frame, in front of it, metres."""
        found, _ = cv2.projectPoints(
            points.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), self.intrinsics.K, self.distortion
        )
        return np.asarray(found, float).reshape(-1, 2)


def random_lens(
    rng: np.random.Generator, *, width: int | None = None, height: int | None = None
) -> Lens:
    """A camera that looks down at the middle of things from a random side.

    Its size is drawn from `SIZES` unless given.
    """
    size = SIZES[rng.choice(len(SIZES), p=[share for _, share in SIZES])][0]
    w, h = size if width is None or height is None else (width, height)
    focal_px = rng.uniform(0.78, 1.08) * max(w, h)
    middle = np.array([(w - 1) / 2, (h - 1) / 2]) + rng.uniform(-0.01, 0.01, size=2) * max(w, h)
    K = np.array([[focal_px, 0, middle[0]], [0, focal_px, middle[1]], [0, 0, 1.0]])
    k1 = rng.uniform(-0.28, 0.12) if rng.uniform() < BENT else 0.0
    distortion = np.array([k1, -0.25 * k1, *rng.uniform(-0.001, 0.001, size=2), 0.0])
    azimuth, pitch = rng.uniform(0, 2 * np.pi), rng.uniform(np.radians(20), np.radians(55))
    # A portrait picture is narrow: from farther away as much fits in.
    distance = rng.uniform(0.85, 1.6) * (1.2 if h > w else 1.0)
    target = np.array([*rng.uniform(-0.18, 0.18, size=2), 0.08])
    flat = np.cos(pitch)
    back = np.array([np.cos(azimuth) * flat, np.sin(azimuth) * flat, np.sin(pitch)])
    return Lens(
        intrinsics=Intrinsics(K=K, width=w, height=h),
        distortion=distortion if k1 else np.zeros(5),
        T_world_camera=look_at(target + distance * back, target),
        exposure=float(rng.uniform(0.7, 1.25)),
        blur_px=float(rng.choice([0.0, rng.uniform(0.3, 0.9)])) * max(w, h) / 320,
        noise=float(rng.uniform(0.5, 5.0)),
        vignette=float(rng.uniform(0, 0.3)),
        noise_seed=int(rng.integers(2**31)),
    )
