# SPDX-License-Identifier: Apache-2.0
"""Qwen3-VL on this machine: an engine directory that looks and speaks.

Knows the way from a picture to visual tokens and from a conversation to words, and does none of
it itself. Knows no task.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import ContextError
from ..image.preprocess import (
    PreprocessConfig,
    load_preprocess_config,
    patches_from_image,
    with_pixel_budget,
)
from ..image.video import patches_from_clip
from ..image.video_config import VideoConfig, load_video_config
from ..language.chat import Chat, Picture, Video
from ..language.chat_template import ChatStyle, load_chat_style, prompt_from_chat
from ..language.tokenizer import TextStream, Tokenizer, load_tokenizer
from ..model_config import ModelConfig, load_model_config
from ..runtime.engine import Running
from ..runtime.loading import load_engines
from ..scene.camera import Frame
from .decoder import Decoder, StopReason
from .stopwatch import Stopwatch
from .vision import VisionEncoder, VisualEmbeds
from .vision_language_model import AnswerBudget, Confidence, Sight, View, Words

# Of the cache, what a clip leaves for times, question and answer.
SHARE_FOR_CLIPS = 0.6


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSight(Sight):
    """A view, encoded."""

    embeds: VisualEmbeds


@dataclass(frozen=True, kw_only=True, slots=True)
class Rehearsal:
    """A turn that was computed to be looked into.

    Attributes:
        input_ids: (T,) int64, the prompt.
        logits: (A, vocab_size) float32, after the prompt and after each token of the answer that
            was followed, but its last.
        answer_ids: our own greedy answer, int64.
        answer_text: the answer in words.
    """

    input_ids: npt.NDArray[np.int64]
    logits: npt.NDArray[np.float32]
    answer_ids: npt.NDArray[np.int64]
    answer_text: str


class LocalModel:
    """A `VisionLanguageModel` on engines; one conversation at a time, one thread."""

    def __init__(
        self,
        vision_encoder: VisionEncoder,
        decoder: Decoder,
        tokenizer: Tokenizer,
        config: ModelConfig,
        preprocess: PreprocessConfig,
        video: VideoConfig,
        *,
        style: ChatStyle = ChatStyle.INSTRUCT,
        running: Running | None = None,
    ) -> None:
        self._vision_encoder = vision_encoder
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._config = config
        self._preprocess = preprocess
        self._video = video
        self._style = style
        self._running = running

    @classmethod
    def load(
        cls,
        engine_dir: Path,
        *,
        threads: int = 0,
        spinning: bool = False,
        providers: Sequence[str] | None = None,
        allow_fallback: bool = False,
    ) -> LocalModel:
        """Load an engine directory, or refuse it; arguments and errors as `Perception.load`."""
        engines = load_engines(
            engine_dir,
            threads=threads,
            spinning=spinning,
            providers=providers,
            allow_fallback=allow_fallback,
        )
        config = load_model_config(engine_dir)
        tokenizer = load_tokenizer(engine_dir)
        decoder = Decoder(
            engines.decoder,
            engines.lm_head,
            engines.embed_tokens,
            config,
            cache_length=engines.manifest.cache_length,
            stop_token_ids=tokenizer.eos_token_ids,
        )
        return cls(
            VisionEncoder(
                engines.vision, config.vision, max_visual_tokens=engines.manifest.max_visual_tokens
            ),
            decoder,
            tokenizer,
            config,
            load_preprocess_config(engine_dir),
            load_video_config(engine_dir),
            style=load_chat_style(engine_dir),
            running=engines.running,
        )

    @property
    def style(self) -> ChatStyle:
        """See `VisionLanguageModel`."""
        return self._style

    @property
    def running(self) -> Running | None:
        """Where its engine runs; None for one that was put together by hand."""
        return self._running

    def with_pixel_budget(
        self, *, min_pixels: int | None = None, max_pixels: int | None = None
    ) -> LocalModel:
        """The same model, shown still pictures of another size (`preprocess.with_pixel_budget`).

        Raises:
            ConfigError: the bounds cross, or are more than the engine was built for.
        """
        room = self._vision_encoder.max_visual_tokens * self._preprocess.factor**2
        other = copy.copy(self)
        other._preprocess = with_pixel_budget(
            self._preprocess, min_pixels=min_pixels, max_pixels=max_pixels, room_px=room
        )
        return other

    def see(self, view: View, *, watch: Stopwatch) -> LocalSight:
        """See `VisionLanguageModel`."""
        with watch.stage("preprocess"):
            part: Picture | Video
            if isinstance(view, Frame):
                patches = patches_from_image(view.image, self._preprocess)
                part = Picture(grid_hw=_grid_hw(patches.grid_thw))
            else:
                room = int(SHARE_FOR_CLIPS * self._decoder.cache_length)
                clip = patches_from_clip(
                    view,
                    self._video,
                    max_tokens=room,
                    max_patch_tokens=self._vision_encoder.max_visual_tokens,
                )
                patches = clip.patches
                part = Video(grid_hw=_grid_hw(patches.grid_thw), times_s=clip.times_s)
        with watch.stage("vision"):
            embeds = self._vision_encoder.encode(patches)
            watch.saw(image_tokens=len(embeds.image_embeds))
        return LocalSight(parts=(part,), embeds=embeds)

    def say(
        self,
        chat: Chat,
        sights: Sequence[Sight],
        *,
        budget: AnswerBudget,
        watch: Stopwatch,
        on_text: Callable[[str], None] | None = None,
    ) -> Words:
        """See `VisionLanguageModel`; what `on_text` raises ends the answer."""
        stream = TextStream(self._tokenizer)

        def say(piece: str) -> None:
            if on_text is not None and piece:
                on_text(piece)

        with watch.stage("prefill"):
            prompt = prompt_from_chat(chat, self._style, self._tokenizer, self._config)
            generation = self._decoder.generate(
                prompt.input_ids,
                [_embeds(sight) for sight in sights],
                max_new_tokens=self._room(len(prompt.input_ids), budget),
                on_prefilled=lambda: watch.enter("decode"),
                on_token=lambda token_id: say(stream.add(token_id)),
            )
        text, token_spans = self._tokenizer.decode_with_spans(generation.token_ids)
        say(stream.end())
        words = Words(
            text=text,
            confidence=Confidence(token_spans=tuple(token_spans), logprobs=generation.logprobs),
            ended=generation.stop_reason is StopReason.END_TOKEN,
            prompt_tokens=generation.prompt_tokens,
            answer_tokens=len(generation.token_ids),
            passes=generation.passes,
        )
        watch.heard(
            prompt_tokens=words.prompt_tokens,
            answer_tokens=words.answer_tokens,
            passes=words.passes,
        )
        return words

    def rehearse(
        self,
        chat: Chat,
        sights: Sequence[LocalSight],
        *,
        along: npt.NDArray[np.int64],
        rows_at_once: int,
    ) -> Rehearsal:
        """The likeliest next turn, with all that was computed on the way, for comparison.

        Args:
            chat: as `say` takes it.
            sights: likewise.
            along: (A,) int64, an answer to be followed token by token; our own is cut after as
                many, and both where the cache ends.
            rows_at_once: of that answer, in one pass.

        Raises:
            ContextError, QueryError, EngineError: as `say`.
        """
        prompt = prompt_from_chat(chat, self._style, self._tokenizer, self._config)
        input_ids = prompt.input_ids
        embeds = [sight.embeds for sight in sights]
        room = self._room(len(input_ids), AnswerBudget(least=1, most=len(along)))
        logits = self._decoder.prefill(input_ids, embeds)[None]
        for start in range(0, room - 1, rows_at_once):
            told = along[start : min(start + rows_at_once, room - 1)]
            logits = np.concatenate([logits, self._decoder.decode(told)])
        generation = self._decoder.generate(input_ids, embeds, max_new_tokens=room)
        return Rehearsal(
            input_ids=input_ids,
            logits=logits,
            answer_ids=np.array(generation.token_ids, np.int64),
            answer_text=self._tokenizer.decode(generation.token_ids),
        )

    def _room(self, prompt_tokens: int, budget: AnswerBudget) -> int:
        """Tokens the answer may take: what is asked for, or what the cache has left."""
        room = self._decoder.cache_length - prompt_tokens
        if room < budget.least:
            raise ContextError(
                f"the prompt takes {prompt_tokens} of the cache's {self._decoder.cache_length} "
                f"tokens and leaves {max(room, 0)}, expected at least {budget.least} for an "
                "answer; show less, ask in fewer words, or export the engine again with a larger "
                "--cache-length"
            )
        return room if budget.most is None else min(budget.most, room)


def _grid_hw(grid_thw: npt.NDArray[np.int64]) -> tuple[int, int]:
    _, rows, columns = grid_thw[0].tolist()
    return rows, columns


def _embeds(sight: Sight) -> VisualEmbeds:
    assert isinstance(sight, LocalSight), "another model's"
    return sight.embeds
