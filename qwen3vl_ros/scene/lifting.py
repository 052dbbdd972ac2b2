# SPDX-License-Identifier: Apache-2.0
"""From boxes in the picture to boxes in the world, by the depth pixels inside them.

Knows no model and no ROS. The only runtime file that needs Open3D, and imports it when first
used. One object at a time: look at the depth in and around its 2D box, find what it stands on,
take the surface that fills the 2D box best, and fit an oriented box (`box_fit`).

Frame:  camera optical frame, metres.
Pixels: (u, v) is the centre of a pixel; 2D boxes are measured from the picture's corner, so that
        a box from 3 to 8 holds the pixels 3 to 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from .box_fit import Plane, free_box, upright_box
from .camera import Frame, Intrinsics
from .detections import BoxSource, Detection2D, Detection3D
from .geometry import Array, OrientedBox

# Below these there is too little depth in a 2D box to speak of its object.
MIN_VALID_FRACTION = 0.1
MIN_VALID_PIXELS = 12
# The neighbourhood reaches this share of the box's longer side beyond it, to see the support.
MARGIN_FRACTION = 0.5
MIN_MARGIN_PX = 16
# Larger neighbourhoods are sampled on a coarser grid; this bounds the time per object.
MAX_POINTS = 12_000
MAX_PLANES = 3
RANSAC_ROUNDS = 150
# A support's normal leans at most this far from the camera's up, or from its line of sight.
MIN_SUPPORT_UP = 0.25
MIN_SUPPORT_FACING = 0.85

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True)
class LiftResult:
    """What became of each 2D box.

    Attributes:
        detections: one entry per 2D detection, in their order; None where nothing could be said.
        notes: what was done otherwise than asked, and why, one sentence each.
    """

    detections: tuple[Detection3D | None, ...]
    notes: tuple[str, ...]

    @property
    def found(self) -> tuple[Detection3D, ...]:
        """Those that have a 3D box."""
        return tuple(detection for detection in self.detections if detection is not None)


def lift(
    frame: Frame,
    detections: Sequence[Detection2D],
    *,
    prior: Sequence[Detection3D | None] | None = None,
) -> LiftResult:
    """A 3D box for every 2D box, where there is depth enough.

    Args:
        frame: its depth and intrinsics are used; without either, only `prior` can answer.
        detections: boxes in `frame`'s own pixels.
        prior: per detection, the model's own 3D box, handed back where depth gives none.

    Raises:
        MissingDependency: Open3D is not installed.
    """
    priors = prior if prior is not None else [None] * len(detections)
    lifted: list[Detection3D | None] = []
    notes: list[str] = []
    for detection, fallback in zip(detections, priors, strict=True):
        box, note = _box_from_depth(frame, detection.xyxy_px)
        if box is not None:
            lifted.append(
                Detection3D(
                    label=detection.label,
                    box=box,
                    score=detection.score,
                    source=BoxSource.DEPTH,
                )
            )
        else:
            lifted.append(fallback)
            note += "; kept the model's own 3D box" if fallback is not None else "; no 3D box"
        if note:
            notes.append(f"'{detection.label}': {note}")
    return LiftResult(detections=tuple(lifted), notes=tuple(notes))


def _box_from_depth(frame: Frame, xyxy_px: Array) -> tuple[OrientedBox | None, str]:
    """The box, or None, and what there is to say about it ("" for nothing)."""
    if frame.depth_m is None:
        return None, "the frame has no depth"
    if frame.intrinsics is None:
        return None, "the camera is not calibrated"
    patch = _patch(frame.depth_m, frame.intrinsics, xyxy_px)
    if isinstance(patch, str):
        return None, patch
    support = _support(patch)
    is_object = _object_points(patch, support)
    if is_object.sum() < MIN_VALID_PIXELS // 2:
        return None, f"only {is_object.sum()} depth points belong to one object"
    points = patch.points[is_object]
    if support is None:
        return _free_box_of(points), patch.cut_note
    heights = support.heights(points)
    # Round things show nothing below their equator; a larger gap means that it hangs or is held.
    bottom, top = np.percentile(heights, [2, 98])
    return upright_box(points, support, stands=bottom < max(0.06, 0.5 * top)), patch.cut_note


# --- the depth in and around one 2D box ------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Patch:
    """Depth points of a 2D box and its neighbourhood.

    Attributes:
        points: (N, 3) float64.
        uv_px: (N, 2) float64, their pixels.
        xyxy_px: the 2D box, clipped to the picture.
        spacing_m: distance between neighbouring points on a surface that faces the camera.
        cut_note: says so when the 2D box touches the picture's border.
    """

    points: Array
    uv_px: Array
    xyxy_px: Array
    spacing_m: float
    cut_note: str

    def inside(self, *, grown: float = 1.0) -> Mask:
        """(N,) points whose pixel lies in the 2D box, scaled about its centre."""
        center = (self.xyxy_px[:2] + self.xyxy_px[2:]) / 2
        half = (self.xyxy_px[2:] - self.xyxy_px[:2]) / 2 * grown
        return np.all(np.abs(self.uv_px + 0.5 - center) <= half, axis=1)


def _patch(
    depth_m: npt.NDArray[np.float32], intrinsics: Intrinsics, xyxy_px: Array
) -> _Patch | str:
    """The patch, or why there is none."""
    h, w = depth_m.shape
    limits = np.array([w, h, w, h], float)
    clipped = np.clip(np.asarray(xyxy_px, float), 0, limits)
    if not np.all(np.isfinite(clipped)) or np.any(clipped[2:] - clipped[:2] < 1):
        return f"its 2D box {np.round(xyxy_px, 1).tolist()} has no pixel in the {w} x {h} picture"
    margin = max(MIN_MARGIN_PX, MARGIN_FRACTION * float(np.max(clipped[2:] - clipped[:2])))
    left, top = np.maximum(clipped[:2] - margin, 0).astype(int)
    right, bottom = np.minimum(clipped[2:] + margin, limits[2:]).astype(int)
    stride = int(np.ceil(np.sqrt((right - left) * (bottom - top) / MAX_POINTS)))

    z, is_measured, is_surface = _samples(depth_m[top:bottom, left:right], stride)
    v, u = np.mgrid[top:bottom:stride, left:right:stride]
    is_inside = (
        np.abs(u + 0.5 - (clipped[0] + clipped[2]) / 2) <= (clipped[2] - clipped[0]) / 2
    ) & (np.abs(v + 0.5 - (clipped[1] + clipped[3]) / 2) <= (clipped[3] - clipped[1]) / 2)
    valid = int((is_inside & is_surface).sum())
    inner_m = float(np.median(z[is_inside & is_surface])) if valid else 0.0
    fraction = (is_inside & is_measured).sum() / max(1, is_inside.sum())
    if fraction < MIN_VALID_FRACTION or valid < MIN_VALID_PIXELS:
        return (
            f"depth is valid in {100 * fraction:.0f} % of its 2D box ({valid} usable samples), "
            f"expected at least {100 * MIN_VALID_FRACTION:.0f} % and {MIN_VALID_PIXELS} samples"
        )
    u, v, z = (grid[is_surface].astype(float) for grid in (u, v, z))
    touches = np.concatenate([clipped[:2] <= 0, clipped[2:] >= limits[2:]])
    return _Patch(
        points=intrinsics.deproject(u, v, z),
        uv_px=np.stack([u, v], axis=1),
        xyxy_px=clipped,
        spacing_m=inner_m / float(intrinsics.K[0, 0]) * stride,
        cut_note="cut by the picture's border, its size is that of the visible part"
        if touches.any()
        else "",
    )


def _samples(
    depth_m: npt.NDArray[np.float32], stride: int
) -> tuple[npt.NDArray[np.float32], Mask, Mask]:
    """Every `stride`-th depth, which of them are measured, and which lie on a surface.

    A flying pixel hangs between two surfaces, and fewer than two of its eight neighbours in the
    full picture are at its depth.
    """
    padded = np.pad(depth_m, 1, constant_values=np.nan)
    h, w = depth_m.shape
    z = depth_m[::stride, ::stride]
    is_measured = np.isfinite(z) & (z > 0)
    agreeing = np.zeros(z.shape, int)
    tolerance = 0.006 + 0.012 * np.where(is_measured, z, 0)
    for dv in range(3):
        for du in range(3):
            if (dv, du) != (1, 1):
                neighbour = padded[dv : dv + h : stride, du : du + w : stride]
                with np.errstate(invalid="ignore"):
                    agreeing += np.abs(neighbour - z) < tolerance
    return z, is_measured, is_measured & (agreeing >= 2)


# --- what it stands on, and which points are its own ------------------------------------------


def _thickness(points: Array) -> float:
    """How far a point may lie from a plane and still belong to it: noise grows with range."""
    return 0.006 + 0.003 * float(np.median(points[:, 2]))


def _support(patch: _Patch) -> Plane | None:
    """The plane beneath the object, found among the points beside and below its 2D box."""
    x1, y1, x2, y2 = patch.xyxy_px
    around = ~patch.inside(grown=1.05)
    foot = around & (patch.uv_px[:, 1] > y2 - 0.35 * (y2 - y1))
    core = patch.points[patch.inside(grown=0.6)]
    for ring in (foot, around):
        rest = patch.points[ring]
        enough = max(30, 0.15 * len(rest))
        for _ in range(MAX_PLANES):
            if len(rest) < enough:
                break
            plane, is_on = _plane(rest)
            if is_on.sum() < enough:
                break
            rest = rest[~is_on]
            up, facing = -plane.normal[1], -plane.normal[2]
            if max(up - MIN_SUPPORT_UP, facing - MIN_SUPPORT_FACING) < 0:
                continue
            # Most of the box's middle must stand out of its support; else it is a neighbour's top.
            if len(core) and (plane.heights(core) > -_thickness(core)).mean() > 0.7:
                return _refitted(plane, patch.points[around])
    return None


def _refitted(plane: Plane, points: Array) -> Plane:
    """The same plane, by least squares over all points that lie on it."""
    on = points[np.abs(plane.heights(points)) < _thickness(points)]
    if len(on) < 30:
        return plane
    middle = on.mean(axis=0)
    normal = np.linalg.eigh(np.cov((on - middle).T))[1][:, 0]
    normal = normal * np.sign(normal @ plane.normal)
    return Plane(normal=normal, offset=float(-normal @ middle))


def _plane(points: Array) -> tuple[Plane, Mask]:
    """The plane that most points lie on, and which those are."""
    o3d = _open3d()
    thickness = _thickness(points)
    o3d.utility.random.seed(0)
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    (a, b, c, d), _ = cloud.segment_plane(thickness, 3, RANSAC_ROUNDS)
    scale = float(np.linalg.norm([a, b, c])) * (1.0 if d >= 0 else -1.0)
    plane = Plane(normal=np.array([a, b, c]) / scale, offset=d / scale)
    return plane, np.abs(plane.heights(points)) < thickness


def _object_points(patch: _Patch, support: Plane | None) -> Mask:
    """(N,) the points of the one surface that fills the 2D box best."""
    is_candidate = np.ones(len(patch.points), bool)
    if support is not None:
        is_candidate = support.heights(patch.points) > _thickness(patch.points)
        if (is_candidate & patch.inside()).sum() < MIN_VALID_PIXELS // 2:
            return patch.inside()  # flat: a sheet or a tile, no thicker than the noise
    is_candidate &= ~_on_wall(patch, is_candidate)
    index = np.flatnonzero(is_candidate)
    labels = _clusters(patch.points[index], patch.spacing_m)
    best, best_overlap = patch.inside() & is_candidate, 0.0
    for label in range(labels.max() + 1 if labels.size else 0):
        members = index[labels == label]
        overlap = _overlap(patch.uv_px[members], patch.xyxy_px)
        if overlap > best_overlap:
            best = np.zeros(len(patch.points), bool)
            best[members] = True
            best_overlap = overlap
    outside = best & ~patch.inside(grown=1.3)
    if outside.sum() > 0.1 * best.sum():  # grown together with something else: trust the 2D box
        best &= patch.inside(grown=1.05)
    return best


def _on_wall(patch: _Patch, is_candidate: Mask) -> Mask:
    """(N,) points on or behind a plane that closes the view behind the object."""
    ring = patch.points[is_candidate & ~patch.inside(grown=1.05)]
    nothing = np.zeros(len(patch.points), bool)
    core = patch.points[is_candidate & patch.inside(grown=0.6)]
    if len(ring) < 100 or len(core) < 3:
        return nothing
    wall, is_on = _plane(ring)
    in_front = wall.heights(core) > _thickness(core)
    closes = (wall.heights(ring) > -_thickness(ring)).mean() > 0.95
    if is_on.mean() < 0.3 or in_front.mean() < 0.5 or not closes:
        return nothing
    return wall.heights(patch.points) < _thickness(patch.points)


def _clusters(points: Array, spacing_m: float) -> npt.NDArray[np.int64]:
    """(N,) cluster numbers from 0; -1 for stray points."""
    if not len(points):
        return np.zeros(0, np.int64)
    o3d = _open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    reach = max(0.012, 3.5 * spacing_m)
    return np.asarray(cloud.cluster_dbscan(eps=reach, min_points=5), np.int64)


def _overlap(uv_px: Array, xyxy_px: Array) -> float:
    """Intersection over union of a 2D box and the bounds of pixels (N, 2)."""
    low, high = np.percentile(uv_px + 0.5, [1, 99], axis=0)
    inter = np.prod(np.clip(np.minimum(high, xyxy_px[2:]) - np.maximum(low, xyxy_px[:2]), 0, None))
    union = np.prod(high - low) + np.prod(xyxy_px[2:] - xyxy_px[:2]) - inter
    return float(inter / union) if union > 0 else 0.0


def _free_box_of(points: Array) -> OrientedBox:
    """The box of an object that stands on nothing we see."""
    o3d = _open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    tight = cloud.get_oriented_bounding_box(robust=True)
    return free_box(np.asarray(tight.center), np.asarray(tight.R), np.asarray(tight.extent))


def _open3d() -> ModuleType:
    try:
        import open3d  # noqa: PLC0415  (heavy and optional: loaded when first needed)
    except ImportError as error:
        raise MissingDependency(
            "open3d", needed_for="lifting 2D boxes to 3D by depth", install="pip install open3d"
        ) from error
    return open3d
