# SPDX-License-Identifier: Apache-2.0
"""One question about what a model has seen: prompt, words, reading, score.

Knows how long an answer may get. Knows nothing of depth or of where 3D boxes go.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

from ..language.answers import AnyReading, read_answer
from ..language.chat_template import ChatStyle
from ..language.parsing import Answer
from ..language.prompt import chat_from_query
from ..language.reading import Reading, Span
from ..language.scoring import object_scores
from ..scene.answers import Count, ResponseValue, TextSpan, TimedBox
from ..scene.detections import Detection2D, Detection3D, Point2D, Query, Task
from .stopwatch import Stopwatch
from .vision_language_model import AnswerBudget, Confidence, Sight, VisionLanguageModel, Words

# With Qwen's tokens, where every digit is one, an object takes up to about this many, and the
# list around the objects the rest.
TOKENS_PER_OBJECT = {
    Task.DETECT: 35,
    Task.REFER: 35,
    Task.POINT: 25,
    Task.DETECT_3D: 60,
    Task.SPOT_TEXT: 60,
    Task.COUNT: 25,
    Task.LIST_EVENTS: 60,
    Task.TRACK: 45,
}
TOKENS_AROUND_OBJECTS = 16
# An answer in words is cut after this many; a moment is said in fewer.
TOKENS_OF_WORDS = AnswerBudget(least=32, most=512)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer and a score for each of its objects; its task says of which kind they are."""

    answer: Answer
    scores: tuple[float | None, ...]

    def detections_2d(self) -> tuple[Detection2D, ...]:
        """2D boxes."""
        return self.answer.detections_2d(self.scores)

    def points(self) -> tuple[Point2D, ...]:
        """Points."""
        return self.answer.points(self.scores)

    def detections_3d(self) -> tuple[Detection3D, ...]:
        """The model's own 3D boxes, in the camera optical frame."""
        return self.answer.detections_3d(self.scores)


class Answerer:
    """A model that is asked in words and answers in objects."""

    def __init__(self, model: VisionLanguageModel) -> None:
        self._model = model

    def ask(
        self, query: Query, sight: Sight, *, width: int, height: int, watch: Stopwatch
    ) -> Reply:
        """The answer to a spatial question about one picture, read.

        Args:
            query: what to ask.
            sight: the picture, as the model sees it.
            width: of the original picture, pixels; answers come in its pixels.
            height: likewise.
            watch: told of prefill and decode.

        Raises:
            AnswerError: the answer cannot be read.
            ContextError: the query does not fit the cache.
            QueryError: the query is not a spatial one.
            EngineError, RemoteError: the model failed.
        """
        query.require_spatial()
        words, reading = self._read(
            query, [sight], width=width, height=height, duration_s=math.inf, watch=watch
        )
        answer = cast(Answer, reading)
        spans = [found.number_spans for found in answer.objects]
        return Reply(answer=answer, scores=_scores(spans, words.confidence))

    def find(
        self,
        query: Query,
        sights: Sequence[Sight],
        *,
        width: int,
        height: int,
        duration_s: float,
        watch: Stopwatch,
    ) -> Reading[ResponseValue]:
        """The answer to any other question that takes one turn, read; as `ask`.

        Args:
            query: what to ask.
            sights: what it is about, in order.
            width: of the first of them, pixels.
            height: likewise.
            duration_s: of the video, seconds; infinite for stills.
            watch: told of prefill and decode.
        """
        words, reading = self._read(
            query, sights, width=width, height=height, duration_s=duration_s, watch=watch
        )
        return _scored(cast("Reading[ResponseValue]", reading), words.confidence)

    def _read(
        self,
        query: Query,
        sights: Sequence[Sight],
        *,
        width: int,
        height: int,
        duration_s: float,
        watch: Stopwatch,
    ) -> tuple[Words, AnyReading]:
        parts = [part for sight in sights for part in sight.parts]
        words = self._model.say(
            chat_from_query(query, parts),
            sights,
            budget=answer_budget(query, self._model.style),
            watch=watch,
        )
        reading = read_answer(
            words.text,
            query,
            width=width,
            height=height,
            duration_s=duration_s,
            ended=words.ended,
            thinking=self._model.style is ChatStyle.THINKING,
        )
        return words, reading


def answer_budget(query: Query, style: ChatStyle) -> AnswerBudget:
    """Tokens an answer may take: enough for `max_objects`, or for a few sentences.

    How long a thought takes nobody knows beforehand, so a thinker gets all that is left.
    """
    each = TOKENS_PER_OBJECT.get(query.task)
    budget = (
        TOKENS_OF_WORDS
        if each is None
        else AnswerBudget(
            least=each + TOKENS_AROUND_OBJECTS,
            most=each * query.max_objects + TOKENS_AROUND_OBJECTS,
        )
    )
    return replace(budget, most=None) if style is ChatStyle.THINKING else budget


def _scores(
    number_spans: Sequence[Sequence[Span]], confidence: Confidence | None
) -> tuple[float | None, ...]:
    if confidence is None:
        return (None,) * len(number_spans)
    return object_scores(number_spans, confidence.token_spans, confidence.logprobs)


def _scored(
    reading: Reading[ResponseValue], confidence: Confidence | None
) -> Reading[ResponseValue]:
    """With a score for each item that has coordinates."""
    value, spans = reading.value, reading.number_spans
    if confidence is None or not all(spans):
        return reading
    scores = object_scores(spans, confidence.token_spans, confidence.logprobs)
    if isinstance(value, Count):
        return replace(reading, value=replace(value, scores=scores))
    if isinstance(value, tuple) and all(isinstance(item, (TextSpan, TimedBox)) for item in value):
        items = cast("tuple[TextSpan, ...]", value)
        return replace(
            reading,
            value=tuple(
                replace(item, score=score) for item, score in zip(items, scores, strict=True)
            ),
        )
    return reading
