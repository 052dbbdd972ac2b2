# SPDX-License-Identifier: Apache-2.0
"""The demo's map and picture: truth and answer of one question belong together, right or wrong."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from qwen3vl_ros.ros.demo_map import FAR_M, color_of, draw_map, footprint, placed, seen_floor
from qwen3vl_ros.ros.demo_picture import demo_figure, projected_edges, verdict
from qwen3vl_ros.scene.geometry import OrientedBox, inverse, transform_box, transform_from_rotation
from tests.ros.findings import TRUE_XYXY_PX, box, finding, sighting

ELSEWHERE_PX = (300.0, 100.0, 400.0, 200.0)


@pytest.mark.parametrize(
    ("upright", "outline"),
    [
        pytest.param(
            box(1.0, 0.0, size=(0.2, 0.4, 0.9)),
            [(0.9, -0.2), (0.9, 0.2), (1.1, -0.2), (1.1, 0.2)],
            id="straight",
        ),
        pytest.param(
            box(1.0, 0.0, size=(0.2, 0.4, 0.9), turned=90.0),
            [(0.8, -0.1), (0.8, 0.1), (1.2, -0.1), (1.2, 0.1)],
            id="a quarter turn",
        ),
        pytest.param(
            # Its y axis up: x and z are what shows from above.
            OrientedBox(
                T_frame_box=transform_from_rotation(
                    np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), np.array([1.0, 0, 0])
                ),
                size_m=np.array([0.2, 0.9, 0.4]),
            ),
            [(0.9, -0.2), (0.9, 0.2), (1.1, -0.2), (1.1, 0.2)],
            id="another axis up",
        ),
    ],
)
def test_a_box_from_above_is_its_level_outline(upright, outline):
    assert sorted(map(tuple, footprint(upright).round(9).tolist())) == sorted(outline)


def test_the_floor_seen_ends_where_the_picture_ends_or_at_the_horizon():
    down, ahead = sighting(pitch_down=45.0), sighting(pitch_down=0.0)
    near_left, near_right, far_right, far_left = seen_floor(down)
    # 0.5 m high, looking down by 45 degrees, half the height is 240 / 500 of the focal length.
    tan = 240 / 500
    assert near_left[0] == pytest.approx(0.5 * (1 - tan) / (1 + tan))
    assert far_left[0] == pytest.approx(0.5 * (1 + tan) / (1 - tan))
    assert near_left[1] == pytest.approx(-near_right[1])
    assert far_left[1] == pytest.approx(-far_right[1])
    assert near_left[1] > 0, "left of the picture is left of the robot, where y is positive"
    assert seen_floor(ahead)[2, 0] == pytest.approx(FAR_M), "rays above the horizon are cut"


def test_what_was_found_earlier_is_carried_to_where_the_robot_is_now():
    """The robot drove 0.4 m forward after the first answer, so that thing is 0.4 m nearer."""
    first, last = placed(
        [
            finding("red box", true=box(1.0, 0.2), found=box(1.1, 0.2), robot_x=0.0),
            finding("blue ball", true=box(1.0, 0.0), robot_x=0.4),
        ]
    )
    np.testing.assert_allclose(first.true.center_m, [0.6, 0.2, 0.1], atol=1e-12)
    np.testing.assert_allclose(first.found.center_m, [0.7, 0.2, 0.1], atol=1e-12)
    np.testing.assert_allclose(last.true.center_m, [1.0, 0.0, 0.1], atol=1e-12)
    assert last.found is None
    assert (first.label, last.label) == ("1 red box", "2 blue ball")


def drawn_map(findings):
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, 0.2, 0.8, 0.7))
    draw_map(axes, findings, frame_id="base_link")
    return axes


def test_an_answer_on_the_truth_of_another_question_is_seen_to_be_wrong():
    """Both once fell on each other's outline, and looked like two hits."""
    here, there = box(1.0, 0.3), box(1.0, -0.3)
    axes = drawn_map(
        [
            finding("yellow box", true=here, found=there, xyxy_px=ELSEWHERE_PX),
            finding("pink box", true=there, found=here, xyxy_px=ELSEWHERE_PX),
        ]
    )
    outlines = {
        to_hex(patch.get_edgecolor()): patch.get_xy()[:4, 0].mean()
        for patch in axes.patches
        if patch.get_linestyle() not in ("-", "solid")
    }
    assert outlines == {
        color_of(1).lower(): pytest.approx(0.3),
        color_of(2).lower(): pytest.approx(-0.3),
    }
    lines = [(to_hex(line.get_color()), *line.get_xdata()) for line in axes.lines]
    assert (color_of(1).lower(), 0.3, -0.3) in lines, "from where it is to where it was found"
    assert (color_of(2).lower(), -0.3, 0.3) in lines
    words = {text.get_text(): text.get_position()[0] for text in axes.texts}
    assert words["1"] == pytest.approx(-0.3), "the number stands where it was found"
    assert {"1 yellow box", "2 pink box"} <= set(words)


def test_what_is_not_there_says_so_beside_its_box():
    axes = drawn_map([finding("white ball", found=box(1.0, 0.0), xyxy_px=ELSEWHERE_PX)])
    assert "1 white ball (not there)" in {text.get_text() for text in axes.texts}


def test_the_legend_has_a_sign_for_each_thing_that_is_drawn():
    """`found, line to truth` once stood beside a filled box, with no line in sight."""
    legend = drawn_map([finding("red box", true=box(1, 0), found=box(1, 0.1))]).get_legend()
    signs = {
        text.get_text(): type(sign).__name__
        for text, sign in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }
    assert signs == {
        "where it was found": "Rectangle",
        "where it is": "Rectangle",
        "how far that is off": "Line2D",
        "floor in view": "Rectangle",
    }


def test_a_map_of_nothing_but_the_robot_can_be_drawn():
    assert drawn_map([finding("white ball")]).get_xlim()[0] > 0


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(
            {"true": box(1, 0), "found": box(1.1, 0), "xyxy_px": TRUE_XYXY_PX},
            "IoU 1.00, 10.0 cm off",
            id="found",
        ),
        pytest.param({"true": box(1, 0), "xyxy_px": TRUE_XYXY_PX}, "IoU 1.00", id="in 2D only"),
        pytest.param({"true": box(1, 0)}, "is there, but was not found", id="missed"),
        pytest.param({}, "rightly not found", id="absent and not found"),
        pytest.param(
            {"xyxy_px": ELSEWHERE_PX}, "is not there, but was found", id="absent and found"
        ),
    ],
)
def test_the_verdict_says_it_when_an_answer_is_wrong(answer, words):
    assert verdict(finding(**answer)) == words


def test_edges_behind_the_camera_are_not_drawn():
    view = sighting(pitch_down=0.0)
    ahead = transform_box(inverse(view.T_base_camera), box(2.0, 0.0))
    around = transform_box(inverse(view.T_base_camera), box(0.0, 0.0, size=(2.0, 2.0, 2.0)))
    assert len(projected_edges(ahead, view.intrinsics)) == 12
    assert len(projected_edges(around, view.intrinsics)) == 4, "its far side only"


def test_the_picture_holds_a_tile_for_each_question_and_the_map():
    findings = [
        finding("red box", true=box(1, 0), found=box(1, 0.1), xyxy_px=TRUE_XYXY_PX),
        finding("white ball"),
    ]
    figure = demo_figure(findings, frame_id="base_link", subtitle="")
    figure.canvas.draw()
    assert len(figure.axes) == 3
    assert "nothing found" in {text.get_text() for text in figure.axes[1].texts}
