# SPDX-License-Identifier: Apache-2.0
"""What the demo found, seen from above in the robot's frame: truth as outline, estimate filled.

Knows no ROS and nothing of the rest of the picture. The page shows the robot's frame at the last
answer, x forward up and y to the left, so that left on the page is left of the robot. The robot
moved between the answers; what it found earlier is carried there by the transforms of both
moments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Circle, FancyArrow, Patch, Polygon, Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Text
from matplotlib.ticker import MultipleLocator

from ..scene.geometry import Array, OrientedBox, inverse, points_in_frame, transform_box
from .demo_findings import Finding, Moment

# Okabe and Ito's colours, told apart with any kind of colour vision; numbers say the same.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
INK, FAINT = "#222222", "#8a8a8a"
FLOOR, FLOOR_EDGE, EARLIER = "#f4f1e4", "#d9d3b8", "#b5b5b5"
FAR_M = 6.0
ROBOT_RADIUS_M = 0.17
SCENE_MARGIN_M = 0.22


def colour_of(number: int) -> str:
    """The colour of the n-th question, counted from 1."""
    return COLOURS[(number - 1) % len(COLOURS)]


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


def seen_floor(moment: Moment) -> Array:
    """(4, 2) metres in the robot's frame: the piece of floor that the picture shows.

    Cut at `FAR_M` where a corner looks over the horizon.
    """
    w, h = moment.intrinsics.width, moment.intrinsics.height
    u = np.array([-0.5, w - 0.5, w - 0.5, -0.5])
    v = np.array([h - 0.5, h - 0.5, -0.5, -0.5])
    rays = moment.intrinsics.deproject(u, v, np.ones(4)) @ moment.T_base_camera[:3, :3].T
    eye = moment.T_base_camera[:3, 3]
    down = np.maximum(-rays[:, 2], eye[2] / FAR_M)
    return np.asarray(eye[:2] + rays[:, :2] * (eye[2] / down)[:, None])


def draw_map(axes: Axes, findings: Sequence[Finding], *, frame_id: str) -> None:
    """Draws the findings (at least one) into axes of any shape; `frame_id` names the frame."""
    last = findings[-1].moment
    found: list[tuple[int, OrientedBox]] = []
    true: list[tuple[int, OrientedBox]] = []
    for number, finding in enumerate(findings, start=1):
        T_last_then = inverse(last.T_map_base) @ finding.moment.T_map_base
        if finding.truth is not None:
            true.append((number, transform_box(T_last_then, finding.truth.box)))
        if finding.found_3d is not None:
            found.append((number, transform_box(T_last_then, finding.found_3d.box)))
    axes.add_patch(
        Polygon(
            seen_floor(last)[:, ::-1],
            closed=True,
            facecolor=FLOOR,
            edgecolor=FLOOR_EDGE,
            linewidth=1.0,
            zorder=0,
        )
    )
    for number, box in found:
        axes.add_patch(
            Polygon(
                footprint(box)[:, ::-1],
                closed=True,
                facecolor=colour_of(number),
                alpha=0.45,
                edgecolor="none",
                zorder=3,
            )
        )
        x, y = box.center_m[:2]
        axes.plot(
            y, x, "o", color=colour_of(number), markersize=6, markeredgecolor="white", zorder=5
        )
    for _, box in true:
        axes.add_patch(
            Polygon(
                footprint(box)[:, ::-1],
                closed=True,
                fill=False,
                edgecolor=INK,
                linewidth=1.6,
                linestyle=(0, (4, 2)),
                zorder=4,
            )
        )
        x, y = box.center_m[:2]
        axes.plot(y, x, "+", color=INK, markersize=11, markeredgewidth=1.6, zorder=6)
    then = [inverse(last.T_map_base) @ finding.moment.T_map_base for finding in findings]
    for T_last_base in then[:-1]:
        axes.add_patch(_robot_body(T_last_base, facecolor="none", edgecolor=EARLIER))
    _draw_robot(axes, frame_id=frame_id)
    boxes = [box for _, box in [*found, *true]]
    _set_limits(axes, boxes, robots=then)
    axes.set_aspect("equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MultipleLocator(0.5))
        axis.set_minor_locator(MultipleLocator(0.25))
    axes.set_axisbelow(True)
    axes.grid(which="both", color="#dddddd", linewidth=0.8)
    axes.set_xlabel(f"y of {frame_id}, left (m)", size=12, color=INK)
    axes.set_ylabel(f"x of {frame_id}, forward (m)", size=12, color=INK)
    axes.tick_params(labelsize=11, color=FAINT, labelcolor=INK)
    for spine in axes.spines.values():
        spine.set_color(FAINT)
    _draw_legend(axes, moved=any(np.abs(T[:3, 3]).max() > 0.02 for T in then))
    _draw_names(axes, findings, dict([*true, *found]), boxes)


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


def _set_limits(axes: Axes, boxes: Iterable[OrientedBox], *, robots: Iterable[Array]) -> None:
    spots = [footprint(box) for box in boxes]
    spots += [T[:2, 3] + np.array([[-0.32, -0.25], [0.3, 0.25]]) for T in robots]
    outline = np.concatenate(spots)
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
    found = Rectangle((0, 0), 1, 1, facecolor=COLOURS[0], alpha=0.45, edgecolor="none")
    true = Rectangle((0, 0), 1, 1, fill=False, edgecolor=INK, linestyle=(0, (4, 2)))
    view = Rectangle((0, 0), 1, 1, facecolor=FLOOR, edgecolor=FLOOR_EDGE)
    handles: list[Patch] = [found, true, view]
    labels = ["found", "truth", "floor in view"]
    if moved:
        handles.append(Circle((0, 0), 1, facecolor="none", edgecolor=EARLIER))
        labels.append("robot at earlier answers")
    axes.legend(
        handles,
        labels,
        loc="upper center",
        bbox_to_anchor=(0.45, -0.105),
        ncols=2,
        fontsize=12,
        frameon=False,
        columnspacing=1.6,
        handlelength=1.6,
    )


def _draw_names(
    axes: Axes,
    findings: Sequence[Finding],
    place_of: dict[int, OrientedBox],
    boxes: Sequence[OrientedBox],
) -> None:
    """Writes each name beside its box, where it hides neither a box nor another name."""
    figure = axes.figure
    figure.canvas.draw()  # settles limits and fonts
    renderer = cast(FigureCanvasAgg, figure.canvas).get_renderer()
    to_screen = axes.transData.transform
    obstacles = [_screen_rectangle(to_screen(footprint(box)[:, ::-1])) for box in boxes]
    robot = np.array([[-0.26, -0.3], [0.26, 0.26]])
    obstacles.append(_screen_rectangle(to_screen(robot)))
    page = axes.get_window_extent(renderer)
    frame = np.array([page.x0, page.y0, page.x1, page.y1])
    for number, box in sorted(place_of.items()):
        label = axes.text(
            0,
            0,
            f"{number} {findings[number - 1].name}",
            size=12.5,
            weight="bold",
            color=colour_of(number),
            zorder=10,
            path_effects=[Stroke(linewidth=3, foreground="white"), Normal()],
        )
        own = _screen_rectangle(to_screen(footprint(box)[:, ::-1]))
        _move_to_free_place(axes, label, own, obstacles, frame, renderer)
        extent = label.get_window_extent(renderer)
        obstacles.append(np.array([extent.x0, extent.y0, extent.x1, extent.y1]))


def _move_to_free_place(
    axes: Axes, label: Text, own: Array, obstacles: list[Array], frame: Array, renderer: object
) -> None:
    extent = label.get_window_extent(renderer)  # type: ignore[arg-type]
    w, h = extent.width, extent.height
    middle = (own[:2] + own[2:]) / 2
    candidates = []
    for step in (4, 14, 28, 46, 70, 100):
        candidates += [
            (middle[0] - w / 2, own[3] + step),
            (middle[0] - w / 2, own[1] - step - h),
            (own[2] + step, middle[1] - h / 2),
            (own[0] - step - w, middle[1] - h / 2),
            (own[2] + step, own[3] + step),
            (own[0] - step - w, own[3] + step),
        ]

    def hidden_area(at: tuple[float, float]) -> float:
        spot = np.array([at[0] - 2, at[1] - 2, at[0] + w + 2, at[1] + h + 2])
        outside = float(np.prod(spot[2:] - spot[:2])) - _shared_area(spot, frame)
        return outside + sum(_shared_area(spot, obstacle) for obstacle in obstacles)

    x, y = min(candidates, key=hidden_area)  # the first of equals: the nearest
    left, low = axes.transData.inverted().transform((x, y))
    label.set(position=(left, low), ha="left", va="bottom")


def _screen_rectangle(points: Array) -> Array:
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _shared_area(a: Array, b: Array) -> float:
    return float(np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0.0)))
