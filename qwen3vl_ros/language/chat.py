# SPDX-License-Identifier: Apache-2.0
"""A conversation with a model as values: who said what, with which pictures and tools.

Knows neither how a checkpoint spells it (`chat_template.py`) nor what is asked (`prompt.py`). Of a
picture or a video it holds the grid only, which says how many tokens it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeAlias

from ..errors import QueryError
from ..scene.answers import Step
from ..scene.tools import Tool, ToolCall


class Role(Enum):
    """Who speaks."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A still picture.

    Attributes:
        grid_hw: patch rows and patch columns.
        time_s: for a still of a clip, seconds from its first; written before it, rounded to 0.1.
    """

    grid_hw: tuple[int, int]
    time_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Video:
    """A clip, two sampled frames to a temporal patch.

    Attributes:
        grid_hw: patch rows and patch columns of every frame.
        times_s: of each temporal patch, the mean of its two frames' times, seconds from the first
            frame; the model reads them rounded to 0.1.
    """

    grid_hw: tuple[int, int]
    times_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.times_s:
            raise QueryError("a video has no frames, expected at least two")


Part: TypeAlias = "str | Picture | Video"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One turn.

    Attributes:
        role: who speaks. A tool's answer is a turn of its own, one for each call.
        parts: words and pictures in order; the system and the assistant show no pictures.
        calls: the assistant's, after its words.
        thought: the assistant's, before its words; read by Thinking checkpoints only.
    """

    role: Role
    parts: tuple[Part, ...]
    calls: tuple[ToolCall, ...] = ()
    thought: str = ""

    def __post_init__(self) -> None:
        shows = not all(isinstance(part, str) for part in self.parts)
        if shows and self.role in (Role.SYSTEM, Role.ASSISTANT):
            raise QueryError(
                f"a {self.role.value} turn shows a picture, expected words only; only users and "
                "tools show pictures"
            )
        if self.role is not Role.ASSISTANT and (self.calls or self.thought):
            raise QueryError(
                f"a {self.role.value} turn calls a tool or thinks, which only the assistant does"
            )

    @property
    def words(self) -> str:
        """Its words alone, joined."""
        return "".join(part for part in self.parts if isinstance(part, str))


def message_from_step(step: Step, *, thought: str = "") -> Message:
    """The assistant's turn that a step was read from, to go on from it.

    Args:
        step: its words and calls.
        thought: before them (`reading.thought_in`); what follows a question needs it.
    """
    parts = (step.words,) if step.words else ()
    return Message(role=Role.ASSISTANT, parts=parts, calls=step.calls, thought=thought)


@dataclass(frozen=True, kw_only=True, slots=True)
class Chat:
    """Everything said so far.

    Attributes:
        messages: in order; a system turn, if there is one, is the first.
        tools: what the assistant may call.
        label_visuals: "Picture 1: " before each picture, "Video 1: " before each video, so that
            words can refer to them by number.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    label_visuals: bool = False

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        if not roles or Role.SYSTEM in roles[1:] or roles[0] is Role.TOOL:
            said = ", ".join(role.value for role in roles) or "nothing"
            raise QueryError(
                f"a chat of these turns cannot be told: {said}; expected system first if at all, "
                "then the user"
            )

    def continued(self, *messages: Message) -> Chat:
        """The chat with more turns, for example a step and the tools' answers to it."""
        return replace(self, messages=(*self.messages, *messages))

    def visuals(self) -> Iterator[Picture | Video]:
        """Every picture and video in the order they are shown."""
        for message in self.messages:
            yield from (part for part in message.parts if not isinstance(part, str))
