# SPDX-License-Identifier: Apache-2.0
"""The shapes that plans take: min, opt and max of every input, by plan and profile.

Knows the graph contracts and how many tokens there are; knows no TensorRT. One picture, one
sequence. The decoder has two profiles, in this order (`PREFILL`, `DECODE`): one for prompts of any
length that fits the cache, with pictures; one for the single window of rows that every later pass
has, without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from ..image.preprocess import PreprocessConfig
from ..runtime.engine import is_resident
from ..runtime.manifest import ShapeRange
from .recipes import Recipe, TokenRange

Profile: TypeAlias = Mapping[str, ShapeRange]
Span: TypeAlias = tuple[int, int, int]  # min, opt, max

PREFILL, DECODE = 0, 1
WORDS_AROUND_A_PICTURE = 64  # tokens of a usual question, which the plan is tuned for

# Where an input's varying axes lie.
_AXES: Mapping[str, Mapping[str, Mapping[int, str]]] = {
    "vision": {
        "pixel_values": {0: "B", 1: "N"},
        "position_indices": {1: "N"},
        "position_weights": {1: "N"},
        "rotary_cos": {0: "N"},
        "rotary_sin": {0: "N"},
    },
    "decoder": {
        "token_embeds": {0: "B", 1: "T"},
        "rope_cos": {0: "B", 1: "T"},
        "rope_sin": {0: "B", 1: "T"},
        "visual_rows": {0: "B", 1: "T"},
        "visual_embeds": {0: "V"},
        "deepstack_embeds": {1: "V"},
        "cached_tokens": {0: "B"},
        "output_rows": {0: "R"},
    },
    "lm_head": {"hidden_states": {0: "B", 1: "R"}},
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """How long the axes of an engine's inputs get.

    Attributes:
        image_tokens: of one pass of the tower: a picture, or two frames of a clip.
        patches_per_token: of the vision tower.
        cache_length: tokens of prompt and answer together.
        decode_window: rows of every pass after the prompt's.
    """

    image_tokens: TokenRange
    patches_per_token: int
    cache_length: int
    decode_window: int


def lengths_of(recipe: Recipe, preprocess: PreprocessConfig) -> Lengths:
    """A recipe's lengths, narrowed to the pictures that preprocessing makes.

    Args:
        recipe: what is asked for.
        preprocess: of the graphs' directory.
    """
    token = preprocess.factor**2
    smallest = max(1, preprocess.min_pixels // token)
    largest = min(recipe.image_tokens.max, preprocess.max_pixels // token)
    least = min(recipe.image_tokens.min, smallest, largest)
    return Lengths(
        image_tokens=TokenRange(
            min=least, opt=min(max(recipe.image_tokens.opt, least), largest), max=largest
        ),
        patches_per_token=preprocess.merge_size**2,
        cache_length=recipe.cache_length,
        decode_window=recipe.decode_window,
    )


def profiles_of(
    graph: str, inputs: Mapping[str, tuple[int, ...]], lengths: Lengths
) -> tuple[Profile, ...]:
    """The profiles of one graph.

    Args:
        graph: "vision", "decoder" or "lm_head".
        inputs: shapes of the graph's inputs, negative where an axis varies.
        lengths: of the axes.
    """
    return tuple(
        {
            name: _shape_range(shape, _AXES[graph].get(name, {0: "B"}), spans)
            for name, shape in inputs.items()
            if is_resident(name) or name in _AXES[graph]
        }
        for spans in _spans(graph, lengths)
    )


def _spans(graph: str, lengths: Lengths) -> tuple[Mapping[str, Span], ...]:
    """Length of every axis, profile by profile."""
    tokens, one, window = lengths.image_tokens, (1, 1, 1), lengths.decode_window
    if graph == "vision":
        patches = lengths.patches_per_token
        span = (tokens.min * patches, tokens.opt * patches, tokens.max * patches)
        return ({"B": one, "N": span},)
    if graph == "lm_head":
        return ({"B": one, "R": (1, 1, window)},)
    longest = lengths.cache_length
    # Several pictures may share a prompt: together they have no more rows than the prompt.
    prefill = {
        "B": one,
        "T": (1, min(tokens.opt + WORDS_AROUND_A_PICTURE, longest), longest),
        "V": (1, tokens.opt, longest),
        "R": (1, 1, window),
    }
    decode = {"B": one, "T": (window,) * 3, "V": one, "R": (window,) * 3}
    return prefill, decode


def _shape_range(
    shape: tuple[int, ...], axes: Mapping[int, str], spans: Mapping[str, Span]
) -> ShapeRange:
    low, best, high = (
        tuple(
            spans[axes[place]][index] if place in axes else length
            for place, length in enumerate(shape)
        )
        for index in range(3)
    )
    return ShapeRange(min=low, opt=best, max=high)
