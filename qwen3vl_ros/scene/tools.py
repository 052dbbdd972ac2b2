# SPDX-License-Identifier: Apache-2.0
"""Tools that a model may call, and calls of them: frozen values of JSON.

Reads JSON that a person or a program wrote, strictly. Knows neither how a tool is described to
the model (`language/chat.py`) nor how a call is read from its words (`language/tool_calls.py`);
runs no tool.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from ..errors import QueryError

MAX_JSON_DEPTH = 64

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


def json_from_text(text: str | bytes) -> object:
    """JSON from outside, as `json.loads` gives it, fit to be written again.

    Raises:
        ValueError: it is not JSON, holds half a character (a lone surrogate, which no UTF-8 can),
            or is nested more than `MAX_JSON_DEPTH` deep.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("lists and objects are nested without end") from error
    _check_json(value, depth=0)
    return value


def tools_from_json(text: str, *, what: str) -> tuple[Tool, ...]:
    """Tools as OpenAI's protocol lists them, each also without the "function" around it.

    Args:
        text: untrusted.
        what: the list is called in an error.

    Raises:
        QueryError: it is no such list.
    """
    try:
        entries = json_from_text(text)
        if not isinstance(entries, list):
            raise TypeError("it is no list")
        functions = [entry.get("function", entry) for entry in entries]
        return tuple(
            Tool(
                name=str(function["name"]),
                description=str(function.get("description", "")),
                parameters=dict(function["parameters"]),
            )
            for function in functions
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise QueryError(
            f"{what} cannot be read ({type(error).__name__}: {error}), expected a JSON list of "
            '{"name": ..., "description": ..., "parameters": {...}}'
        ) from error


def _no_number(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _check_json(value: object, *, depth: int) -> None:
    if depth > MAX_JSON_DEPTH:
        raise ValueError(f"lists and objects are nested more than {MAX_JSON_DEPTH} deep")
    if isinstance(value, str):
        value.encode()  # UnicodeEncodeError, a ValueError, names the place
    elif isinstance(value, list):
        for item in value:
            _check_json(item, depth=depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode()
            _check_json(item, depth=depth + 1)
