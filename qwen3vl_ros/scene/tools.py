# SPDX-License-Identifier: Apache-2.0
"""Tools that a model may call, and calls of them: frozen values, nothing computed.

Knows neither how a tool is described to the model (`language/chat.py`) nor how a call is read
from its words (`language/tool_calls.py`); runs no tool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | tuple[Json, ...] | Mapping[str, Json] | None"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """Something the model may ask to have done.

    Attributes:
        name: as the model will write it.
        description: what it does, in words for the model.
        parameters: JSON schema of the arguments.
    """

    name: str
    description: str
    parameters: Mapping[str, Json]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", frozen_json(self.parameters))


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolCall:
    """What the model asks to have done; untrusted.

    Attributes:
        name: of the tool; need not be one that was offered.
        arguments: as the model wrote them, of any shape.
    """

    name: str
    arguments: Mapping[str, Json]

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", frozen_json(self.arguments))


def frozen_json(value: object) -> Json:
    """A read-only copy of a JSON value: lists become tuples.

    >>> frozen_json({"at": [1, 2.5]})["at"]
    (1, 2.5)
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return MappingProxyType({str(key): frozen_json(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(frozen_json(item) for item in value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


def plain_json(value: Json) -> object:
    """A copy made of dicts and lists, as `json.dumps` takes it."""
    if isinstance(value, Mapping):
        return {key: plain_json(item) for key, item in value.items()}
    return [plain_json(item) for item in value] if isinstance(value, tuple) else value
