# SPDX-License-Identifier: Apache-2.0
"""A goal of ~/ask that can never be answered is refused when it comes, and told why."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from qwen3vl_ros.action import Ask
from qwen3vl_ros.errors import QueryError
from qwen3vl_ros.msg import Query as QueryMessage
from qwen3vl_ros.ros.ask_action import ask_goal
from qwen3vl_ros.ros.parameters import NodeParameters

WHAT = QueryMessage(task="ask", text="What is on the table?")
MUGS = QueryMessage(task="count", text="mugs")
WHEN = QueryMessage(task="locate_moment", text="the mug falls")


@pytest.mark.parametrize(
    ("query", "goal", "words"),
    [
        pytest.param(
            QueryMessage(task="refer", text="the mug"),
            {},
            "send it to the action ~/ground",
            id="a matter of place",
        ),
        pytest.param(QueryMessage(task="see"), {}, "expected one of spot_text,", id="no task"),
        pytest.param(QueryMessage(task="ask"), {}, "has no text", id="no question"),
        pytest.param(
            QueryMessage(task="spot_text", text_level="page"),
            {},
            "expected one of line, word",
            id="text level",
        ),
        pytest.param(
            QueryMessage(task="act", text="Go."), {}, "needs at least one to call", id="no tools"
        ),
        pytest.param(
            QueryMessage(task="act", text="Go.", tools_json='[{"name": "go"}]'),
            {},
            "KeyError: 'parameters'",
            id="half a tool",
        ),
        pytest.param(
            QueryMessage(task="act", text="Go.", tools_json="[" * 100_000),
            {},
            "tools_json cannot be read",
            id="hostile tools",
        ),
        pytest.param(
            QueryMessage(
                task="act", text="Go.", tools_json='[{"name": "\\ud800", "parameters": {}}]'
            ),
            {},
            "surrogates",
            id="half a character, which once ended the node",
        ),
        pytest.param(WHEN, {"video_s": 9.0}, "larger video_buffer_s", id="more than is kept"),
        pytest.param(WHEN, {"video_s": float("nan")}, "0 or more seconds", id="not a number"),
        pytest.param(WHEN, {"video_s": -1.0}, "0 or more seconds", id="the future"),
        pytest.param(WHEN, {}, "a video_s above 0", id="no video"),
        pytest.param(WHEN, {"video_s": 2.0, "pictures": 3}, "about a video", id="stills"),
        pytest.param(
            QueryMessage(task="compare", text="What differs?"),
            {"video_s": 2.0},
            "pictures of at least 2",
            id="nothing to compare",
        ),
        pytest.param(MUGS, {"video_s": 2.0}, "about one picture", id="to count in a video"),
        pytest.param(
            QueryMessage(task="spot_text"),
            {"video_s": 2.0, "pictures": 2},
            "about one picture",
            id="to read in several",
        ),
        pytest.param(
            QueryMessage(task="zoom", text="What does it say?"),
            {"video_s": 2.0},
            "looks closer at pictures",
            id="to look closer at a video",
        ),
        pytest.param(WHAT, {"pictures": 3}, "pictures is 3 with video_s 0", id="from no time"),
        pytest.param(WHAT, {"video_s": 2.0, "pictures": 1}, "pictures is 1", id="one in a row"),
    ],
)
def test_what_can_never_be_answered_is_refused_before_a_picture_is_waited_for(query, goal, words):
    handle = SimpleNamespace(request=Ask.Goal(query=query, **goal))
    with pytest.raises(QueryError) as refused:
        ask_goal(handle, query_id="goal-1", parameters=NodeParameters(video_buffer_s=8.0))
    assert words in str(refused.value)
