# SPDX-License-Identifier: Apache-2.0
"""From boxes in the picture to boxes in the world, by the depth pixels inside them.

Knows no model and no ROS. The only runtime file that needs Open3D, and imports it when first
used. One object at a time: take the depth in and around its 2D box (`depth_patch`), find what it
stands on, take the surface that fills the 2D box best, and fit an oriented box (`box_fit`).

Frame:  camera optical frame, metres. No gravity is known: what looks like a floor beneath the
        object, seen from above, is taken for its support.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from .box_fit import Plane, free_box, upright_box
from .camera import Frame
from .depth_patch import DepthPatch, Mask, NoDepth, depth_patch
from .detections import BoxSource, Detection2D, Detection3D
from .geometry import Array, OrientedBox

MIN_OBJECT_POINTS = 6
# Planes around an object: how many to look for, and the share of points that makes one.
MAX_PLANES = 3
MIN_PLANE_SHARE = 0.15
MIN_PLANE_POINTS = 30
RANSAC_ROUNDS = 100
RANSAC_POINTS = 1500
# A support's normal points up in the picture, or (seen from straight above) at the camera.
MIN_SUPPORT_UP = 0.25
MIN_SUPPORT_FACING = 0.94
# Points of one cluster are at most this many steps apart: pixels across, and in depth the larger
# of a centimetre and what a surface recedes by per pixel when seen at 14 degrees.
CLUSTER_REACH = 2.5
MIN_DEPTH_STEP_M = 0.010
GRAZING_STEPS = 4.0
# A cluster is the whole object if its bounds overlap the 2D box by this IoU, and then counts
# outside of the box too: the box may be imprecise.
MIN_OVERLAP = 0.55


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
        try:
            box, note = _box_from_depth(frame, detection.xyxy_px)
        except NoDepth as reason:
            lifted.append(fallback)
            kept = "no 3D box" if fallback is None else "kept the model's own 3D box"
            notes.append(f"'{detection.label}': {reason}; {kept}")
            continue
        lifted.append(
            Detection3D(
                label=detection.label, box=box, score=detection.score, source=BoxSource.DEPTH
            )
        )
        if note:
            notes.append(f"'{detection.label}': {note}")
    return LiftResult(detections=tuple(lifted), notes=tuple(notes))


def _box_from_depth(frame: Frame, xyxy_px: Array) -> tuple[OrientedBox, str]:
    """The box, and what there is to say about it ("" for nothing)."""
    if frame.depth_m is None:
        raise NoDepth("the frame has no depth")
    if frame.intrinsics is None:
        raise NoDepth("the camera is not calibrated")
    patch = depth_patch(frame.depth_m, frame.intrinsics, xyxy_px)
    support = _support(patch)
    is_object, is_torn = _object_points(patch, support)
    points = patch.points[is_object]
    if len(points) < MIN_OBJECT_POINTS:
        raise NoDepth(f"only {len(points)} depth points in its 2D box lie on one surface")
    note = "reaches the picture's border, its size is of the visible part" if patch.is_cut else ""
    if support is None:
        return _free_box_of(points), note
    # Round things show little below their equator; a larger gap means that it hangs, or stands
    # on something else that was torn off with the 2D box's edge.
    bottom, top = np.percentile(support.heights(points), [2, 98])
    stands = bottom < max(0.06, (0.25 if is_torn else 0.5) * top)
    return upright_box(points, support, stands=stands), note


# --- what it stands on ------------------------------------------------------------------------


def _thickness(points: Array) -> float:
    """How far a point may lie from a plane and still belong to it: noise grows with range."""
    return 0.006 + 0.003 * float(np.median(points[:, 2]))


def _support(patch: DepthPatch) -> Plane | None:
    """The plane beneath the object, found beside its foot, or else anywhere around it."""
    _, y1, _, y2 = patch.xyxy_px
    around = ~patch.inside(grown=1.05)
    foot = around & (patch.uv_px[:, 1] > y2 - 0.35 * (y2 - y1))
    core = patch.points[patch.inside(grown=0.7)]
    for ring in (foot, around):
        best, best_score = None, 0.0
        for plane, share in _planes(patch.points[ring]):
            # The top of a neighbour may be the larger plane, but then the object, and the floor
            # seen past it, lie partly below.
            below = np.mean(plane.heights(core) < -_thickness(core)) if len(core) else 0.0
            score = share - 2 * float(below)
            if score > best_score and _is_floorlike(plane):
                best, best_score = plane, score
        if best is not None:
            return _refitted(best, patch.points[around])
    return None


def _is_floorlike(plane: Plane) -> bool:
    up, facing = -plane.normal[1], -plane.normal[2]
    return bool(up > MIN_SUPPORT_UP or facing > MIN_SUPPORT_FACING)


def _planes(points: Array) -> Iterator[tuple[Plane, float]]:
    """The largest planes among (N, 3) points, each with its share of them."""
    total = len(points)
    enough = max(MIN_PLANE_POINTS, MIN_PLANE_SHARE * total)
    for _ in range(MAX_PLANES):
        if len(points) < enough:
            return
        plane = _plane(points)
        is_on = np.abs(plane.heights(points)) < _thickness(points)
        if is_on.sum() < enough:
            return
        yield plane, float(is_on.sum() / total)
        points = points[~is_on]


def _plane(points: Array) -> Plane:
    """The plane that most points lie on, facing the camera."""
    o3d = _open3d()
    o3d.utility.random.seed(0)
    sampled = points[:: 1 + len(points) // RANSAC_POINTS]
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(sampled))
    (a, b, c, d), _ = cloud.segment_plane(_thickness(points), 3, RANSAC_ROUNDS)
    scale = float(np.linalg.norm([a, b, c])) * (1.0 if d >= 0 else -1.0)
    return Plane(normal=np.array([a, b, c]) / scale, offset=d / scale)


def _refitted(plane: Plane, points: Array) -> Plane:
    """The same plane, by least squares over all points that lie on it."""
    on = points[np.abs(plane.heights(points)) < _thickness(points)]
    if len(on) < MIN_PLANE_POINTS:
        return plane
    middle = on.mean(axis=0)
    normal = np.linalg.eigh(np.cov((on - middle).T))[1][:, 0]
    normal = normal * np.sign(normal @ plane.normal)
    return Plane(normal=normal, offset=float(-normal @ middle))


# --- which points are its own -----------------------------------------------------------------


def _object_points(patch: DepthPatch, support: Plane | None) -> tuple[Mask, bool]:
    """(N,) the points of the surface that fills the 2D box best, and whether it goes on below."""
    inside = patch.inside()
    is_candidate = np.ones(len(patch.points), bool)
    if support is not None:
        is_candidate = support.heights(patch.points) > _thickness(patch.points)
        if (is_candidate & inside).sum() < MIN_OBJECT_POINTS:
            return inside, False  # flat: a sheet or a tile, no thicker than the noise
        is_candidate &= ~_on_wall(patch, is_candidate, support)
    index = np.flatnonzero(is_candidate)
    labels = _clusters(patch, index)
    best, best_overlap = inside & is_candidate, 0.0
    for label in range(labels.max(initial=-1) + 1):
        members = index[labels == label]
        overlap = _overlap(patch.uv_px[members], patch.xyxy_px)
        if overlap > best_overlap:
            best = np.zeros(len(patch.points), bool)
            best[members] = True
            best_overlap = overlap
    if best_overlap < MIN_OVERLAP:
        # Grown together with something else: trust the 2D box.
        outside = best & ~patch.inside(grown=1.05)
        goes_on_below = bool(
            (patch.uv_px[outside, 1] > patch.xyxy_px[3]).sum() > 0.3 * outside.sum()
        )
        return best & ~outside, goes_on_below
    if support is not None:
        best |= _grazed_top(patch, support, best) & is_candidate
    return best, False


def _clusters(patch: DepthPatch, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(N,) cluster numbers from 0 of the points `index` (N,); -1 for stray points.

    Points are neighbours in the picture and in depth. A surface seen at a grazing angle recedes
    by several times the width of a pixel, so depth is measured in larger steps.
    """
    if not len(index):
        return np.zeros(0, np.int64)
    o3d = _open3d()
    depth_step = max(MIN_DEPTH_STEP_M, GRAZING_STEPS * patch.spacing_m)
    steps = np.column_stack(
        [patch.uv_px[index] / patch.stride, patch.points[index, 2] / depth_step]
    )
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(steps))
    return np.asarray(cloud.cluster_dbscan(eps=CLUSTER_REACH, min_points=4), np.int64)


def _overlap(uv_px: Array, xyxy_px: Array) -> float:
    """Intersection over union of a 2D box and the bounds of pixels (N, 2)."""
    low, high = np.percentile(uv_px + 0.5, [1, 99], axis=0)
    shared = np.minimum(high, xyxy_px[2:]) - np.maximum(low, xyxy_px[:2])
    intersection = np.prod(np.clip(shared, 0, None))
    union = np.prod(high - low) + np.prod(xyxy_px[2:] - xyxy_px[:2]) - intersection
    return float(intersection / union) if union > 0 else 0.0


def _on_wall(patch: DepthPatch, is_candidate: Mask, support: Plane) -> Mask:
    """(N,) points on or behind a plane that closes the view behind the object."""
    around = ~patch.inside(grown=1.05)
    ring = patch.points[is_candidate & around]
    core = patch.points[is_candidate & patch.inside(grown=0.7)]
    nothing = np.zeros(len(patch.points), bool)
    if len(ring) < max(100, 0.25 * around.sum()) or len(core) < MIN_OBJECT_POINTS:
        return nothing
    wall = _plane(ring)
    heights, thickness = wall.heights(ring), _thickness(ring)
    stands_upright = abs(wall.normal @ support.normal) < 0.5
    covers = (np.abs(heights) < thickness).sum() > 0.25 * around.sum()
    closes = (heights > -thickness).mean() > 0.95
    in_front = (wall.heights(core) > _thickness(core)).mean() > 0.8
    if not (stands_upright and covers and closes and in_front):
        return nothing
    return wall.heights(patch.points) < _thickness(patch.points)


def _grazed_top(patch: DepthPatch, support: Plane, is_object: Mask) -> Mask:
    """(N,) points in the 2D box at the height of the object's top, if that is seen edge-on.

    From a camera hardly higher than the object, rows of its top are too far apart to cluster.
    """
    if not is_object.any():
        return is_object
    heights = support.heights(patch.points)
    near, far = np.percentile(patch.points[is_object, 2], [2, 98])
    width = np.ptp(np.percentile(patch.points[is_object, 0], [2, 98]))
    top = float(np.percentile(heights[is_object], 98))
    if not 0 < support.offset - top < 0.25 * far:
        return np.zeros(len(heights), bool)
    # Nearer, or beyond its width, it is rather the top of something else.
    depth = patch.points[:, 2]
    belongs = (depth > near - 0.02) & (depth < near + 1.3 * width)
    is_level: Mask = np.abs(heights - top) < _thickness(patch.points)
    return patch.inside() & belongs & is_level


def _free_box_of(points: Array) -> OrientedBox:
    """The box of an object that stands on nothing we see."""
    o3d = _open3d()
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
    tight = cloud.get_oriented_bounding_box(robust=True)
    return free_box(np.asarray(tight.center), np.asarray(tight.R), np.asarray(tight.extent))


def _open3d() -> ModuleType:
    try:
        import open3d  # heavy and optional: loaded when first needed
    except ImportError as error:
        raise MissingDependency(
            "open3d", needed_for="lifting 2D boxes to 3D by depth", install="pip install open3d"
        ) from error
    return open3d
