# SPDX-License-Identifier: Apache-2.0
"""From patches and token ids to an answer, with the reference model.

Knows no tokenizer and no picture files. Brings the host's positions (`image/positions.py`) and
the torch modules together, as `model/` does for the engines; slow and plain, for training checks
and for comparing engines against.

Axes: N patches, T tokens, V visual tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..image.positions import text_positions, text_rotary, vision_position_taps, vision_rotary
from ..model_config import ModelConfig
from .reference_decoder import KVCache
from .reference_model import ReferenceModel


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualFeatures:
    """What the tower says about the pictures of one prompt, rows in prompt order.

    Attributes:
        image_embeds: (V, D), take the place of the visual tokens' embeddings.
        deepstack_embeds: (taps, V, D), added at the same rows after decoder layers 0, 1, 2.
    """

    image_embeds: Tensor
    deepstack_embeds: Tensor


def visual_rows(input_ids: Tensor, config: ModelConfig) -> Tensor:
    """(B, T) ids to (B, T) int64: the k-th visual token of a sequence is row k; text is -1."""
    is_visual = (input_ids == config.image_token_id) | (input_ids == config.video_token_id)
    return torch.where(is_visual, is_visual.cumsum(dim=-1) - 1, -1)


def encode_pictures(
    model: ReferenceModel, pixel_values: Tensor, grid_thw: npt.NDArray[np.int64]
) -> VisualFeatures:
    """The pictures of one prompt through the tower, one grid after another.

    Args:
        model: the model.
        pixel_values: (sum of t*h*w, 1536), pictures concatenated in prompt order.
        grid_thw: (G, 3) int64, patches; the t temporal patches of a video are one batch.
    """
    vision = model.config.vision
    ends = grid_thw.prod(axis=1).cumsum()
    embeds, deepstack = [], []
    for end, (t, h, w) in zip(ends.tolist(), grid_thw.tolist(), strict=True):
        patches = pixel_values[end - t * h * w : end]
        frame, merge_size = np.array([[1, h, w]], dtype=np.int64), vision.spatial_merge_size
        side, head_dim = vision.position_grid, vision.head_dim
        positions = (
            *vision_position_taps(frame, table_side=side, merge_size=merge_size),
            *vision_rotary(frame, head_dim=head_dim, merge_size=merge_size),
        )
        on_device = [torch.from_numpy(array).to(patches.device) for array in positions]
        image_embeds, deepstack_embeds = model.visual(patches.view(t, h * w, -1), *on_device)
        embeds.append(image_embeds.flatten(0, 1))
        deepstack.append(deepstack_embeds.flatten(1, 2))
    return VisualFeatures(
        image_embeds=torch.cat(embeds), deepstack_embeds=torch.cat(deepstack, dim=1)
    )


def prompt_hidden_states(
    model: ReferenceModel,
    input_ids: npt.NDArray[np.int64],
    pixel_values: npt.NDArray[np.float32] | None = None,
    grid_thw: npt.NDArray[np.int64] | None = None,
    *,
    cache: KVCache | None = None,
) -> Tensor:
    """Prefill: (1, T, D) hidden states of a prompt; of a conversation, what the cache lacks.

    Args:
        model: the model.
        input_ids: (S,) int64, the whole conversation, a visual token for every row of the
            pictures; the first `cache.length` are in the cache and not run again.
        pixel_values: (N, 1536) float32 patches of all pictures, those in the cache too (they
            are not encoded again); None for text alone.
        grid_thw: (G, 3) int64; None for text alone.
        cache: filled with the keys and values of what is run, when given.
    """
    decoder, device = model.language_model, model.head_weight.device
    start = 0 if cache is None else cache.length
    grids = np.zeros((0, 3), np.int64) if grid_thw is None else grid_thw
    position_ids, _ = text_positions(input_ids, grids, model.config)
    cos, sin = _angles(position_ids[:, start:], model)
    everything = torch.from_numpy(input_ids)[None].to(device)
    ids, rows = everything[:, start:], visual_rows(everything, model.config)[:, start:]
    embeds = decoder.embed_tokens(ids)
    if pixel_values is None or not bool((rows >= 0).any()):
        hidden: Tensor = decoder(embeds, cos, sin, cache=cache)
        return hidden
    # Pictures whose rows are all in the cache are left out; the others' rows count from theirs.
    first_row = int(rows[rows >= 0].min())
    patches = grids.prod(axis=1).cumsum()
    row_ends = patches // model.config.vision.spatial_merge_size**2
    left_out = int((row_ends <= first_row).sum())
    skipped_rows, skipped_patches = (
        (int(row_ends[left_out - 1]), int(patches[left_out - 1])) if left_out else (0, 0)
    )
    pixels = torch.from_numpy(pixel_values[skipped_patches:]).to(device)
    visual = encode_pictures(model, pixels, grids[left_out:])
    rows = torch.where(rows >= 0, rows - skipped_rows, -1)
    hidden = decoder(
        embeds, cos, sin, rows, visual.image_embeds, visual.deepstack_embeds, cache=cache
    )
    return hidden


@torch.no_grad()
def generate_greedy(
    model: ReferenceModel,
    input_ids: npt.NDArray[np.int64],
    pixel_values: npt.NDArray[np.float32] | None = None,
    grid_thw: npt.NDArray[np.int64] | None = None,
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int] = frozenset(),
    cache: KVCache | None = None,
) -> list[int]:
    """The likeliest continuation of one prompt, token by token over a cache.

    Args:
        model: the model.
        input_ids: (T,) int64.
        pixel_values: (N, 1536) float32, or None.
        grid_thw: (G, 3) int64, or None.
        max_new_tokens: length limit.
        stop_ids: the answer ends with, and includes, the first of these.
        cache: of earlier turns, whose tokens `input_ids` begins with; None begins a new one.
            Afterwards it holds all of prompt and answer but the answer's last token.
    """
    decoder, T = model.language_model, len(input_ids)
    if cache is None:
        weight = decoder.embed_tokens.weight
        cache = KVCache(decoder.config, batch=1, capacity=T + max_new_tokens, like=weight)
    hidden = prompt_hidden_states(model, input_ids, pixel_values, grid_thw, cache=cache)
    grids = np.zeros((0, 3), np.int64) if grid_thw is None else grid_thw
    _, rope_delta = text_positions(input_ids, grids, model.config)
    following = np.arange(T, T + max_new_tokens, dtype=np.int64) + rope_delta
    cos, sin = _angles(np.tile(following, (3, 1)), model)  # text: one position on all axes
    token_ids: list[int] = []
    for step in range(max_new_tokens):
        token = model.logits(hidden[:, -1]).argmax(dim=-1)
        token_ids.append(int(token))
        if token_ids[-1] in stop_ids or len(token_ids) == max_new_tokens:
            break
        now = slice(step, step + 1)
        hidden = decoder(decoder.embed_tokens(token[None]), cos[:, now], sin[:, now], cache=cache)
    return token_ids


def _angles(position_ids: npt.NDArray[np.int64], model: ReferenceModel) -> tuple[Tensor, Tensor]:
    """cos and sin, (1, T, head_dim/2) float32, on the model's device."""
    cos, sin = text_rotary(position_ids, model.config.text)
    device = model.head_weight.device
    return torch.from_numpy(cos)[None].to(device), torch.from_numpy(sin)[None].to(device)
