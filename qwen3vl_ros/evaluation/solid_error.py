# SPDX-License-Identifier: Apache-2.0
"""How far one 3D box is from another, whichever way their axes are named.

A box turned by a quarter about one of its axes, with two sizes swapped, is the same body; there
are 24 such descriptions. Of these, the one that is turned least from the truth is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np

from ..scene.geometry import OrientedBox, angle_between


def _axis_namings() -> np.ndarray:
    found = [
        np.eye(3)[list(order)] * np.array(signs)[:, None]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    ]
    return np.stack([R for R in found if np.linalg.det(R) > 0])


_NAMINGS = _axis_namings()  # (24, 3, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class SolidError:
    """Of one box against its truth.

    Attributes:
        center_m: distance of the centres.
        size_share: mean over the three sides of how wrong each is, as a share of the true one.
        turn_deg: angle of the turn from one to the other, 0 to 62.8 for want of more.
    """

    center_m: float
    size_share: float
    turn_deg: float


def solid_error(box: OrientedBox, truth: OrientedBox) -> SolidError:
    """What is wrong with a box.

    >>> quarter = np.array([[0.0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    >>> a = OrientedBox(T_frame_box=np.eye(4), size_m=np.array([1.0, 2, 3]))
    >>> b = OrientedBox(T_frame_box=quarter, size_m=np.array([3.0, 2, 1]))
    >>> solid_error(a, b)
    SolidError(center_m=0.0, size_share=0.0, turn_deg=0.0)
    """
    R, R_true = box.T_frame_box[:3, :3], truth.T_frame_box[:3, :3]
    turned = np.einsum("ij,njk->nik", R, _NAMINGS)
    # The trace of the turn between two rotations grows as its angle falls.
    best = int(np.einsum("nij,ij->n", turned, R_true).argmax())
    size = np.abs(_NAMINGS[best].T) @ box.size_m
    return SolidError(
        center_m=float(np.linalg.norm(box.center_m - truth.center_m)),
        size_share=float(np.mean(np.abs(size / truth.size_m - 1))),
        turn_deg=float(np.degrees(angle_between(turned[best], R_true))),
    )
