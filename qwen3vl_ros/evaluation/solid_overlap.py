# SPDX-License-Identifier: Apache-2.0
"""How much two oriented boxes share: the exact volume of their intersection.

Both boxes are convex, and so is what they share. Its corners are corners of one box inside the
other, and points where an edge of one goes through a face of the other; Qhull
(`scipy.spatial.ConvexHull`) gives the volume within them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import MissingDependency
from ..scene.geometry import EDGES, OrientedBox

try:
    from scipy.spatial import ConvexHull, QhullError
except ImportError as error:  # pragma: no cover - part of what make setup installs
    raise MissingDependency(
        "scipy",
        needed_for="comparing 3D boxes",
        install="pip install -e '.[evaluate]' (or make setup)",
    ) from error

# Of a box's diagonal: what lies so near to a face lies on it. Shared faces and equal boxes are the
# rule among truths and answers, and rounding must not decide about them.
_ON_A_FACE = 1e-9
_LEAST_CORNERS = 4  # of a body

_Points = npt.NDArray[np.float64]


def overlap_of_solids(a: OrientedBox, b: OrientedBox) -> float:
    """Intersection over union of two boxes in one frame, by volume, 0 to 1.

    >>> half_apart = np.eye(4); half_apart[0, 3] = 0.5
    >>> a = OrientedBox(T_frame_box=np.eye(4), size_m=np.ones(3))
    >>> b = OrientedBox(T_frame_box=half_apart, size_m=np.ones(3))
    >>> round(overlap_of_solids(a, b), 6)
    0.333333
    """
    shared = shared_volume_m3(a, b)
    union = float(np.prod(a.size_m) + np.prod(b.size_m)) - shared
    return min(shared / union, 1.0) if union > 0 else 0.0


def shared_volume_m3(a: OrientedBox, b: OrientedBox) -> float:
    """Volume of what two boxes in one frame share, cubic metres."""
    reach = float(np.linalg.norm(a.size_m) + np.linalg.norm(b.size_m)) / 2
    if np.linalg.norm(a.center_m - b.center_m) >= reach:
        return 0.0
    margin = _ON_A_FACE * reach
    corners = np.concatenate(
        [
            _corners_inside(a, b, margin),
            _corners_inside(b, a, margin),
            _edges_through_faces(a, b, margin),
            _edges_through_faces(b, a, margin),
        ]
    )
    if len(corners) < _LEAST_CORNERS:
        return 0.0
    try:
        # Around their middle and in units of the boxes: far from the origin Qhull loses digits.
        volume = ConvexHull((corners - a.center_m) / reach).volume * reach**3
    except QhullError:
        return 0.0  # they touch in a face, an edge or a corner: flat, without volume
    return float(volume)


def _in_axes_of(box: OrientedBox, points: _Points) -> _Points:
    """(N, 3) points of the frame, in the box's own axes, from its centre."""
    return (points - box.center_m) @ box.T_frame_box[:3, :3]


def _corners_inside(box: OrientedBox, other: OrientedBox, margin: float) -> _Points:
    corners = box.corners()
    inside = np.abs(_in_axes_of(other, corners)) <= other.size_m / 2 + margin
    return corners[inside.all(axis=1)]


def _edges_through_faces(box: OrientedBox, other: OrientedBox, margin: float) -> _Points:
    corners = box.corners()
    ends = _in_axes_of(other, corners)
    starts, steps = ends[[i for i, _ in EDGES]], ends[[j for _, j in EDGES]]
    steps = steps - starts
    half = other.size_m / 2
    planes = np.stack([-half, half])  # (2, 3): two faces across each axis
    with np.errstate(divide="ignore", invalid="ignore"):
        along = (planes[:, None] - starts) / steps  # (2, 12, 3), share of the edge
    side, edge, axis = np.nonzero((along >= 0) & (along <= 1))
    points = starts[edge] + along[side, edge, axis][:, None] * steps[edge]
    points[np.arange(len(points)), axis] = planes[side, axis]
    points = points[(np.abs(points) <= half + margin).all(axis=1)]
    return points @ other.T_frame_box[:3, :3].T + other.center_m
