# SPDX-License-Identifier: Apache-2.0
"""One question about an encoded picture: prompt, generate, parse, score.

Knows how long an answer may get. Knows nothing of depth or of where 3D boxes go.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ContextError
from ..language.chat_template import ChatStyle
from ..language.parsing import Answer, parse_answer
from ..language.prompt import prompt_from_query
from ..language.scoring import object_scores
from ..language.tokenizer import Tokenizer
from ..model_config import ModelConfig
from ..scene.detections import Detection2D, Detection3D, Point2D, Query, Task
from .decoder import Decoder
from .stopwatch import Stopwatch
from .vision import VisualEmbeds

# With Qwen's tokens, where every digit is one, an object takes up to about this many, and the
# list around the objects the rest.
TOKENS_PER_OBJECT = {Task.DETECT: 35, Task.REFER: 35, Task.POINT: 25, Task.DETECT_3D: 60}
TOKENS_AROUND_OBJECTS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """An answer and a score for each of its objects; its task says of which kind they are."""

    answer: Answer
    scores: tuple[float, ...]

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
    """A decoder that is asked in words and answers in objects."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        config: ModelConfig,
        *,
        style: ChatStyle = ChatStyle.INSTRUCT,
    ) -> None:
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._config = config
        self._style = style

    def ask(
        self, query: Query, visual: VisualEmbeds, *, width: int, height: int, watch: Stopwatch
    ) -> Reply:
        """The model's answer, read.

        Args:
            query: what to ask.
            visual: the picture, encoded.
            width: of the original picture, pixels; answers come in its pixels.
            height: likewise.
            watch: told of prefill and decode.

        Raises:
            AnswerError: the answer cannot be read.
            ContextError: the query does not fit the cache.
            QueryError: the query is not a spatial one.
        """
        query.require_spatial()
        with watch.stage("prefill"):
            prompt = prompt_from_query(
                query, visual.grid_thw, self._tokenizer, self._config, style=self._style
            )
            generation = self._decoder.generate(
                prompt.input_ids,
                visual,
                max_new_tokens=self._answer_budget(query, len(prompt.input_ids)),
                on_prefilled=lambda: watch.enter("decode"),
            )
            watch.heard(
                prompt_tokens=generation.prompt_tokens,
                answer_tokens=len(generation.token_ids),
                passes=generation.passes,
            )
        text, token_spans = self._tokenizer.decode_with_spans(generation.token_ids)
        answer = parse_answer(
            text,
            task=query.task,
            width=width,
            height=height,
            max_objects=query.max_objects,
            thinking=self._style is ChatStyle.THINKING,
        )
        return Reply(answer=answer, scores=object_scores(answer, token_spans, generation.logprobs))

    def _answer_budget(self, query: Query, prompt_tokens: int) -> int:
        """Tokens the answer may take: enough for `max_objects`, or what the cache has left.

        How long a thought takes nobody knows beforehand, so a thinker gets all that is left.
        """
        each = TOKENS_PER_OBJECT[query.task]
        least = each + TOKENS_AROUND_OBJECTS
        room = self._decoder.cache_length - prompt_tokens
        if room < least:
            raise ContextError(
                f"the prompt takes {prompt_tokens} of the cache's {self._decoder.cache_length} "
                f"tokens and leaves {max(room, 0)}, expected at least {least} for an answer of "
                "one object; ask in fewer words, or export the engine again with a larger "
                "--cache-length"
            )
        if self._style is ChatStyle.THINKING:
            return room
        return min(each * query.max_objects + TOKENS_AROUND_OBJECTS, room)
