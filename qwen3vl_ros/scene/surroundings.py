# SPDX-License-Identifier: Apache-2.0
"""What is around an object: the plane it stands on, and a wall behind it.

Knows no gravity: what looks like a floor from above is taken for a support. Camera optical
frame, metres.
"""

from __future__ import annotations

import numpy as np

from .depth_patch import DepthPatch, Mask
from .planes import Plane, largest_plane, planes_among, refitted, thickness_m

# A support's normal points up in the picture, or (seen from straight above) at the camera.
MIN_SUPPORT_UP = 0.25
MIN_SUPPORT_FACING = 0.94
MIN_WALL_POINTS = 100


def support_beneath(patch: DepthPatch) -> Plane | None:
    """The plane beneath the object, found beside its foot, or else anywhere around it."""
    _, y1, _, y2 = patch.xyxy_px
    around = ~patch.inside(grown=1.05)
    foot = around & (patch.uv_px[:, 1] > y2 - 0.35 * (y2 - y1))
    is_lower = patch.uv_px[:, 1] > (y1 + y2) / 2
    core = patch.points[patch.inside(grown=0.7) & is_lower]
    for ring in (foot, around):
        best, best_score = None, 0.0
        for plane, share in planes_among(patch.points[ring]):
            # The top of a neighbour may be the larger plane, but then the lower part of the
            # object is below it.
            below = np.mean(plane.heights(core) < -thickness_m(core)) if len(core) else 0.0
            score = share - 2 * float(below)
            if score > best_score and _is_floorlike(plane):
                best, best_score = plane, score
            if best_score > 0.5:  # none that is left can hold more points
                break
        if best is not None:
            return refitted(best, patch.points[around])
    return None


def _is_floorlike(plane: Plane) -> bool:
    up, facing = -plane.normal[1], -plane.normal[2]
    return bool(up > MIN_SUPPORT_UP or facing > MIN_SUPPORT_FACING)


def on_wall_behind(patch: DepthPatch, is_candidate: Mask, support: Plane) -> Mask:
    """(N,) points on or behind a plane that closes the view behind the object."""
    around = ~patch.inside(grown=1.05)
    ring = patch.points[is_candidate & around]
    core = patch.points[is_candidate & patch.inside(grown=0.7)]
    nothing = np.zeros(len(patch.points), bool)
    if len(ring) < max(MIN_WALL_POINTS, 0.25 * around.sum()) or not len(core):
        return nothing
    wall = largest_plane(ring)
    heights, thickness = wall.heights(ring), thickness_m(ring)
    stands_upright = abs(wall.normal @ support.normal) < 0.5
    covers = (np.abs(heights) < thickness).sum() > 0.25 * around.sum()
    closes = (heights > -thickness).mean() > 0.95
    in_front = (wall.heights(core) > thickness_m(core)).mean() > 0.8
    if not (stands_upright and covers and closes and in_front):
        return nothing
    return wall.heights(patch.points) < thickness_m(patch.points)
