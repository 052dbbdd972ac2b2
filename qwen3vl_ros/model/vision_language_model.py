# SPDX-License-Identifier: Apache-2.0
"""The one seam above the model: a conversation and what it shows go in, words come out.

Knows no engine and no server. `local_model.py` runs the engines of this machine, `remote/` asks a
server; prompts and readers are the same above both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..language.chat import Chat, Picture, Video
from ..language.chat_template import ChatStyle
from ..scene.camera import Frame
from ..scene.clip import Clip
from .stopwatch import Stopwatch

View: TypeAlias = "Frame | Clip"
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sight:
    """A view as a model takes it in; each model has its own kind, and takes no other's.

    Attributes:
        parts: what stands for it in a conversation, in this order: a picture is one part, a clip
            one video, or as many stills with their times.
    """

    parts: tuple[Picture | Video, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerBudget:
    """How long an answer may get, in tokens.

    Attributes:
        least: an answer that has no room for so many is not begun.
        most: it is cut after so many; None lets it take what room there is.
    """

    least: int
    most: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Confidence:
    """How sure the model was of each token of its words.

    Attributes:
        token_spans: (start, stop) characters of each token in the words; empty for tokens that
            are not written.
        logprobs: (T,) float64, natural log-probability of each.
    """

    token_spans: tuple[Span, ...]
    logprobs: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """What a model said.

    Attributes:
        text: untrusted. Tool calls and thoughts stand in it as the checkpoint writes them, even
            if a server took them apart.
        confidence: None where a server does not tell.
        ended: whether the model ended its words itself, and no limit did.
        prompt_tokens: of the conversation; 0 where a server does not tell.
        answer_tokens: the end token included; 0 where a server does not tell.
        passes: through the decoder, after the prefill; 0 where a server does not tell.
    """

    text: str
    confidence: Confidence | None
    ended: bool
    prompt_tokens: int
    answer_tokens: int
    passes: int


class VisionLanguageModel(Protocol):
    """Looks, then speaks; greedily. One thread at a time."""

    @property
    def style(self) -> ChatStyle:
        """Whether its words begin with a thought."""

    def see(self, view: View, *, watch: Stopwatch) -> Sight:
        """Take in one view.

        Raises:
            FrameError: it cannot be used.
            EngineError: the engine failed, or was not built for so large a view.
        """

    def say(
        self,
        chat: Chat,
        sights: Sequence[Sight],
        *,
        budget: AnswerBudget,
        watch: Stopwatch,
        on_text: Callable[[str], None] | None = None,
    ) -> Words:
        """The likeliest next turn.

        Args:
            chat: what was said so far; its pictures and videos are the parts of `sights`.
            sights: of `see`, in the order in which the chat shows them.
            budget: how long it may get.
            watch: told of prefill and decode, and of their work.
            on_text: hears the words as they come, piece by piece.

        Raises:
            ContextError: chat and answer do not fit.
            QueryError: the chat cannot be asked.
            EngineError: the engine failed.
            RemoteError: the server failed.
        """
