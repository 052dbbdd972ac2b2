# SPDX-License-Identifier: Apache-2.0
"""A prompt goes in, an answer's tokens come out, over a cache of fixed length.

Knows the decoder and head graphs' contracts. Knows no text: prompts and answers are token ids.

Cache:     the engine holds keys and values; here is only what its rows are of. Going back is
           counting fewer; what lies beyond is overwritten before it is ever looked at.
Again:     a prompt that begins as the last conversation did, with the same picture at least (a
           second question about it, the next turn of a chat), is prefilled from where it differs.
Positions: a prompt has M-RoPE positions of its own; the token at cache index n that follows it has
           position n + rope_delta on all three axes.
Exactness: ONNX Runtime's CPU kernels for four-bit weights differ between a pass of one row and
           passes of two or more (which agree bit for bit whatever their width), by under one per
           cent of a logit. Here one token at a time is a pass of one row; whoever verifies several
           at once and must agree exactly compares with a baseline of two rows. A prompt that is
           prefilled whole sees its own keys and values as they are, and whatever comes after a
           cache in int8 sees them rounded: over such a cache a second question agrees with the
           same question asked first to within that rounding, not to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
# A prompt's last rows go through the decoder in any case: the logits after it are wanted, and a
# pass of one row is not bit for bit the pass of several that a fresh prompt takes.
LEAST_PREFILL = 2


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
    """What the engine's rows are of. Mutable; owned by one `Decoder`.

    Attributes:
        token_ids: of every row that counts.
        visuals: of the prompt's visual tokens, in order.
        rope_delta: see Positions above.
    """

    token_ids: list[int] = field(default_factory=list)
    visuals: tuple[VisualEmbeds, ...] = ()
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
        visuals: Sequence[VisualEmbeds],
        *,
        max_new_tokens: int,
        on_prefilled: Callable[[], None] | None = None,
        on_token: Callable[[int], None] | None = None,
    ) -> Generation:
        """The likeliest answer, token by token.

        Args:
            input_ids: (T,) int64, the prompt; a visual token for each row of `visuals`.
            visuals: the prompt's pictures and videos, in order.
            max_new_tokens: the answer is cut after this many.
            on_prefilled: called once, between the prompt's pass and the answer's.
            on_token: hears each token of the answer; what it raises ends the answer.

        Raises:
            ContextError: prompt and answer do not fit the cache.
            QueryError: the prompt's visual tokens are not those of `visuals`.
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
        logits = self.prefill(input_ids, visuals)
        if on_prefilled is not None:
            on_prefilled()
        token_ids: list[int] = []
        logprobs: list[float] = []
        while True:
            token, logprob = greedy_token(logits)
            token_ids.append(token)
            logprobs.append(logprob)
            if on_token is not None:
                on_token(token)
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
        self, input_ids: npt.NDArray[np.int64], visuals: Sequence[VisualEmbeds]
    ) -> npt.NDArray[np.float32]:
        """The prompt, (T,) int64; (vocab_size,) logits after it.

        What it has in common with the conversation in the cache, from the beginning on, is kept;
        pictures are the same if they are the same `VisualEmbeds`.

        Raises:
            ContextError: the prompt does not fit the cache.
            QueryError: the prompt's visual tokens are not those of `visuals`.
        """
        grids = np.array([visual.grid_thw[0] for visual in visuals], np.int64).reshape(-1, 3)
        position_ids, rope_delta = text_positions(input_ids, grids, self._config)
        is_visual = self._is_visual(input_ids)
        visual_rows = np.where(is_visual, np.cumsum(is_visual) - 1, -1)
        kept = self._kept_rows(input_ids, visual_rows, visuals)
        self._cache.token_ids = self._cache.token_ids[:kept]
        self._cache.visuals, self._cache.rope_delta = tuple(visuals), rope_delta
        logits: npt.NDArray[np.float32] = self._pass(
            input_ids[kept:],
            position_ids[:, kept:],
            visual_rows=visual_rows[kept:],
            visual=_joined(visuals) if is_visual[kept:].any() else self._no_visual,
            output_rows=np.array([len(input_ids) - kept - 1], np.int64),
        )[0]
        return logits

    def _kept_rows(
        self,
        input_ids: npt.NDArray[np.int64],
        visual_rows: npt.NDArray[np.int64],
        visuals: Sequence[VisualEmbeds],
    ) -> int:
        """How many rows of the cache a prompt begins with; 0 where they hold no whole picture.

        A few words in common are not worth it: with every prompt of a camera's stream in one pass
        of its own, equal pictures have equal answers, whatever was asked before.
        """
        cached = np.array(self._cache.token_ids, np.int64)
        most = max(min(len(cached), len(input_ids) - LEAST_PREFILL), 0)
        differs = np.flatnonzero(cached[:most] != input_ids[:most])
        kept = int(differs[0]) if len(differs) else most
        alike = [now is then for now, then in zip(visuals, self._cache.visuals, strict=False)]
        same = alike.index(False) if False in alike else len(alike)
        rows = sum(len(visual.image_embeds) for visual in visuals[:same])
        (changed,) = np.nonzero(visual_rows >= rows)
        kept = min(kept, int(changed[0])) if len(changed) else kept
        holds_a_picture = same and (visual_rows[:kept] >= len(visuals[0].image_embeds) - 1).any()
        return kept if holds_a_picture else 0

    def _is_visual(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        return np.isin(token_ids, (self._config.image_token_id, self._config.video_token_id))

    def decode(self, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Tokens, (T,) int64, after those in the cache; (T, vocab_size) logits after each.

        Raises:
            ContextError: they do not fit the cache.
        """
        T, start = len(token_ids), len(self._cache.token_ids)
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
        start = len(self._cache.token_ids)
        end = start + len(token_ids)
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
                "cached_tokens": np.array([start], np.int32),
                "output_rows": output_rows,
            }
        )["hidden_states"]
        self._cache.token_ids.extend(token_ids.tolist())
        logits: npt.NDArray[np.float32] = self._lm_head.run({"hidden_states": hidden})["logits"][0]
        return logits


def _joined(visuals: Sequence[VisualEmbeds]) -> VisualEmbeds:
    """All of them as one, their rows one after the other."""
    if len(visuals) == 1:
        return visuals[0]
    return VisualEmbeds(
        image_embeds=np.concatenate([visual.image_embeds for visual in visuals]),
        deepstack_embeds=np.concatenate([visual.deepstack_embeds for visual in visuals], axis=1),
        grid_thw=np.concatenate([visual.grid_thw for visual in visuals]),
    )
