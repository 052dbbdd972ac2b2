# SPDX-License-Identifier: Apache-2.0
"""What the demo asked for, what it was told, and how far that is from the truth.

Knows no ROS and no drawing: frozen values, their errors, and how they read as a table and as
JSON. Everything 3D is in the robot's frame (`base_link`) at the stamp of the picture asked about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from ..scene.as_json import rounded_score
from ..scene.camera import Intrinsics
from ..scene.detections import Detection2D
from ..scene.geometry import Array, OrientedBox, overlap_of_boxes, quaternion_from_rotation

# From this overlap on, a box is usually said to be of the same thing.
RIGHT_IOU = 0.5
ORDERS = np.array(list(permutations(range(3))))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """One picture of the robot's camera, and where the robot was.

    Attributes:
        stamp_ns: of the picture.
        image: (h, w, 3) uint8, RGB.
        intrinsics: of the picture.
        T_map_base: (4, 4) float64, at the stamp.
        T_base_camera: (4, 4) float64, at the stamp; camera optical frame.
    """

    stamp_ns: int
    image: npt.NDArray[np.uint8]
    intrinsics: Intrinsics
    T_map_base: Array
    T_base_camera: Array


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """Where the thing asked for is: `xyxy_px` (4,) around what shows of it; `box` in base."""

    xyxy_px: Array
    box: OrientedBox


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One question and its answer.

    Attributes:
        name: what was asked for.
        truth: None when it is not there.
        sighting: the picture that was answered about.
        found_2d: the 2D box, None when nothing was found.
        found_3d: its 3D box in the robot's frame, None when there is none.
        others: how many more were found.
        pictures: how many were looked at for this answer.
        answer_s: seconds the node took for this picture.
        remark: the node's, for a person; "" when there is none.
    """

    name: str
    truth: Truth | None
    sighting: Sighting
    found_2d: Detection2D | None
    found_3d: OrientedBox | None
    others: int
    pictures: int
    answer_s: float
    remark: str = ""

    @property
    def is_right(self) -> bool:
        """Found where it is in the picture, or rightly not found."""
        return self.found_2d is None if self.truth is None else (self.iou or 0.0) >= RIGHT_IOU

    @property
    def is_right_in_kind(self) -> bool:
        """Something was found, in 2D and 3D, of what is there; or nothing of what is not."""
        if self.truth is None:
            return self.found_2d is None
        return self.found_2d is not None and self.found_3d is not None

    @property
    def iou(self) -> float | None:
        """Overlap of the 2D box with the truth, 0 to 1."""
        if self.truth is None or self.found_2d is None:
            return None
        return overlap_of_boxes(self.found_2d.xyxy_px, self.truth.xyxy_px)

    @property
    def center_error_m(self) -> float | None:
        """Distance between the centres of the 3D boxes."""
        if self.truth is None or self.found_3d is None:
            return None
        return float(np.linalg.norm(self.found_3d.center_m - self.truth.box.center_m))

    @property
    def size_error_m(self) -> float | None:
        """The largest difference between the extents of the 3D boxes."""
        if self.truth is None or self.found_3d is None:
            return None
        return float(np.abs(size_difference(self.found_3d, self.truth.box)).max())


def size_difference(found: OrientedBox, true: OrientedBox) -> Array:
    """(3,) metres along the true box's axes, each against the found axis that lies along it.

    A box that is turned by a quarter and has its sizes swapped is the same box: no difference.
    """
    alike = np.abs(true.T_frame_box[:3, :3].T @ found.T_frame_box[:3, :3])  # true x found axes
    order = ORDERS[np.argmax(alike[np.arange(3), ORDERS].sum(axis=1))]
    return np.asarray(found.size_m[order] - true.size_m)


def table(findings: Sequence[Finding], *, frame_id: str) -> str:
    """What was found where, for a terminal; below it what the node remarked."""
    head = (
        "asked for",
        "2D IoU",
        f"found in {frame_id}, m",
        "truth, m",
        "centre off",
        "size off",
    )
    rows = [head, *(_row(finding) for finding in findings)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    remarks = [f"{finding.name}: {finding.remark}" for finding in findings if finding.remark]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *remarks])


def _row(finding: Finding) -> tuple[str, ...]:
    true = "not there" if finding.truth is None else _place(finding.truth.box)
    if finding.found_2d is None:
        return finding.name, "", "nothing", true, "", ""
    if finding.found_3d is None:
        return finding.name, _number(finding.iou), "no 3D box", true, "", ""
    return (
        finding.name,
        _number(finding.iou),
        _place(finding.found_3d),
        true,
        _centimetres(finding.center_error_m),
        _centimetres(finding.size_error_m),
    )


def _place(box: OrientedBox) -> str:
    return "  ".join(f"{value:+.3f}" for value in box.center_m)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _centimetres(value_m: float | None) -> str:
    return "" if value_m is None else f"{100 * value_m:.1f} cm"


def as_json(finding: Finding) -> dict[str, object]:
    """A finding as plain JSON values: pixels, metres, quaternions xyzw."""
    found_2d, found_3d = finding.found_2d, finding.found_3d
    return {
        "asked_for": finding.name,
        "stamp_ns": finding.sighting.stamp_ns,
        "pictures": finding.pictures,
        "answer_s": round(finding.answer_s, 3),
        "class_id": None if found_2d is None else found_2d.label,
        "score": None if found_2d is None else rounded_score(found_2d.score),
        "xyxy_px": None if found_2d is None else found_2d.xyxy_px.round(1).tolist(),
        "box_3d": None if found_3d is None else _box_as_json(found_3d),
        "others_found": finding.others,
        "truth": None
        if finding.truth is None
        else {
            "xyxy_px": finding.truth.xyxy_px.round(1).tolist(),
            "box_3d": _box_as_json(finding.truth.box),
        },
        "iou": _rounded(finding.iou),
        "center_error_m": _rounded(finding.center_error_m),
        "size_error_m": _rounded(finding.size_error_m),
        "remark": finding.remark,
    }


def _box_as_json(box: OrientedBox) -> dict[str, list[float]]:
    return {
        "position_m": box.center_m.round(4).tolist(),
        "quat_xyzw": quaternion_from_rotation(box.T_frame_box[:3, :3]).round(5).tolist(),
        "size_m": box.size_m.round(4).tolist(),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
