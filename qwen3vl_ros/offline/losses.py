# SPDX-License-Identifier: Apache-2.0
"""What the tiny model is punished for: unseen objects, wrong answers, looking elsewhere.

Knows tensors and the reference model, not how long or in what order anything is trained.
Axes: B pictures, T tokens, V image tokens, D hidden size.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..image.positions import vision_position_taps, vision_rotary
from .dense_targets import DetectorHead
from .packing import OPENING_WEIGHT, QuestionBatch
from .pictures import Pictures
from .reference_decoder import DecoderLayer
from .reference_model import ReferenceModel, init_weights
from .reference_rotation import rotated
from .reference_vision import PatchMerger, VisionTower
from .shown import Shown

READING_HEAD = (1, 0)  # layer and head told which words to read
# Layers and heads told where to look. Number n of a list belongs to head n % 4, which looks at the
# object while that number is written and rests on the first token otherwise: so a head's values
# are one coordinate, and nothing has to be picked apart afterwards. Heads 0 and 2 have keys and
# values of their own.
LOOKING_HEADS = ((2, 0), (2, 2), (3, 0), (3, 2))
RESTING_WEIGHT = 0.3
STARTING_WEIGHT = 3.0  # of a token that no earlier digit tells where to look


class Trainee(nn.Module):
    """The model and the heads that are thrown away afterwards."""

    def __init__(self, model: ReferenceModel) -> None:
        super().__init__()
        self.model = model
        size = model.config.text.hidden_size
        self.head = DetectorHead(size, full=True)
        self.tap_heads = nn.ModuleList(
            DetectorHead(size, full=False) for _ in model.config.vision.deepstack_visual_indexes
        )


def init_trainee(trainee: Trainee, *, seed: int) -> None:
    """First weights: random, but for the position table, which starts as waves of both axes.

    From random positions the tower needs hundreds of steps before any box starts to move.
    """
    init_weights(trainee.model, seed=seed, std=0.04)
    table = trainee.model.visual.pos_embed.weight
    side, waves = round(len(table) ** 0.5), table.shape[1] // 4
    frequencies = torch.logspace(math.log10(0.5), math.log10(side / 2), waves) * 2 * math.pi
    angles = torch.linspace(0, 1, side)[:, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (side, h/2)
    rows, columns = axis[:, None].expand(-1, side, -1), axis[None].expand(side, -1, -1)
    with torch.no_grad():
        table.copy_(0.5 * torch.cat([rows, columns], dim=-1).flatten(0, 1))
        # Deepstack rows are added to the image rows three times over. At full strength they drown
        # them; the detector heads normalise, so a whisper teaches the taps just as well.
        for merger in trainee.model.visual.deepstack_merger_list:
            cast(PatchMerger, merger).linear_fc2.weight.mul_(0.1)


def encode(tower: VisionTower, shown: Shown) -> tuple[Tensor, Tensor]:
    """Image rows (B, V, D) and deepstack rows (3, B, V, D) of a batch."""
    config, grid = tower.config, shown.tower_grid
    indices, weights = vision_position_taps(
        grid,
        table_side=config.position_grid,
        merge_size=config.spatial_merge_size,
    )
    cos, sin = vision_rotary(grid, head_dim=config.head_dim, merge_size=config.spatial_merge_size)
    image, taps = tower(
        shown.pixel_values, *(torch.from_numpy(a) for a in (indices, weights, cos, sin))
    )
    # The pictures of a sequence, end to end.
    B, D = len(shown.slots), image.shape[-1]
    return image.reshape(B, -1, D), taps.reshape(len(taps), B, -1, D)


def dense_loss(
    trainee: Trainee, image: Tensor, taps: Tensor, pictures: Pictures
) -> tuple[Tensor, dict[str, float]]:
    """What the detector heads make of the tower's rows."""
    loss, found = trainee.head(image, pictures.dense)
    for head, tap in zip(trainee.tap_heads, taps, strict=True):
        loss = loss + 0.3 * head(tap, pictures.dense)[0]
    return loss, found


def answer_loss(
    model: ReferenceModel, batch: QuestionBatch, image: Tensor, taps: Tensor
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Weighted cross-entropy of the answers, the looking loss, and how well it goes."""
    decoder = model.language_model
    layers: list[Tensor] = []
    hidden = decoder(
        decoder.embed_tokens(batch.input_ids),
        batch.rope_cos,
        batch.rope_sin,
        batch.visual_rows,
        image.flatten(0, 1),
        taps.flatten(1, 2),
        attention_mask=batch.mask,
        layer_outputs=layers,
    )
    learned = batch.labels >= 0
    logits, labels = model.logits(hidden[learned]), batch.labels[learned]
    weights = batch.weights[learned]
    each = F.cross_entropy(logits, labels, reduction="none")
    loss = (each * weights).sum() / weights.sum()
    right = (logits.argmax(-1) == labels).float()
    leading, opening = weights == 1.0, weights == OPENING_WEIGHT
    looking, mass = attention_loss(model, batch, layers)
    found = {
        "answer": loss.item(),
        "leading_digits": right[leading].mean().item(),
        "opening": right[opening].mean().item(),
        **mass,
    }
    return loss, looking, found


def attention_loss(
    model: ReferenceModel, batch: QuestionBatch, layers: list[Tensor]
) -> tuple[Tensor, dict[str, float]]:
    """Pulls a few heads' attention onto the object being written about, and onto its name.

    Returns:
        the loss, and the share of attention that is where it should be when a number is begun.
    """
    asked, there = batch.numbers >= 0, batch.looks_at.sum(-1) > 0  # (B, T)
    importance = torch.where(batch.starts, STARTING_WEIGHT, 1.0)
    visual = batch.visual_rows[0] >= 0  # the picture is in the same columns for all
    read = (_attention(model, batch, layers, *READING_HEAD) * batch.reads).sum(-1)
    losses, looked = [_pull(read, importance, asked)], []
    for number, (layer, head) in enumerate(LOOKING_HEADS):
        share = _attention(model, batch, layers, layer, head)
        mine = asked & there & (batch.numbers % len(LOOKING_HEADS) == number)
        looks = (share[:, :, visual] * batch.looks_at).sum(-1)
        looked.append(looks[mine & batch.starts])
        losses.append(_pull(looks, importance, mine))
        losses.append(RESTING_WEIGHT * _pull(share[..., 0], importance, asked & ~mine))
    found = {
        "reading": read[asked & batch.starts].mean().item(),
        "looking": torch.cat(looked).mean().item(),
    }
    return torch.stack(losses).sum() / len(LOOKING_HEADS), found


def _pull(share: Tensor, importance: Tensor, where: Tensor) -> Tensor:
    """Loss of (B, T) shares of attention that should be one where told; zero where nowhere."""
    weights = importance[where]
    return -((share[where] + 1e-4).log() * weights).sum() / weights.sum().clamp(min=1)


def _attention(
    model: ReferenceModel, batch: QuestionBatch, layers: list[Tensor], layer: int, head: int
) -> Tensor:
    """(B, T, T) attention of one head; `layers` holds the outputs of all layers."""
    block = cast(DecoderLayer, model.language_model.layers[layer])
    attention, x = block.self_attn, block.input_layernorm(layers[layer - 1])
    kv: int = head // attention.queries_per_kv
    d: int = attention.head_dim
    q = attention.q_norm(x @ attention.q_proj.weight[head * d : (head + 1) * d].T)
    k = attention.k_norm(x @ attention.k_proj.weight[kv * d : (kv + 1) * d].T)
    q = rotated(q, batch.rope_cos, batch.rope_sin)
    k = rotated(k, batch.rope_cos, batch.rope_sin)
    scores: Tensor = q @ k.transpose(1, 2) / math.sqrt(d)
    return scores.masked_fill(~batch.mask[:, 0], -1e9).softmax(-1)
