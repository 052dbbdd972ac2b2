# SPDX-License-Identifier: Apache-2.0
"""The tower's lessons: what every image token should know about the object it sees.

A detector head that is thrown away after training. It asks each merged token for objectness,
colour, shape, painted word, superlatives ("nearest of the boxes") and relations ("to the left of
something red": comparing is done once, by the tower, so that the decoder has to look it up only),
and the numbers of everything flat and of the 3D box *digit by digit*: a decimal digit is a token
to the decoder, so a tower that already thinks in digits leaves the decoder only to look up and
copy. (Regressed coordinates alone were much slower to turn into text, see docs/LOG.md.)

Knows tensors of truth, not scenes. Axes: B images, V image tokens, K solids.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..synthetic.phrases import RELATIONS, SUPERLATIVES
from ..synthetic.solids import COLORS, SHAPES, WORDS

COVERED = 0.12  # a token sees an object when the object covers this share of it
IGNORED = 0.02  # between the two nobody is asked
FLAT = 10  # numbers: box, point inside, box of the word
HUNDREDS, TENS = 11, 10  # of 0..1000
UNITS, TENTHS, HUNDREDTHS = 4, 10, 10  # of metres or half turns
RANKS = 3 * len(SUPERLATIVES)  # among those of its name, of its shape, and all
TRAITS = (*COLORS, *SHAPES)  # of the other thing of a relation
RELATED = len(RELATIONS) * len(TRAITS)
UNKNOWN = -100  # class of what nobody is asked about, as torch's cross-entropy has it
NO_WORD = len(WORDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseTargets:
    """Truth about B images.

    Attributes:
        colors, shapes: (B, K) int64, -1 where there is no solid.
        words: (B, K) int64, index into `WORDS`, `NO_WORD` or `UNKNOWN`.
        ranks: (B, K, RANKS) float32, 1 where a superlative holds; NaN where nobody could say.
        related: (B, K, RELATED) float32, 1 where a relation to something of a trait holds; NaN
            where nobody asks.
        flat_norm1000: (B, K, FLAT) float32; NaN where there is none.
        bbox_3d: (B, K, 9) float32.
        coverage: (B, K, V) float32.
    """

    colors: Tensor
    shapes: Tensor
    words: Tensor
    ranks: Tensor
    related: Tensor
    flat_norm1000: Tensor
    bbox_3d: Tensor
    coverage: Tensor


class DetectorHead(nn.Module):
    """One linear layer on normalised image tokens; `full` also asks for words, superlatives,
    relations and every digit."""

    def __init__(self, size: int, *, full: bool) -> None:
        super().__init__()
        self.parts = [1, len(COLORS), len(SHAPES), FLAT]
        if full:
            self.parts += [len(WORDS) + 1, RANKS, RELATED]
            self.parts += [9, FLAT * HUNDREDS, FLAT * TENS]
            self.parts += [9 * 2, 9 * UNITS, 9 * TENTHS, 9 * HUNDREDTHS]
        self.full = full
        self.norm = nn.LayerNorm(size)
        self.linear = nn.Linear(size, sum(self.parts))

    def forward(self, embeds: Tensor, targets: DenseTargets) -> tuple[Tensor, dict[str, float]]:
        """Loss of (B, V, D) image tokens, and how well they answer."""
        parts = self.linear(self.norm(embeds)).split(self.parts, dim=-1)
        seen, owner = targets.coverage.max(dim=1)  # (B, V)
        covered = seen >= COVERED
        asked = covered | (seen < IGNORED)
        loss = F.binary_cross_entropy_with_logits(
            parts[0][..., 0][asked], covered[asked].float(), reduction="mean"
        )
        image, token = covered.nonzero(as_tuple=True)
        solid = owner[image, token]
        rows = [part[image, token] for part in parts]
        color, shape = targets.colors[image, solid], targets.shapes[image, solid]
        flat = targets.flat_norm1000[image, solid]
        loss = loss + F.cross_entropy(rows[1], color) + 0.7 * F.cross_entropy(rows[2], shape)
        given = flat.isfinite()
        loss = loss + 6 * (rows[3] * 1000 - flat)[given].abs().mean() / 1000
        box = flat[:, :4]
        with torch.no_grad():
            found = {
                "color": (rows[1].argmax(-1) == color).float().mean().item(),
                "shape": (rows[2].argmax(-1) == shape).float().mean().item(),
                "box_px1000": (rows[3][:, :4] * 1000 - box).abs().mean().item(),
                "iou": _iou(rows[3][:, :4] * 1000, box).mean().item(),
            }
        if not self.full:
            return loss, found
        word, rank = targets.words[image, solid], targets.ranks[image, solid]
        bbox_3d = targets.bbox_3d[image, solid]
        related = targets.related[image, solid]
        loss = loss + _word_loss(rows[4], word)
        loss = loss + _rank_loss(rows[5], rank) + _rank_loss(rows[6], related)
        loss = loss + 3 * F.l1_loss(rows[7], bbox_3d) + _digit_loss(rows[8:], flat, bbox_3d)
        with torch.no_grad():
            error = (rows[7] - bbox_3d)[:, :3].norm(dim=-1)
            found["center_m"] = error.median().item()
            for name, part, base, digits in zip(
                ("hundreds", "tens"), rows[8:10], (HUNDREDS, TENS), box_digits(box), strict=True
            ):
                guess = part.view(-1, FLAT, base)[:, :4].argmax(-1)
                found[name] = (guess == digits).float().mean().item()
            for name, part, truth in (("ranks", rows[5], rank), ("related", rows[6], related)):
                known = truth.isfinite()
                if known.any():
                    found[name] = ((part > 0) == (truth > 0.5))[known].float().mean().item()
            written = (word != NO_WORD) & (word != UNKNOWN)
            if written.any():
                found["words"] = (rows[4].argmax(-1) == word)[written].float().mean().item()
        return loss, found


def box_digits(norm1000: Tensor) -> tuple[Tensor, Tensor]:
    """Hundreds (0..10) and tens of rounded coordinates, int64, shaped as given."""
    whole = norm1000.round().clamp(0, 1000).long()
    return whole // 100, whole // 10 % 10


def metre_digits(values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sign (1 is minus), units, tenths and hundredths of values rounded to hundredths, int64."""
    whole = (values * 100).round().long()
    size = whole.abs()
    return (whole < 0).long(), (size // 100).clamp(max=UNITS - 1), size // 10 % 10, size % 10


def _word_loss(logits: Tensor, word: Tensor) -> Tensor:
    # Few objects carry a word: the rest shall not drown them.
    weight = torch.ones(NO_WORD + 1)
    weight[NO_WORD] = 0.02
    summed = F.cross_entropy(logits, word, weight=weight, ignore_index=UNKNOWN, reduction="sum")
    counted = weight[word[word != UNKNOWN]].sum()
    loss: Tensor = summed / counted.clamp(min=1)
    return loss


def _rank_loss(logits: Tensor, rank: Tensor) -> Tensor:
    known = rank.isfinite()
    summed = F.binary_cross_entropy_with_logits(logits[known], rank[known], reduction="sum")
    loss: Tensor = summed / known.sum().clamp(min=1)
    return loss


def _digit_loss(rows: list[Tensor], flat: Tensor, bbox_3d: Tensor) -> Tensor:
    n = len(flat)
    given = flat.isfinite().flatten()
    hundreds, tens = box_digits(flat.nan_to_num())
    loss = F.cross_entropy(rows[0].view(FLAT * n, HUNDREDS)[given], hundreds.flatten()[given])
    loss = loss + 0.5 * F.cross_entropy(rows[1].view(FLAT * n, TENS)[given], tens.flatten()[given])
    # Centre and size matter more than the three angles.
    weight = torch.tensor([1.0] * 6 + [0.3] * 3).repeat(n)
    for logits, digits, share in zip(
        rows[2:], metre_digits(bbox_3d), (0.3, 0.3, 0.6, 0.15), strict=True
    ):
        each = F.cross_entropy(logits.reshape(9 * n, -1), digits.flatten(), reduction="none")
        loss = loss + share * (each * weight).mean()
    return loss


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """(N,) intersection over union of xyxy boxes."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(-1), (b[:, 2:] - b[:, :2]).prod(-1)
    return shared / (area_a + area_b - shared)
