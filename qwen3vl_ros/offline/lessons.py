# SPDX-License-Identifier: Apache-2.0
"""Cached scenes → batches: pictures for the tower, questions for the decoder.

Knows shards and questions, no model. Mirroring is the one augmentation that moves things: the
truth moves along (x of every centre, the turns about y and z). Colour gain and offset change
nothing a question asks about as long as they are small.

A question batch shares each picture between its questions: one sequence holds the picture once
and then every question with its answer as a branch. A branch sees the picture and itself, and its
positions go on from the picture's end, exactly as if it were asked alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..image.positions import text_positions, text_rotary
from ..language.prompt import CHAT_AFTER_TEXT, CHAT_BEFORE_TEXT, prompt_text
from ..language.tokenizer import Tokenizer
from ..model_config import ModelConfig
from ..scene.detections import Task
from ..synthetic.dataset import Shard
from ..synthetic.questions import (
    KnownObject,
    Question,
    question_about,
    question_about_absent,
    question_about_several,
)
from ..synthetic.scenes import COLORS, SHAPES
from .dense_targets import DenseTargets

IGNORE = -100  # label of a token that is not learned, as torch's cross-entropy has it
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
STRUCTURE_WEIGHT = 0.1
# What the last digit of a number can teach is small and noisy; what the first can is large.
INTEGER_WEIGHTS = (0.25, 1.0, 1.0, 1.0)  # units, tens, hundreds, thousands
DECIMAL_WEIGHTS = (1.0, 1.0, 0.3)  # before the point, tenths, hundredths


@dataclass(frozen=True, kw_only=True, slots=True)
class Pictures:
    """B pictures of one size and the truth about them.

    Attributes:
        pixel_values: (B, N, 1536) float32.
        grid_thw: (1, 3) int64, the grid they share.
        dense: truth for the detector head.
        objects: what can be asked about, per picture.
    """

    pixel_values: Tensor
    grid_thw: npt.NDArray[np.int64]
    dense: DenseTargets
    objects: tuple[tuple[KnownObject, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionBatch:
    """Sequences of one picture and several questions each. T is the longest of them.

    Attributes:
        input_ids: (B, T) int64.
        visual_rows: (B, T) int64, row of the batch's visual tokens laid end to end, or -1.
        rope_cos, rope_sin: (B, T, head_dim/2) float32.
        mask: (B, 1, T, T) bool, True where a token may look.
        labels: (B, T) int64, the token after this one, or `IGNORE`.
        weights: (B, T) float32 of the labels.
        looks_at: (B, T, V) float32, image tokens that hold the object this token writes about;
            all zero where it writes about none.
        numbers: (B, T) int64, which number of the object's list this token writes; -1 for none.
        reads: (B, T, T) bool, tokens of the question that name that object; False likewise.
    """

    input_ids: Tensor
    visual_rows: Tensor
    rope_cos: Tensor
    rope_sin: Tensor
    mask: Tensor
    labels: Tensor
    weights: Tensor
    looks_at: Tensor
    numbers: Tensor
    reads: Tensor


def pictures_from_shard(
    shard: Shard,
    indices: npt.NDArray[np.int64],
    mirrored: npt.NDArray[np.bool_],
    *,
    jitter: np.random.Generator | None,
) -> Pictures:
    """The given scenes of a shard; `jitter` changes their light a little."""
    images = shard.images[indices]
    coverage = shard.coverage[indices].astype(np.float32)
    boxes, boxes_3d = shard.xyxy_norm1000[indices].copy(), shard.bbox_3d[indices].copy()
    images[mirrored] = images[mirrored][:, :, ::-1]
    coverage[mirrored] = coverage[mirrored][..., ::-1]
    boxes[mirrored] = mirrored_boxes(boxes[mirrored])
    boxes_3d[mirrored] *= np.array([-1, 1, 1, 1, 1, 1, 1, -1, -1], np.float32)
    values = images.astype(np.float32) / 127.5 - 1
    if jitter is not None:
        B = len(indices)
        gain = jitter.uniform(0.88, 1.12, (B, 1, 1, 1)) * jitter.uniform(0.95, 1.05, (B, 1, 1, 3))
        offset = jitter.uniform(-0.08, 0.08, (B, 1, 1, 1))
        values = np.clip(values * gain.astype(np.float32) + offset.astype(np.float32), -1, 1)
    colors, shapes = shard.colors[indices], shard.shapes[indices]
    asked = shard.asked[indices]
    h, w = images.shape[1:3]
    return Pictures(
        pixel_values=patch_rows(torch.from_numpy(np.ascontiguousarray(values))),
        grid_thw=np.array([[1, h // 16, w // 16]], np.int64),
        dense=DenseTargets(
            colors=torch.from_numpy(colors.astype(np.int64)),
            shapes=torch.from_numpy(shapes.astype(np.int64)),
            xyxy_norm1000=torch.from_numpy(boxes),
            bbox_3d=torch.from_numpy(boxes_3d),
            coverage=torch.from_numpy(coverage.reshape(*coverage.shape[:2], -1)),
        ),
        objects=tuple(
            _known_objects(colors[i], shapes[i], boxes[i], boxes_3d[i], asked[i])
            for i in range(len(indices))
        ),
    )


def mirrored_boxes(xyxy_norm1000: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Boxes (..., 4) of the picture seen in a mirror."""
    x1, y1, x2, y2 = np.moveaxis(xyxy_norm1000, -1, 0)
    return np.stack([1000 - x2, y1, 1000 - x1, y2], axis=-1)


def patch_rows(values: Tensor) -> Tensor:
    """(B, h, w, 3) normalised pixels to (B, N, 1536), as `image/preprocess.py` orders them."""
    B, h, w, _ = values.shape
    blocks = values.view(B, h // 32, 2, 16, w // 32, 2, 16, 3)
    cells = blocks.permute(0, 1, 4, 2, 5, 7, 3, 6)  # block row, column, row in, column in, C, y, x
    rows = cells.reshape(B, h * w // 256, 3, 1, 256).expand(-1, -1, -1, 2, -1)
    return rows.reshape(B, h * w // 256, 1536)


def _known_objects(
    colors: npt.NDArray[np.int8],
    shapes: npt.NDArray[np.int8],
    boxes: npt.NDArray[np.float32],
    boxes_3d: npt.NDArray[np.float32],
    asked: npt.NDArray[np.bool_],
) -> tuple[KnownObject, ...]:
    palette = list(COLORS)
    return tuple(
        KnownObject(
            name=f"{palette[colors[k]]} {SHAPES[shapes[k]]}",
            xyxy_norm1000=boxes[k],
            bbox_3d=boxes_3d[k],
            askable=bool(asked[k]),
        )
        for k in range(len(colors))
        if colors[k] >= 0
    )


def draw_questions(
    objects: Sequence[KnownObject], rng: np.random.Generator, *, count: int
) -> list[Question]:
    """A mix of tasks about one picture: mostly one object by name, as users ask."""
    askable = [i for i, known in enumerate(objects) if known.askable]
    questions: list[Question] = []
    for _ in range(8 * count):
        if len(questions) == count:
            break
        dice = rng.uniform()
        if not askable or dice < 0.10:
            task = (Task.REFER, Task.REFER, Task.DETECT, Task.DETECT_3D, Task.POINT)
            question = question_about_absent(objects, task[rng.integers(5)], rng)
        elif dice < 0.20:
            question = question_about_several(objects, rng)
        else:
            index = int(askable[rng.integers(len(askable))])
            task_3d = dice > 0.78
            task_of = Task.DETECT_3D if task_3d else Task.POINT if dice < 0.25 else Task.REFER
            question = question_about(objects, index, task_of)
        if question not in questions:  # the same question twice teaches nothing
            questions.append(question)
    return questions


class QuestionPacker:
    """Turns pictures' questions into a `QuestionBatch`."""

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer, self.config = tokenizer, config
        self.end_of_turn = tokenizer.token_id("<|im_end|>")
        self.before = tokenizer.encode(CHAT_BEFORE_TEXT)

    def pack(self, pictures: Pictures, questions: Sequence[Sequence[Question]]) -> QuestionBatch:
        """One sequence a picture."""
        visual = int(pictures.grid_thw.prod()) // 4
        start = [*self.before, self.config.vision_start_token_id]
        prefix = [*start, *[self.config.image_token_id] * visual]
        prefix.append(self.config.vision_end_token_id)
        position_ids, delta = text_positions(
            np.array(prefix, np.int64), pictures.grid_thw, self.config
        )
        after_prefix = len(prefix) + delta
        branches = [[self._branch(question) for question in asked] for asked in questions]
        T = len(prefix) + max(sum(len(b.ids) for b in some) for some in branches)
        B = len(branches)
        ids = np.zeros((B, T), np.int64)
        rows = np.full((B, T), -1, np.int64)
        labels, weights = np.full((B, T), IGNORE, np.int64), np.zeros((B, T), np.float32)
        looks_at = np.zeros((B, T, visual), np.float32)
        numbers = np.full((B, T), -1, np.int64)
        reads = np.zeros((B, T, T), bool)
        branch_of = np.full((B, T), -1, np.int64)  # 0 the picture, then 1, 2, ...; -1 padding
        positions = np.zeros((B, 3, T), np.int64)
        coverage = pictures.dense.coverage.numpy()
        for b, some in enumerate(branches):
            ids[b, : len(prefix)] = prefix
            rows[b, len(start) : len(start) + visual] = b * visual + np.arange(visual)
            branch_of[b, : len(prefix)] = 0
            positions[b, :, : len(prefix)] = position_ids
            at = len(prefix)
            for number, branch in enumerate(some, start=1):
                end = at + len(branch.ids)
                ids[b, at:end] = branch.ids
                labels[b, at : end - 1] = branch.labels[1:]
                weights[b, at : end - 1] = branch.weights[1:]
                branch_of[b, at:end] = number
                positions[b, :, at:end] = after_prefix + np.arange(len(branch.ids))
                for offset in np.flatnonzero(branch.targets[1:] >= 0):
                    solid = int(branch.targets[offset + 1])
                    seen = coverage[b, solid]
                    looks_at[b, at + offset] = seen >= 0.4 * seen.max()
                    numbers[b, at + offset] = branch.numbers[offset + 1]
                    reads[b, at + offset, at + branch.named[solid]] = True
                at = end
        rotary = [text_rotary(positions[b], self.config.text) for b in range(B)]
        mine = (branch_of[:, :, None] == branch_of[:, None]) | (branch_of[:, None] == 0)
        mask = np.tril(mine)  # padding looks at padding, so no row is empty
        return QuestionBatch(
            input_ids=torch.from_numpy(ids),
            visual_rows=torch.from_numpy(rows),
            rope_cos=torch.from_numpy(np.stack([cos for cos, _ in rotary])),
            rope_sin=torch.from_numpy(np.stack([sin for _, sin in rotary])),
            mask=torch.from_numpy(mask)[:, None],
            labels=torch.from_numpy(labels),
            weights=torch.from_numpy(weights),
            looks_at=torch.from_numpy(looks_at),
            numbers=torch.from_numpy(numbers),
            reads=torch.from_numpy(reads),
        )

    def _branch(self, question: Question) -> _Branch:
        asked = self.tokenizer.encode(prompt_text(question.query) + CHAT_AFTER_TEXT)
        answered = [*self.tokenizer.encode(question.answer), self.end_of_turn]
        text, spans = self.tokenizer.decode_with_spans(answered)
        by_character, (line_of, number_of) = answer_weights(text), _numbers_of_characters(text)
        weights = np.zeros(len(asked) + len(answered), np.float32)
        targets, numbers = np.full((2, len(weights)), -1, np.int64)
        for i, (first, last) in enumerate(spans, start=len(asked)):
            weights[i] = by_character[first:last].max(initial=STRUCTURE_WEIGHT)
            line = line_of[first:last].max(initial=-1)
            if line >= 0:
                targets[i] = question.targets[line]
                numbers[i] = number_of[first:last].max()
        # Whether there is anything at all is decided by one token: "[]" or "[".
        opening = len(asked) + next(i for i, (a, b) in enumerate(spans) if "[" in text[a:b])
        weights[opening] = 1.0
        return _Branch(
            ids=np.array(asked + answered, np.int64),
            labels=np.array([IGNORE] * len(asked) + answered, np.int64),
            weights=weights,
            targets=targets,
            numbers=numbers,
            named=self._named(question, asked),
        )

    def _named(self, question: Question, asked: list[int]) -> dict[int, npt.NDArray[np.int64]]:
        """Which tokens of the question name each object of its answer."""
        text, spans = self.tokenizer.decode_with_spans(asked)
        named = {}
        for target, line in zip(question.targets, question.lines, strict=True):
            name = json.loads(line)["label"]
            first = text.index(name)
            last = first + len(name)
            named[target] = np.array(
                [i for i, (a, b) in enumerate(spans) if a < last and b > first and a < b]
            )
        return named


@dataclass(frozen=True, kw_only=True, slots=True)
class _Branch:
    """One question and answer, (n,) each; entry i says how token i itself is to be learned.

    `named` holds, for every object answered, the tokens of the question that name it.
    """

    ids: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    named: dict[int, npt.NDArray[np.int64]]


def answer_weights(text: str) -> npt.NDArray[np.float32]:
    """(len(text),) how much each character of an answer is worth learning."""
    weights = np.full(len(text), STRUCTURE_WEIGHT, np.float32)
    for match in NUMBER.finditer(text):
        digits = match.group().lstrip("-")
        first = match.end() - len(digits)
        whole, _, decimals = digits.partition(".")
        if decimals:
            # "1.25": the point is structure.
            weights[first : first + len(whole)] = DECIMAL_WEIGHTS[0]
            places = DECIMAL_WEIGHTS[1 : 1 + len(decimals)]
            weights[first + len(whole) + 1 : match.end()][: len(places)] = places
        else:
            weights[first : match.end()] = INTEGER_WEIGHTS[: len(digits)][::-1]
        weights[match.start() : first] = 1.0  # the sign
        weights[match.end() : match.end() + 1] = 0.3  # that the number ends here
    return weights


def _numbers_of_characters(
    text: str,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(len(text),) each: the answer line and the number in its list a character is of, or -1."""
    line_of, number_of = np.full((2, len(text)), -1, np.int64)
    for line, numbers in enumerate(re.finditer(r"(?<=: )\[[^\]]*\]", text)):
        for index, match in enumerate(NUMBER.finditer(text, numbers.start(), numbers.end())):
            line_of[match.start() : match.end()] = line
            number_of[match.start() : match.end()] = index
    return line_of, number_of


def batches_of_indices(
    sizes: dict[tuple[int, int], int], *, batch: int, rng: np.random.Generator
) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.int64]]]:
    """Endless shuffled batches, each of one picture size, sizes in proportion."""
    while True:
        epoch = [
            (size, chunk)
            for size, count in sizes.items()
            for chunk in np.array_split(rng.permutation(count), max(1, count // batch))
        ]
        for index in rng.permutation(len(epoch)):
            yield epoch[index]
