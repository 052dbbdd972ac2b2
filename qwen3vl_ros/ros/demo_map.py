# SPDX-License-Identifier: Apache-2.0
"""What the demo found, seen from above in the robot's frame: truth as outline, estimate filled.

Knows no ROS and nothing of the rest of the picture. The page shows the robot's frame at the last
answer, x forward up and y to the left, so that left on the page is left of the robot. The robot
moved between the answers; what it found earlier is carried there by the transforms of both
moments.

A question's truth and its answer have one colour, one number, and a line from one to the other:
an answer that lies on another question's truth is seen to be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrow, Polygon, Rectangle
from matplotlib.ticker import MultipleLocator

from ..scene.geometry import Array, OrientedBox, inverse, points_in_frame, transform_box
from .demo_findings import Finding, Sighting
from .demo_names import draw_names

# Okabe and Ito's colours, told apart with any kind of colour vision; numbers say the same.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, FAINT = "#222222", "#8a8a8a"
FLOOR, FLOOR_EDGE, EARLIER = "#f4f1e4", "#d9d3b8", "#b5b5b5"
DASHED = (0, (4, 2))
FAR_M = 6.0
ROBOT_RADIUS_M = 0.17
SCENE_MARGIN_M = 0.22
# A robot that moved less between two answers is drawn once.
STOOD_STILL_M = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """One question on the map; boxes in the robot's frame at the last answer.

    Attributes:
        number: of the question, counted from 1.
        name: what was asked for.
        true: where it is; None when it is not there.
        found: where it was found; None when it has no 3D box.
    """

    number: int
    name: str
    true: OrientedBox | None
    found: OrientedBox | None

    @property
    def label(self) -> str:
        """Its number and name; a thing found that is not there says so."""
        absent = " (not there)" if self.true is None else ""
        return f"{self.number} {self.name}{absent}"

    @property
    def boxes(self) -> tuple[OrientedBox, ...]:
        """The truth first; its name stands beside the first."""
        return tuple(box for box in (self.true, self.found) if box is not None)


def color_of(number: int) -> str:
    """The colour of the n-th question, counted from 1."""
    return PALETTE[(number - 1) % len(PALETTE)]


def placed(findings: Sequence[Finding]) -> list[Placed]:
    """Every finding carried to the robot's frame at the last answer."""
    T_last_map = inverse(findings[-1].sighting.T_map_base)
    places = []
    for number, finding in enumerate(findings, start=1):
        T_last_then = T_last_map @ finding.sighting.T_map_base
        true = None if finding.truth is None else transform_box(T_last_then, finding.truth.box)
        found = None if finding.found_3d is None else transform_box(T_last_then, finding.found_3d)
        places.append(Placed(number=number, name=finding.name, true=true, found=found))
    return places


def footprint(box: OrientedBox) -> Array:
    """(4, 2) float64: the outline of an upright box from above, x and y of the frame, in order.

    Of a tilted box it is the outline of its most level side.
    """
    up = int(np.argmax(np.abs(box.T_frame_box[2, :3])))  # of its axes, the one nearest to z
    side, other = (axis for axis in range(3) if axis != up)
    ring = np.zeros((4, 3))
    ring[:, side] = np.array([-0.5, 0.5, 0.5, -0.5]) * box.size_m[side]
    ring[:, other] = np.array([-0.5, -0.5, 0.5, 0.5]) * box.size_m[other]
    return points_in_frame(box.T_frame_box, ring)[:, :2]


def seen_floor(sighting: Sighting) -> Array:
    """(4, 2) metres in the robot's frame: the piece of floor that the picture shows.

    Cut at `FAR_M` where a corner looks over the horizon.
    """
    w, h = sighting.intrinsics.width, sighting.intrinsics.height
    u = np.array([-0.5, w - 0.5, w - 0.5, -0.5])
    v = np.array([h - 0.5, h - 0.5, -0.5, -0.5])
    rays = sighting.intrinsics.deproject(u, v, np.ones(4)) @ sighting.T_base_camera[:3, :3].T
    eye = sighting.T_base_camera[:3, 3]
    down = np.maximum(-rays[:, 2], eye[2] / FAR_M)
    return np.asarray(eye[:2] + rays[:, :2] * (eye[2] / down)[:, None])


def draw_map(axes: Axes, findings: Sequence[Finding], *, frame_id: str) -> None:
    """Draws the findings (at least one) into axes of any shape; `frame_id` names the frame."""
    places = placed(findings)
    last = findings[-1].sighting
    T_last_map = inverse(last.T_map_base)
    earlier = [T_last_map @ finding.sighting.T_map_base for finding in findings[:-1]]
    _draw_outline(axes, seen_floor(last), facecolor=FLOOR, edgecolor=FLOOR_EDGE, zorder=0)
    for place in places:
        _draw_found(axes, place)
        _draw_true(axes, place)
        _draw_error(axes, place)
    for T_last_base in earlier:
        axes.add_patch(_robot_body(T_last_base, facecolor="none", edgecolor=EARLIER))
    _draw_robot(axes, frame_id=frame_id)
    spots = [footprint(box) for place in places for box in place.boxes]
    _set_limits(axes, spots, robots=[*earlier, np.eye(4)])
    _style_axes(axes, frame_id=frame_id)
    _draw_legend(axes, moved=any(np.abs(T[:3, 3]).max() > STOOD_STILL_M for T in earlier))
    robot = np.array([[-0.26, -0.3], [0.26, 0.26]])
    draw_names(
        axes,
        [
            (place.label, color_of(place.number), footprint(place.boxes[0])[:, ::-1])
            for place in places
            if place.boxes
        ],
        obstacles=[*(spot[:, ::-1] for spot in spots), robot],
    )


def _draw_outline(axes: Axes, outline: Array, *, zorder: int, **style: object) -> None:
    """A polygon of (N, 2) metres, x and y of the robot's frame; y is the page's abscissa."""
    axes.add_patch(Polygon(outline[:, ::-1], closed=True, zorder=zorder, **style))


def _draw_found(axes: Axes, place: Placed) -> None:
    """The estimate: filled, its number at its centre."""
    if place.found is None:
        return
    color = color_of(place.number)
    outline = footprint(place.found)
    _draw_outline(axes, outline, facecolor=color, alpha=0.45, edgecolor="none", zorder=3)
    x, y = place.found.center_m[:2]
    axes.plot(y, x, "o", color=color, markersize=14, markeredgecolor="white", zorder=6)
    axes.text(
        y,
        x,
        str(place.number),
        size=9.5,
        weight="bold",
        color="white",
        ha="center",
        va="center_baseline",
        zorder=7,
    )


def _draw_true(axes: Axes, place: Placed) -> None:
    """The truth: a dashed outline in the colour of its question, a cross at its centre."""
    if place.true is None:
        return
    color = color_of(place.number)
    outline = footprint(place.true)
    _draw_outline(axes, outline, fill=False, edgecolor="white", linewidth=3.4, zorder=4)
    _draw_outline(
        axes, outline, fill=False, edgecolor=color, linewidth=2.0, linestyle=DASHED, zorder=4
    )
    x, y = place.true.center_m[:2]
    axes.plot(y, x, "+", color=color, markersize=11, markeredgewidth=2.0, zorder=5)


def _draw_error(axes: Axes, place: Placed) -> None:
    """How far off the estimate is: a line from the centre of the truth to it."""
    if place.true is None or place.found is None:
        return
    (x, y), (found_x, found_y) = place.true.center_m[:2], place.found.center_m[:2]
    axes.plot([y, found_y], [x, found_x], color=color_of(place.number), linewidth=1.6, zorder=5)


def _style_axes(axes: Axes, *, frame_id: str) -> None:
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.5))
        axis.set_minor_locator(MultipleLocator(0.25))
    axes.set_axisbelow(True)
    axes.grid(which="both", color="#dddddd", linewidth=0.8)
    axes.set_xlabel(f"y of {frame_id} at the last answer, left (m)", size=12, color=INK)
    axes.set_ylabel(f"x of {frame_id} at the last answer, forward (m)", size=12, color=INK)
    axes.tick_params(labelsize=11, color=FAINT, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(FAINT)


def _robot_body(T_last_base: Array, *, facecolor: str, edgecolor: str) -> Polygon:
    """A rounded body with its nose at x forward."""
    angles = np.radians(np.linspace(40, 320, 24))
    rim = ROBOT_RADIUS_M * np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    nose = np.array([[1.35 * ROBOT_RADIUS_M, 0.0, 0.0]])
    outline = points_in_frame(T_last_base, np.concatenate([nose, rim]))[:, 1::-1]
    return Polygon(
        outline,
        closed=True,
        facecolor=facecolor,
        edgecolor=edgecolor,
        linewidth=1.3,
        zorder=1 if facecolor == "none" else 7,
    )


def _draw_robot(axes: Axes, *, frame_id: str) -> None:
    axes.add_patch(_robot_body(np.eye(4), facecolor="#5f6b73", edgecolor=INK))
    axes.add_patch(Circle((0, 0), 0.018, color="white", zorder=9))
    for dx, dy, letter in ((0.0, 0.11, "x"), (0.11, 0.0, "y")):
        axes.add_patch(
            FancyArrow(
                0,
                0,
                dx,
                dy,
                width=0.012,
                head_width=0.045,
                color="white",
                length_includes_head=True,
                zorder=8,
            )
        )
        axes.text(
            1.32 * dx + 0.0,
            1.32 * dy,
            letter,
            size=9,
            color="white",
            ha="center",
            va="center",
            zorder=9,
        )
    axes.text(
        0,
        -ROBOT_RADIUS_M - 0.03,
        frame_id,
        size=12,
        weight="bold",
        color=INK,
        ha="center",
        va="top",
        zorder=9,
    )


def _set_limits(axes: Axes, spots: Sequence[Array], *, robots: Sequence[Array]) -> None:
    around = np.array([[-0.32, -0.25], [0.3, 0.25]])
    outline = np.concatenate([*spots, *(T[:2, 3] + around for T in robots)])
    low = outline.min(axis=0)
    high = outline.max(axis=0) + np.array([SCENE_MARGIN_M, 0.0])
    # The axes keep their shape on the page: what is too narrow for it is widened about its middle.
    page = axes.get_window_extent()
    wide = high[1] - low[1] + 2 * SCENE_MARGIN_M
    tall = max(high[0] - low[0], wide * page.height / page.width)
    wide = tall * page.width / page.height
    middle = (low[1] + high[1]) / 2
    axes.set_xlim(middle + wide / 2, middle - wide / 2)
    axes.set_ylim(low[0], low[0] + tall)


def _draw_legend(axes: Axes, *, moved: bool) -> None:
    found = Rectangle((0, 0), 1, 1, facecolor=PALETTE[0], alpha=0.45, edgecolor="none")
    true = Rectangle((0, 0), 1, 1, fill=False, edgecolor=PALETTE[0], linestyle=DASHED)
    view = Rectangle((0, 0), 1, 1, facecolor=FLOOR, edgecolor=FLOOR_EDGE)
    error = Line2D([], [], color=PALETTE[0], linewidth=1.6)
    handles: list[Artist] = [found, true, error, view]
    labels = ["where it was found", "where it is", "how far that is off", "floor in view"]
    if moved:
        handles.append(Circle((0, 0), 1, facecolor="none", edgecolor=EARLIER))
        labels.append("robot at earlier answers")
    axes.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.09),
        ncols=2,
        fontsize=12,
        frameon=False,
        columnspacing=1.6,
        handlelength=1.6,
    )
