# SPDX-License-Identifier: Apache-2.0
"""The depth in and around one 2D box, as points.

Knows nothing of objects; `lifting.py` decides which points belong to one. Drops what was not
measured (NaN, infinite, zero) and flying pixels, and says when too little is left.

Frame:  camera optical frame, metres.
Pixels: (u, v) is the centre of a pixel; 2D boxes are measured from the picture's corner, so that
        a box from 3 to 8 holds the pixels 3 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .camera import Intrinsics
from .geometry import Array

Mask = npt.NDArray[np.bool_]
Pixels = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Depth = npt.NDArray[np.float32]

# Below these there is too little depth in a 2D box to speak of its object.
MIN_VALID_FRACTION = 0.1
MIN_VALID_SAMPLES = 12
# The neighbourhood reaches this share of the box's longer side beyond it, to see the support.
MARGIN_FRACTION = 0.5
MIN_MARGIN_PX = 16
# Larger neighbourhoods are sampled on a coarser grid; this bounds the time per object.
MAX_SAMPLES = 12_000
# Neighbouring pixels of one surface differ by less than this, and this share of their depth.
SURFACE_STEP_M = 0.006
SURFACE_STEP_FRACTION = 0.012


class NoDepth(Exception):  # an outcome, made a note by `lift`
    """Too little depth in a 2D box; the message says what there was and what is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DepthPatch:
    """Depth points of a 2D box and its neighbourhood.

    Attributes:
        points: (N, 3) float64.
        uv_px: (N, 2) float64, their pixels.
        xyxy_px: (4,) float64, the 2D box, clipped to the picture.
        stride: pixels between neighbouring points.
        spacing_m: metres between neighbouring points on a surface that faces the camera.
        is_cut: the 2D box reaches the picture's border, so its object may reach beyond.
    """

    points: Array
    uv_px: Array
    xyxy_px: Array
    stride: int
    spacing_m: float
    is_cut: bool

    def inside(self, *, grown: float = 1.0) -> Mask:
        """(N,) points whose pixel lies in the 2D box, scaled about its centre."""
        return _is_inside(self.uv_px[:, 0], self.uv_px[:, 1], self.xyxy_px, grown=grown)


def depth_patch(depth_m: Depth, intrinsics: Intrinsics, xyxy_px: Array) -> DepthPatch:
    """The points of a 2D box and what surrounds it.

    Args:
        depth_m: (h, w) float32, metres; NaN, infinite and zero mean not measured.
        intrinsics: of the same picture.
        xyxy_px: (4,) pixels; may reach beyond the picture.

    Raises:
        NoDepth: the box holds no pixel, or too little depth.
    """
    h, w = depth_m.shape
    limits = np.array([w, h, w, h], float)
    clipped_px = np.clip(np.asarray(xyxy_px, float), 0, limits)
    if not np.all(np.isfinite(clipped_px)) or np.any(clipped_px[2:] - clipped_px[:2] < 1):
        raise NoDepth(
            f"its 2D box {np.round(xyxy_px, 1).tolist()} holds no pixel of the {w} x {h} picture"
        )
    margin = max(MIN_MARGIN_PX, MARGIN_FRACTION * float(np.max(clipped_px[2:] - clipped_px[:2])))
    left, top = np.maximum(clipped_px[:2] - margin, 0).astype(int)
    right, bottom = np.minimum(clipped_px[2:] + margin, limits[2:]).astype(int)
    stride = int(np.ceil(np.sqrt((right - left) * (bottom - top) / MAX_SAMPLES)))

    v, u = np.mgrid[top:bottom:stride, left:right:stride]
    z, is_measured, is_surface = _samples(depth_m[top:bottom, left:right], stride)
    in_box = _is_inside(u, v, clipped_px)
    usable = int((in_box & is_surface).sum())
    fraction = (in_box & is_measured).sum() / max(1, in_box.sum())
    if fraction < MIN_VALID_FRACTION or usable < MIN_VALID_SAMPLES:
        raise NoDepth(
            f"depth is valid in {100 * fraction:.0f} % of its 2D box and {usable} samples are "
            f"usable, expected at least {100 * MIN_VALID_FRACTION:.0f} % and {MIN_VALID_SAMPLES}"
        )
    middle_m = float(np.median(z[in_box & is_surface]))
    columns, rows, depths = (grid[is_surface].astype(float) for grid in (u, v, z))
    return DepthPatch(
        points=intrinsics.deproject(columns, rows, depths),
        uv_px=np.stack([columns, rows], axis=1),
        xyxy_px=clipped_px,
        stride=stride,
        spacing_m=middle_m / float(intrinsics.K[0, 0]) * stride,
        is_cut=bool(np.any(clipped_px[:2] <= 0) or np.any(clipped_px[2:] >= limits[2:])),
    )


def _is_inside(u: Pixels, v: Pixels, xyxy_px: Array, *, grown: float = 1.0) -> Mask:
    center = (xyxy_px[:2] + xyxy_px[2:]) / 2
    half = (xyxy_px[2:] - xyxy_px[:2]) / 2 * grown
    # The corner of the picture is half a pixel from the centre of its first pixel.
    across = np.abs(u + 0.5 - center[0]) <= half[0]
    return np.asarray(across & (np.abs(v + 0.5 - center[1]) <= half[1]), bool)


def _samples(depth_m: Depth, stride: int) -> tuple[Depth, Mask, Mask]:
    """Every `stride`-th depth, which of them are measured, and which lie on a surface.

    A flying pixel hangs between two surfaces: fewer than two of its eight neighbours in the full
    picture are at its depth.
    """
    h, w = depth_m.shape
    padded = np.pad(depth_m, 1, constant_values=np.nan)
    z = depth_m[::stride, ::stride]
    is_measured = np.isfinite(z) & (z > 0)
    tolerance = SURFACE_STEP_M + SURFACE_STEP_FRACTION * np.where(is_measured, z, 0)
    agreeing = np.zeros(z.shape, int)
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        for dv in range(3):
            for du in range(3):
                if (dv, du) != (1, 1):
                    neighbour = padded[dv : dv + h : stride, du : du + w : stride]
                    agreeing += np.abs(neighbour - z) < tolerance
    return z, is_measured, is_measured & (agreeing >= 2)
