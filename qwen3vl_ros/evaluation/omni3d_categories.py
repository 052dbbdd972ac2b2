# SPDX-License-Identifier: Apache-2.0
"""Which categories of its three indoor test sets Omni3D evaluates.

The files hold more (SUNRGBD_test.json has 83), and a mean over others is another number by a
factor. From facebookresearch/omni3d, cubercnn/data/builtin.py.
"""

from __future__ import annotations

from collections.abc import Mapping

_HYPERSIM = (
    "books, chair, towel, blinds, window, lamp, shelves, mirror, sink, cabinet, bathtub, door, "
    "desk, box, bookcase, picture, table, counter, bed, night stand, pillow, sofa, television, "
    "floor mat, curtain, clothes, stationery, refrigerator"
)
_ALSO_IN_SUNRGBD = "bicycle, bottle, cup, laptop, shoes, toilet, bin, stove, oven, machine"
_ARKITSCENES = (
    "table, bed, sofa, television, refrigerator, chair, oven, machine, stove, shelves, sink, "
    "cabinet, bathtub, toilet"
)

CATEGORIES: Mapping[str, frozenset[str]] = {
    "omni3d-sunrgbd": frozenset(f"{_HYPERSIM}, {_ALSO_IN_SUNRGBD}".split(", ")),
    "omni3d-hypersim": frozenset(_HYPERSIM.split(", ")),
    "omni3d-arkitscenes": frozenset(_ARKITSCENES.split(", ")),
}
