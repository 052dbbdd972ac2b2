# SPDX-License-Identifier: Apache-2.0
"""From boxes in the picture to boxes in the world, by the depth pixels inside them.

Knows no model and no ROS. The only runtime file that needs Open3D, and imports it when first
used. One object at a time: take the depth in and around its 2D box (`depth_patch`), find what it
stands on (`surroundings`), take the surface that fills the 2D box best, and fit an oriented box
(`box_fit`).

Frame:  camera optical frame, metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from .box_fit import free_box, upright_box
from .camera import Frame
from .depth_patch import DepthPatch, Mask, NoDepth, depth_patch
from .detections import BoxSource, Detection2D, Detection3D
from .geometry import Array, OrientedBox, overlap_of_boxes
from .planes import Plane, thickness_m
from .surroundings import on_wall_behind, support_beneath

MIN_OBJECT_POINTS = 6
# Points of one cluster are at most this many steps apart: pixels across, and in depth the larger
# of 8 mm and what a surface recedes by per pixel when seen at 18 degrees.
CLUSTER_REACH = 2.5
MIN_DEPTH_STEP_M = 0.008
GRAZING_STEPS = 3.0
FREE_BOX_POINTS = 500
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

    def filled(self, own: Sequence[Detection3D | None]) -> LiftResult:
        """With the model's own boxes, one or None per detection, where depth gave none."""
        lifted: list[Detection3D | None] = []
        notes = list(self.notes)
        for detection, fallback in zip(self.detections, own, strict=True):
            lifted.append(fallback if detection is None else detection)
            if detection is None and fallback is not None:
                notes.append(f"'{fallback.label}': kept the model's own 3D box")
        return LiftResult(detections=tuple(lifted), notes=tuple(notes))


def lift(frame: Frame, detections: Sequence[Detection2D]) -> LiftResult:
    """A 3D box for every 2D box, where there is depth enough.

    Args:
        frame: its depth and intrinsics are used; without either there is no box.
        detections: boxes in `frame`'s own pixels.

    What hinders is a note and costs the third dimension only, a missing Open3D too.
    """
    lifted: list[Detection3D | None] = []
    notes: list[str] = []
    for detection in detections:
        try:
            box, remarks = _box_from_depth(frame, detection.xyxy_px)
        except (NoDepth, MissingDependency) as reason:
            lifted.append(None)
            notes.append(f"'{detection.label}': {reason}; no 3D box from depth")
            continue
        lifted.append(
            Detection3D(
                label=detection.label, box=box, score=detection.score, source=BoxSource.DEPTH
            )
        )
        notes.extend(f"'{detection.label}': {remark}" for remark in remarks)
    return LiftResult(detections=tuple(lifted), notes=tuple(notes))


def _box_from_depth(frame: Frame, xyxy_px: Array) -> tuple[OrientedBox, list[str]]:
    """The box, and what there is to say about it."""
    if frame.depth_m is None:
        raise NoDepth("the frame has no depth")
    if frame.intrinsics is None:
        raise NoDepth("the camera is not calibrated")
    patch = depth_patch(frame.depth_m, frame.intrinsics, xyxy_px)
    support = support_beneath(patch)
    is_object, is_torn = _object_points(patch, support)
    points = patch.points[is_object]
    if len(points) < MIN_OBJECT_POINTS:
        raise NoDepth(f"only {len(points)} depth points in its 2D box lie on one surface")
    remarks = []
    if patch.is_cut:
        remarks.append("reaches the picture's border, its size may be of the visible part only")
    if support is None:
        remarks.append("nothing seen that it stands on, its tilt is a guess")
        return _free_box_of(points), remarks
    # Round things show little below their equator; a larger gap means that it hangs, or stands
    # on something else that was torn off with the 2D box's edge.
    bottom, top = np.percentile(support.heights(points), [2, 98])
    view = np.median(points, axis=0)
    is_seen_from_above = -view @ support.normal > 0.9 * np.linalg.norm(view)
    stands = is_seen_from_above or bottom < max(0.06, (0.25 if is_torn else 0.5) * top)
    return upright_box(points, support, stands=bool(stands)), remarks


# --- which points are its own -----------------------------------------------------------------


def _object_points(patch: DepthPatch, support: Plane | None) -> tuple[Mask, bool]:
    """(N,) the points of the surface that fills the 2D box best, and whether it goes on below."""
    inside = patch.inside()
    is_candidate = np.ones(len(patch.points), bool)
    if support is not None:
        is_candidate = support.heights(patch.points) > thickness_m(patch.points)
        if (is_candidate & inside).sum() < MIN_OBJECT_POINTS:
            return inside, False  # flat: a sheet or a tile, no thicker than the noise
        is_candidate &= ~on_wall_behind(patch, is_candidate, support)
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
    o3d = load_open3d()
    depth_step = max(MIN_DEPTH_STEP_M, GRAZING_STEPS * patch.spacing_m)
    steps = np.column_stack(
        [patch.uv_px[index] / patch.stride, patch.points[index, 2] / depth_step]
    )
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(steps))
    return np.asarray(cloud.cluster_dbscan(eps=CLUSTER_REACH, min_points=4), np.int64)


def _overlap(uv_px: Array, xyxy_px: Array) -> float:
    """Intersection over union of a 2D box and the bounds of pixels (N, 2)."""
    low, high = np.percentile(uv_px + 0.5, [1, 99], axis=0)
    return overlap_of_boxes(np.concatenate([low, high]), xyxy_px)


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
    is_level = np.abs(heights - top) < thickness_m(patch.points)
    grazed: Mask = patch.inside() & belongs & is_level
    return grazed


def _free_box_of(points: Array) -> OrientedBox:
    """The box of an object that stands on nothing we see: the tight box of least volume."""
    o3d = load_open3d()
    sampled = points[:: 1 + len(points) // FREE_BOX_POINTS]
    cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(sampled))
    axes = np.asarray(cloud.get_minimal_oriented_bounding_box(robust=True).R)
    return free_box(points, axes)


def load_open3d() -> ModuleType:
    """Open3D, imported when first needed: that takes seconds, so a node asks for it early.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import open3d
    except ImportError as error:
        raise MissingDependency(
            "open3d",
            needed_for="lifting 2D boxes to 3D by depth",
            install="make setup (or pip install -r requirements/runtime.txt)",
        ) from error
    return open3d
