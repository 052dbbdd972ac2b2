# SPDX-License-Identifier: Apache-2.0
"""Our reference model beside transformers' Qwen3-VL: the same weights, the same question.

Knows two loaded models and made-up conversations; knows no preprocessing (both sides get the same
patches) and no tolerance. Each side computes positions, table taps and masks by itself. Ours
continues a second turn over the cache of the first; transformers reads the whole conversation
anew, so that the two ways are held against each other as well.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..model_config import ModelConfig
from .checkpoint import is_expert_tensor, load_checkpoint
from .reference_decoder import KVCache
from .reference_generation import generate_greedy, prompt_hidden_states
from .reference_model import ReferenceModel, init_weights

INPUTS = ("text", "one image", "three images", "video", "second turn")
NEW_TOKENS = 64
FIRST_ANSWER_TOKENS = 9  # of a second turn
INITIAL_STD, GAIN = 0.08, 1.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """One set of weights in two models."""

    ours: ReferenceModel
    theirs: Any  # transformers' Qwen3VL(Moe)ForConditionalGeneration


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """Everything said and shown so far.

    Attributes:
        input_ids: (T,) int64.
        pixel_values: (N, 1536) float32, patches of all pictures; None for text alone.
        grid_thw: (G, 3) int64; None for text alone.
    """

    input_ids: npt.NDArray[np.int64]
    pixel_values: npt.NDArray[np.float32] | None = None
    grid_thw: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What one model makes of a conversation: (T, ...) of its last turn, float32."""

    hidden_states: Tensor
    logits: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """How far two outcomes are apart.

    Attributes:
        max_abs: largest difference of two logits.
        max_rel: largest difference of two hidden states (after the final norm), as vectors, in
            parts of transformers'.
        logit_std: spread of transformers' logits; beside flat ones any difference is small.
        equal_tokens: of `NEW_TOKENS` greedy tokens, how many are equal before the first is not.
    """

    max_abs: float
    max_rel: float
    logit_std: float
    equal_tokens: int


def random_reference(config: ModelConfig, *, seed: int) -> ReferenceModel:
    """A model whose every weight matters, and whose answers are not one token again and again.

    Matrices keep the size of what goes through them, and a little more: with one spread for all,
    wide attention drowns the token that is there. Norms are not one, biases are not zero.
    """
    model = ReferenceModel(config).eval()
    init_weights(model, seed=seed, std=INITIAL_STD)
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
            elif "embed" not in name or "patch_embed" in name:
                inputs = weight.shape[1] if is_expert_tensor(name) else weight[0].numel()
                weight.mul_(GAIN / inputs**0.5 / INITIAL_STD)
        if not config.text.tie_word_embeddings:  # tied and large, a token would call for itself
            model.language_model.embed_tokens.weight.mul_(8)
    return model


def load_pair(directory: Path, dtype: torch.dtype = torch.float32) -> Pair:
    """A checkpoint, by our own loader and by transformers'."""
    from transformers import AutoModelForImageTextToText

    theirs = AutoModelForImageTextToText.from_pretrained(directory, dtype=dtype)
    return Pair(ours=load_checkpoint(directory, dtype).eval(), theirs=theirs.eval())


def agreement(pair: Pair, kind: str, *, seed: int = 0) -> Agreement:
    """Ask both models one of `INPUTS`, and let both answer."""
    talk, cache = conversation(pair.ours, kind, seed=seed)
    ours = our_outcome(pair.ours, talk, copy.deepcopy(cache))
    theirs = their_outcome(pair.theirs, pair.ours.config, talk)
    T = len(ours.logits)
    theirs_hidden, theirs_logits = theirs.hidden_states[-T:], theirs.logits[-T:]
    distance = (ours.hidden_states - theirs_hidden).norm(dim=-1)
    ours_tokens = generate_greedy(
        pair.ours,
        talk.input_ids,
        talk.pixel_values,
        talk.grid_thw,
        max_new_tokens=NEW_TOKENS,
        cache=cache,
    )
    theirs_tokens = their_tokens(pair.theirs, pair.ours.config, talk)
    differing = [a != b for a, b in zip(ours_tokens, theirs_tokens, strict=True)]
    return Agreement(
        max_abs=float((ours.logits - theirs_logits).abs().max()),
        max_rel=float((distance / theirs_hidden.norm(dim=-1)).max()),
        logit_std=float(theirs_logits.std()),
        equal_tokens=differing.index(True) if True in differing else NEW_TOKENS,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class HalfPrecision:
    """Logits in bfloat16, distances as vectors in parts of transformers' float32 logits.

    Attributes:
        apart: between ours and transformers', both in bfloat16.
        ours, theirs: of each from transformers in float32.
    """

    apart: float
    ours: float
    theirs: float


def half_precision(pair: Pair, half: Pair, kind: str, *, seed: int = 0) -> HalfPrecision:
    """What rounding to bfloat16 does to both models; `half` is the same weights rounded."""
    talk, _ = conversation(pair.ours, kind, seed=seed)
    config = pair.ours.config
    exact = their_outcome(pair.theirs, config, talk).logits
    ours = our_outcome(half.ours, talk).logits
    theirs = their_outcome(half.theirs, config, talk).logits[-len(ours) :]
    exact = exact[-len(ours) :]
    size = exact.norm()
    return HalfPrecision(
        apart=float((ours - theirs).norm() / size),
        ours=float((ours - exact).norm() / size),
        theirs=float((theirs - exact).norm() / size),
    )


def conversation(
    model: ReferenceModel, kind: str, *, seed: int
) -> tuple[Conversation, KVCache | None]:
    """One of `INPUTS`; with it, for a second turn, the cache of the first."""
    maker = _Maker(model.config, seed)
    if kind == "text":
        return Conversation(input_ids=np.array(maker.words(40))), None
    if kind == "video":
        return maker.video((3, 4, 6)), None
    if kind == "three images":
        return maker.images([(4, 6), (10, 4), (6, 8)]), None
    first = maker.images([(6, 10)])
    if kind == "one image":
        return first, None
    assert kind == "second turn", kind
    second = maker.images([(8, 4)])
    total = len(first.input_ids) + FIRST_ANSWER_TOKENS + len(second.input_ids)
    like = model.language_model.embed_tokens.weight
    cache = KVCache(model.config.text, batch=1, capacity=total + NEW_TOKENS, like=like)
    answer = generate_greedy(
        model,
        first.input_ids,
        first.pixel_values,
        first.grid_thw,
        max_new_tokens=FIRST_ANSWER_TOKENS,
        cache=cache,
    )
    assert first.pixel_values is not None
    assert first.grid_thw is not None
    assert second.pixel_values is not None
    assert second.grid_thw is not None
    whole = Conversation(
        input_ids=np.concatenate([first.input_ids, np.array(answer), second.input_ids]),
        pixel_values=np.concatenate([first.pixel_values, second.pixel_values]),
        grid_thw=np.concatenate([first.grid_thw, second.grid_thw]),
    )
    return whole, cache


@torch.no_grad()
def our_outcome(
    model: ReferenceModel, talk: Conversation, cache: KVCache | None = None
) -> Outcome:
    """What the reference says to that part of a conversation that is not in the cache."""
    hidden = prompt_hidden_states(
        model, talk.input_ids, talk.pixel_values, talk.grid_thw, cache=cache
    )[0]
    return Outcome(hidden_states=hidden.float(), logits=model.logits(hidden).float())


@torch.no_grad()
def their_outcome(model: Any, config: ModelConfig, talk: Conversation) -> Outcome:
    """What transformers says to a whole conversation."""
    model.model.rope_deltas = None  # it keeps the last conversation's
    hidden = model.model(**_their_inputs(talk, config)).last_hidden_state[0]
    return Outcome(hidden_states=hidden.float(), logits=model.lm_head(hidden).float())


@torch.no_grad()
def their_tokens(model: Any, config: ModelConfig, talk: Conversation) -> list[int]:
    """`NEW_TOKENS` greedy tokens of transformers, whatever they are: nothing ends the answer."""
    from transformers import GenerationConfig

    model.model.rope_deltas = None
    model.generation_config = GenerationConfig()
    tokens = model.generate(
        **_their_inputs(talk, config), do_sample=False, max_new_tokens=NEW_TOKENS
    )
    return [int(token) for token in tokens[0, len(talk.input_ids) :]]


def _their_inputs(talk: Conversation, config: ModelConfig) -> dict[str, Tensor]:
    ids = torch.from_numpy(talk.input_ids)[None]
    is_video = ids == config.video_token_id
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "mm_token_type_ids": ((ids == config.image_token_id) + 2 * is_video).int(),
    }
    if talk.pixel_values is not None and talk.grid_thw is not None:
        pixels, grids = torch.from_numpy(talk.pixel_values), torch.from_numpy(talk.grid_thw)
        if bool(is_video.any()):
            return inputs | {"pixel_values_videos": pixels, "video_grid_thw": grids}
        return inputs | {"pixel_values": pixels, "image_grid_thw": grids}
    return inputs


class _Maker:
    """Words and pictures of one seed; mutable, owned by one `conversation`."""

    def __init__(self, config: ModelConfig, seed: int) -> None:
        self.config, self.random = config, np.random.default_rng(seed)

    def words(self, count: int) -> list[int]:
        config = self.config
        special = (config.image_token_id, config.video_token_id, config.vision_start_token_id)
        return list(self.random.integers(0, min(*special, config.vision_end_token_id), count))

    def patches(self, count: int) -> npt.NDArray[np.float32]:
        size = (count, self.config.vision.patch_dim)
        return self.random.uniform(-1, 1, size).astype(np.float32)

    def picture(self, rows: int, columns: int, token_id: int) -> list[int]:
        tokens = rows * columns // self.config.vision.spatial_merge_size**2
        return [
            self.config.vision_start_token_id,
            *[token_id] * tokens,
            self.config.vision_end_token_id,
        ]

    def images(self, sizes: list[tuple[int, int]]) -> Conversation:
        """Words, an image, words, an image, ... words; sizes in patches, rows and columns."""
        ids = self.words(5)
        for rows, columns in sizes:
            ids += [*self.picture(rows, columns, self.config.image_token_id), *self.words(6)]
        return Conversation(
            input_ids=np.array(ids),
            pixel_values=self.patches(sum(rows * columns for rows, columns in sizes)),
            grid_thw=np.array([(1, *size) for size in sizes], np.int64),
        )

    def video(self, grid: tuple[int, int, int]) -> Conversation:
        """A timestamp, which is words, before the picture of each temporal patch."""
        frames, rows, columns = grid
        ids = self.words(5)
        for _ in range(frames):
            ids += [*self.words(7), *self.picture(rows, columns, self.config.video_token_id)]
        return Conversation(
            input_ids=np.array(ids + self.words(6)),
            pixel_values=self.patches(frames * rows * columns),
            grid_thw=np.array([grid], np.int64),
        )
