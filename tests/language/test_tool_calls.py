# SPDX-License-Identifier: Apache-2.0
"""What the calls of Qwen's own tools mean in pixels; which turns hold calls is in test_answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qwen3vl_ros.errors import AnswerError
from qwen3vl_ros.language.chat import Message, Picture, Role, message_from_step
from qwen3vl_ros.language.chat_template import ChatStyle, chat_text
from qwen3vl_ros.language.prompt import chat_from_query
from qwen3vl_ros.language.reading import thought_in
from qwen3vl_ros.language.tool_calls import (
    MOBILE_FULL_SCALE,
    parse_step,
    point_from_call,
    zoom_from_call,
)
from qwen3vl_ros.scene.answers import Step
from qwen3vl_ros.scene.detections import Query, Task
from qwen3vl_ros.scene.tools import Json, ToolCall

SIZES = [(1000, 500), (640, 480)]
BOX = [574, 301, 660, 468]


def zoom(**arguments: Json) -> ToolCall:
    return ToolCall(name="image_zoom_in_tool", arguments=arguments)


def test_a_zoom_is_a_box_on_the_users_picture_in_its_pixels():
    wish = zoom_from_call(zoom(bbox_2d=BOX, label="sign", img_idx=0), sizes=SIZES)
    assert (wish.picture, wish.label) == (0, "sign")
    assert wish.xyxy_px.tolist() == [574, 150.5, 660, 234]


def test_a_whole_number_may_be_written_with_a_point():
    assert zoom_from_call(zoom(bbox_2d=BOX, img_idx=1.0), sizes=SIZES).picture == 1


def test_the_only_picture_need_not_be_named():
    assert zoom_from_call(zoom(bbox_2d=BOX), sizes=SIZES[:1]).picture == 0


def test_a_box_that_slips_over_the_edge_is_clipped():
    wish = zoom_from_call(zoom(bbox_2d=[900, 1020, -10, 0], img_idx=0), sizes=SIZES)
    assert wish.xyxy_px.tolist() == [0, 0, 900, 500]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"bbox_2d": BOX}, "'img_idx' is None, expected 0 to 1", id="no-picture"),
        pytest.param({"bbox_2d": BOX, "img_idx": 2}, "'img_idx' is 2", id="crop-as-picture"),
        pytest.param({"bbox_2d": BOX, "img_idx": -1}, "'img_idx' is -1", id="from-the-end"),
        pytest.param({"bbox_2d": BOX, "img_idx": True}, "'img_idx' is True", id="bool"),
        pytest.param({"bbox_2d": BOX, "img_idx": "0"}, "'img_idx' is '0'", id="text"),
        pytest.param({"bbox_2d": BOX, "img_idx": [0]}, "'img_idx'", id="list"),
        pytest.param({"img_idx": 0}, "'bbox_2d' is not", id="no-box"),
        pytest.param({"bbox_2d": BOX[:3], "img_idx": 0}, "4 numbers", id="three-numbers"),
        pytest.param({"bbox_2d": [*BOX[:3], "9"], "img_idx": 0}, "4 numbers", id="text-in-box"),
        pytest.param({"bbox_2d": [*BOX[:3], True], "img_idx": 0}, "4 numbers", id="bool-in-box"),
        pytest.param({"bbox_2d": [1, 2, 1, 4], "img_idx": 0}, "no area", id="no-area"),
        pytest.param({"bbox_2d": [0, 0, 9999, 9], "img_idx": 0}, "far outside", id="far-outside"),
    ],
)
def test_a_zoom_that_cannot_be_done_is_an_error_to_tell_the_model(arguments, words):
    with pytest.raises(AnswerError, match="cannot be carried out") as caught:
        zoom_from_call(zoom(**arguments), sizes=SIZES)
    assert words in str(caught.value)


def test_the_click_of_qwens_own_notebook():
    """On a screen of 1440 x 3120; the notebook rounds to [644, 253]."""
    said = (
        "Thought: To search for Musk in X, I need to click on the search bar at the top of the "
        'screen.\nAction: "I tapped on the search bar."\n<tool_call>\n{"name": "mobile_use", '
        '"arguments": {"action": "click", "coordinate": [447, 81]}}\n</tool_call>'
    )
    (click,) = parse_step(said, ended=True).value.calls
    assert (click.name, click.arguments["action"]) == ("mobile_use", "click")
    u, v = point_from_call(
        click, "coordinate", width=1440, height=3120, full_scale=MOBILE_FULL_SCALE
    )
    assert (round(u), round(v)) == (644, 253)


def test_the_far_corner_of_a_mobile_screen_is_999():
    click = ToolCall(name="mobile_use", arguments={"coordinate": [999, 999]})
    corner = point_from_call(click, "coordinate", width=100, height=50, full_scale=999.0)
    assert corner == pytest.approx((100, 50))


def test_a_swipe_without_its_second_point_is_an_error():
    swipe = ToolCall(name="mobile_use", arguments={"action": "swipe", "coordinate": [1, 2]})
    with pytest.raises(AnswerError, match="'coordinate2' is not a list of 2 numbers"):
        point_from_call(swipe, "coordinate2", width=9, height=9, full_scale=999.0)


words = st.text(st.characters(exclude_categories=("C", "Z")), max_size=8)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**14), 10**14), words),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=3)
    ),
    max_leaves=5,
)
calls = st.builds(ToolCall, name=st.just("grasp"), arguments=st.dictionaries(words, values))
QUESTION = chat_from_query(Query(task=Task.ZOOM, text="What?"), [Picture(grid_hw=(2, 2))])


@settings(deadline=None, max_examples=60)
@given(made=st.lists(calls, min_size=1, max_size=3))
def test_calls_that_the_template_spells_are_read_back(made):
    step = Step(words="I look.", calls=tuple(made))
    told = chat_text(
        QUESTION.continued(message_from_step(step)), ChatStyle.INSTRUCT, open_turn=False
    )
    said = told.rpartition("<|im_start|>assistant\n")[2].removesuffix("<|im_end|>\n")
    assert parse_step(said, ended=True).value == step


def test_a_crop_goes_back_as_the_tools_answer_and_the_model_goes_on():
    said = (
        "Too small.\n</think>\n\nI zoom.\n<tool_call>\n"
        '{"name": "image_zoom_in_tool", "arguments": {"img_idx": 0}}\n</tool_call>'
    )
    step = parse_step(said, ended=True, thinking=True).value
    crop = Message(role=Role.TOOL, parts=(Picture(grid_hw=(4, 4)),))
    chat = QUESTION.continued(message_from_step(step, thought=thought_in(said)), crop)
    assert chat_text(chat, ChatStyle.THINKING).endswith(
        f"What?<|im_end|>\n<|im_start|>assistant\n<think>\n{said}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n<|vision_start|><|image_pad|><|vision_end|>\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n"
    )


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("Yes.", ""),
        ("a\n</think>\n\nYes.", "a"),
        ("<think>\na\n</think>Yes.", "a"),
        ("a</think>b</think>Yes.", "a"),
        ("<think>never ends", ""),
    ],
)
def test_the_thought_is_what_the_template_would_split_off(text, thought):
    assert thought_in(text) == thought
