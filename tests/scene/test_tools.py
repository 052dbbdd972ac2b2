# SPDX-License-Identifier: Apache-2.0
"""Tools and calls cannot be changed under whoever holds them."""

from __future__ import annotations

import pytest

from qwen3vl_ros.scene.tools import Tool, ToolCall, frozen_json, plain_json


def test_arguments_are_read_only_and_independent_of_what_they_were_made_from() -> None:
    coordinates = [1, 2]
    call = ToolCall(name="click", arguments={"at": coordinates})
    coordinates.append(3)
    assert call.arguments["at"] == (1, 2)
    with pytest.raises(TypeError):
        call.arguments["at"] = (9, 9)  # type: ignore[index]


def test_calls_that_say_the_same_are_equal() -> None:
    assert ToolCall(name="a", arguments={"b": [1]}) == ToolCall(name="a", arguments={"b": (1,)})


def test_parameters_come_back_as_they_were_in_their_order() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {"z": {"enum": [None, True, 1.5]}},
    }
    tool = Tool(name="a", description="does it", parameters=schema)
    plain = plain_json(tool.parameters)
    assert plain == schema
    assert list(plain) == list(schema)


def test_what_is_not_json_is_our_own_mistake() -> None:
    with pytest.raises(TypeError, match="set is not JSON"):
        frozen_json({"a": {1, 2}})
