# SPDX-License-Identifier: Apache-2.0
"""A prompt goes in, an answer's tokens come out, over a cache of fixed length.

Knows the decoder and head graphs' contracts. Knows no text: prompts and answers are token ids.

Cache:     the engine holds keys and values; here is only how many rows of it count. Going back is
           counting fewer; what lies beyond is overwritten before it is ever looked at.
Positions: a prompt has M-RoPE positions of its own; the token at cache index n that follows it has
           position n + rope_delta on all three axes.
Exactness: ONNX Runtime's CPU kernels for four-bit weights differ between a pass of one row and
           passes of two or more (which agree bit for bit whatever their width), by under one per
           cent of a logit. Here one token at a time is a pass of one row; whoever verifies several
           at once and must agree exactly compares with a baseline of two rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from ..errors import ContextError
from ..image.positions import text_positions, text_rotary
from ..model_config import ModelConfig
from ..runtime.engine import Engine
from .sampling import greedy_token
from .vision import VisualEmbeds

DEEPSTACK_LAYERS = 3


class StopReason(Enum):
    """Why an answer ended."""

    END_TOKEN = "end_token"  # the model ended it
    MAX_NEW_TOKENS = "max_new_tokens"  # we did


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """An answer in tokens.

    Attributes:
        token_ids: the end token included, if it came.
        logprobs: (len(token_ids),) float64, natural log-probability of each.
        passes: through the decoder, after the prefill.
        prompt_tokens: length of the prompt.
        stop_reason: why it ended.
    """

    token_ids: tuple[int, ...]
    logprobs: npt.NDArray[np.float64]
    passes: int
    prompt_tokens: int
    stop_reason: StopReason


@dataclass(slots=True)
class _Cache:
    """Mutable; owned by one `Decoder`. `length`: rows that count."""

    length: int = 0
    rope_delta: int = 0


class Decoder:
    """The decoder and head engines over one cache: one sequence at a time, one thread."""

    def __init__(
        self,
        engine: Engine,
        lm_head: Engine,
        embed_tokens: npt.NDArray[np.floating],
        config: ModelConfig,
        *,
        cache_length: int,
        stop_token_ids: tuple[int, ...],
    ) -> None:
        self._engine = engine
        self._lm_head = lm_head
        self._embed_tokens = embed_tokens
        self._config = config
        self._cache_length = cache_length
        self._stop_token_ids = frozenset(stop_token_ids)
        self._cache = _Cache()
        width = config.text.hidden_size
        self._no_visual = VisualEmbeds(
            image_embeds=np.zeros((1, width), np.float32),
            deepstack_embeds=np.zeros((DEEPSTACK_LAYERS, 1, width), np.float32),
            grid_thw=np.zeros((0, 3), np.int64),
        )

    @property
    def cache_length(self) -> int:
        """Tokens of prompt and answer together that fit."""
        return self._cache_length

    def generate(
        self,
        input_ids: npt.NDArray[np.int64],
        visual: VisualEmbeds | None,
        *,
        max_new_tokens: int,
        on_prefilled: Callable[[], None] | None = None,
    ) -> Generation:
        """The likeliest answer, token by token.

        Args:
            input_ids: (T,) int64, the prompt; an image token for each row of `visual`.
            visual: the prompt's picture; None for text alone.
            max_new_tokens: the answer is cut after this many.
            on_prefilled: called once, between the prompt's pass and the answer's.

        Raises:
            ContextError: prompt and answer do not fit the cache.
            QueryError: the prompt's image tokens are not those of `visual`.
            EngineError: an engine failed, or its numbers are not numbers.
        """
        assert max_new_tokens >= 1
        wanted = len(input_ids) + max_new_tokens
        if wanted > self._cache_length:
            raise ContextError(
                f"a prompt of {len(input_ids)} tokens and an answer of up to {max_new_tokens} "
                f"need a cache of {wanted}, the engine's holds {self._cache_length}; ask for "
                "fewer objects or a smaller picture, or export the engine again with a larger "
                "--cache-length"
            )
        logits = self.prefill(input_ids, visual)
        if on_prefilled is not None:
            on_prefilled()
        token_ids: list[int] = []
        logprobs: list[float] = []
        while True:
            token, logprob = greedy_token(logits)
            token_ids.append(token)
            logprobs.append(logprob)
            if token in self._stop_token_ids or len(token_ids) == max_new_tokens:
                break
            logits = self.decode(np.array([token], np.int64))[-1]
        ended = token_ids[-1] in self._stop_token_ids
        return Generation(
            token_ids=tuple(token_ids),
            logprobs=np.array(logprobs, np.float64),
            passes=len(token_ids) - 1,
            prompt_tokens=len(input_ids),
            stop_reason=StopReason.END_TOKEN if ended else StopReason.MAX_NEW_TOKENS,
        )

    def prefill(
        self, input_ids: npt.NDArray[np.int64], visual: VisualEmbeds | None
    ) -> npt.NDArray[np.float32]:
        """The prompt, (T,) int64, in one pass over an empty cache; (vocab_size,) logits after it.

        Raises:
            ContextError: the prompt does not fit the cache.
            QueryError: the prompt's image tokens are not those of `visual`.
        """
        seen = visual if visual is not None else self._no_visual
        position_ids, rope_delta = text_positions(input_ids, seen.grid_thw, self._config)
        is_visual = np.isin(input_ids, (self._config.image_token_id, self._config.video_token_id))
        self._cache.length, self._cache.rope_delta = 0, rope_delta
        logits: npt.NDArray[np.float32] = self._pass(
            input_ids,
            position_ids,
            visual_rows=np.where(is_visual, np.cumsum(is_visual) - 1, -1),
            visual=seen,
            output_rows=np.array([len(input_ids) - 1], np.int64),
        )[0]
        return logits

    def decode(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Tokens, (T,) int64, after those in the cache; (T, vocab_size) logits after each.

        Raises:
            ContextError: they do not fit the cache.
        """
        T, start = len(token_ids), self._cache.length
        positions = np.arange(start, start + T, dtype=np.int64) + self._cache.rope_delta
        return self._pass(
            token_ids,
            np.tile(positions, (3, 1)),
            visual_rows=np.full(T, -1, np.int64),
            visual=self._no_visual,
            output_rows=np.arange(T, dtype=np.int64),
        )

    def _pass(
        self,
        token_ids: npt.NDArray[np.int64],
        position_ids: npt.NDArray[np.int64],
        *,
        visual_rows: npt.NDArray[np.int64],
        visual: VisualEmbeds,
        output_rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Append to the cache; (R, vocab_size) logits at `output_rows` of this pass."""
        end = self._cache.length + len(token_ids)
        if end > self._cache_length:
            raise ContextError(
                f"{end} tokens do not fit the engine's cache of {self._cache_length}; ask for "
                "less, or export the engine again with a larger --cache-length"
            )
        cos, sin = text_rotary(position_ids, self._config.text)
        hidden = self._engine.run(
            {
                "token_embeds": self._embed_tokens[token_ids].astype(np.float32)[None],
                "rope_cos": cos[None],
                "rope_sin": sin[None],
                "visual_rows": visual_rows[None],
                "visual_embeds": visual.image_embeds,
                "deepstack_embeds": visual.deepstack_embeds,
                "cached_tokens": np.array([self._cache.length], np.int32),
                "output_rows": output_rows,
            }
        )["hidden_states"]
        self._cache.length = end
        logits: npt.NDArray[np.float32] = self._lm_head.run({"hidden_states": hidden})["logits"][0]
        return logits
