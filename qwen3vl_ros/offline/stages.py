# SPDX-License-Identifier: Apache-2.0
"""The recipe of the tiny checkpoint: its stages, in the order that works, and why.

0. *heads*: only for a model that was trained before (`--from`): the detector heads, which no
   checkpoint keeps, over the rows of the tower as it is. Random heads would wreck it.
1. *tower*: the vision tower alone, on dense targets at every image token (`dense_targets.py`);
   nothing is grounded before the tower knows what it sees and where.
2. *decoder*: the text decoder on answers, over the rows of the frozen tower. Two layers are told
   where to look: some of their heads are pulled onto the image tokens of the object that is being
   written about. Without that a decoder this small learns the format and a location prior, and
   grounds nothing for hours. One batch in eight is of two pictures or of a clip, where clips are
   given.
3. *joint*: both together, more slowly, so that each adapts to the other; not part of the recipe of
   the committed checkpoint, which meets its goals without.

Knows losses and lessons, not how a stage is run (`training.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..synthetic.clip_shards import ClipShard
from ..synthetic.questions import Question
from .lessons import WHOLE_ANSWERS, draw_lesson, draw_questions
from .losses import Trainee, answer_loss, dense_loss, encode
from .moving_pictures import draw_clips, draw_pairs
from .packing import QuestionPacker
from .pictures import Pictures
from .shown import Shown

Loss = tuple[Tensor, dict[str, float]]
Step = Callable[[Pictures, np.random.Generator, float], Loss]
MovingStep = Callable[[np.random.Generator], Loss]
LOOKING_WEIGHT = 0.3  # of the looking loss beside the answers'
SEEING_WEIGHT = 0.4  # of the dense loss beside the answers', in the joint stage
PAIRS = 0.5  # of the moving batches; the others are clips


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how hard each stage trains.

    Attributes:
        heads_steps, tower_steps, decoder_steps, joint_steps: optimiser steps of the stages. They
            may be changed while a stage is under way: the rate falls over the last third only.
        tower_batch: pictures a step in stages 0 and 1; decoder_batch: in stages 2 and 3.
        moving_share: of the batches of stage 2 are of two pictures or of clips.
        rate: of AdamW; matrix_rate: of Muon (`optimizer.py`).
        joint_share: of both rates in stage 3; at the full rate answers wreck the tower.
        save_every: steps between saved states.
        watch_every: steps between looks at the watched pictures.
    """

    heads_steps: int = 0
    tower_steps: int = 1400
    decoder_steps: int = 1700
    joint_steps: int = 0
    tower_batch: int = 16
    decoder_batch: int = 8
    moving_share: float = 0.125
    rate: float = 1.0e-3
    matrix_rate: float = 3.0e-3
    joint_share: float = 0.1
    save_every: int = 25
    watch_every: int = 100
    seed: int = 0


def going_on(*, seed: int) -> Recipe:
    """For a model that was trained before: new heads first, then at a lower rate, so that what it
    knows is not shaken out of it."""
    return Recipe(
        heads_steps=60,
        tower_steps=2000,
        decoder_steps=2000,
        rate=7e-4,
        matrix_rate=2e-3,
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of the recipe.

    Attributes:
        parameters: what it trains.
        step: loss of one batch and what to report of it, some way (0 to 1) through the stage.
        moving_step: the same of a batch that it draws itself; None for a stage without.
        speaks: whether its decoder learns, so that its answers are worth watching.
    """

    name: str
    steps: int
    batch: int
    rate: float
    matrix_rate: float
    parameters: Sequence[tuple[str, nn.Parameter]]
    step: Step
    moving_step: MovingStep | None = None
    speaks: bool = False


def stages_of(
    trainee: Trainee, packer: QuestionPacker, recipe: Recipe, clips: ClipShard | None
) -> tuple[Stage, ...]:
    """The recipe for one model; without clips nothing moves."""
    model = trainee.model
    decoder = [(n, p) for n, p in trainee.named_parameters() if ".language_model." in n]
    tower = [(n, p) for n, p in trainee.named_parameters() if ".language_model." not in n]
    heads = [(n, p) for n, p in tower if ".visual." not in n]

    def rows_as_they_are(shown: Shown) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return encode(model.visual, shown)

    def on_rows_as_they_are(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        return dense_loss(trainee, *rows_as_they_are(pictures.shown), pictures)

    def on_dense_targets(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        return dense_loss(trainee, *encode(model.visual, pictures.shown), pictures)

    def on_questions(
        shown: Shown,
        asked: Sequence[Sequence[Question]],
        rows: tuple[Tensor, Tensor],
        *,
        whole: Sequence[Sequence[bool]] | None = None,
    ) -> Loss:
        batch = packer.pack(shown, asked, whole=whole)
        answered, looking, found = answer_loss(model, batch, *rows)
        return answered + LOOKING_WEIGHT * looking, found

    def on_answers(
        pictures: Pictures,
        rng: np.random.Generator,
        progress: float,
        rows: tuple[Tensor, Tensor],
    ) -> Loss:
        lesson = draw_lesson(rng, progress=progress)
        asked = [draw_questions(objects, lesson, rng) for objects in pictures.objects]
        whole = [[rng.uniform() < WHOLE_ANSWERS for _ in lesson] for _ in asked]
        return on_questions(pictures.shown, asked, rows, whole=whole)

    def on_frozen_tower(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        return on_answers(pictures, rng, progress, rows_as_they_are(pictures.shown))

    def on_both(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        rows = encode(model.visual, pictures.shown)
        seen, found_dense = dense_loss(trainee, *rows, pictures)
        answered, found = on_answers(pictures, rng, 1.0, rows)
        return answered + SEEING_WEIGHT * seen, {**found_dense, **found}

    def on_moving(rng: np.random.Generator) -> Loss:
        assert clips is not None
        draw = draw_pairs if rng.uniform() < PAIRS else draw_clips
        shown, asked = draw(clips, batch=recipe.decoder_batch, rng=rng)
        return on_questions(shown, asked, rows_as_they_are(shown))

    return (
        Stage(
            name="heads",
            steps=recipe.heads_steps,
            batch=recipe.tower_batch,
            rate=3 * recipe.rate,  # one linear layer each
            matrix_rate=recipe.matrix_rate,
            parameters=heads,
            step=on_rows_as_they_are,
        ),
        Stage(
            name="tower",
            steps=recipe.tower_steps,
            batch=recipe.tower_batch,
            rate=recipe.rate,
            matrix_rate=recipe.matrix_rate,
            parameters=tower,
            step=on_dense_targets,
        ),
        Stage(
            name="decoder",
            steps=recipe.decoder_steps,
            batch=recipe.decoder_batch,
            rate=recipe.rate,
            matrix_rate=recipe.matrix_rate,
            parameters=decoder,
            step=on_frozen_tower,
            moving_step=on_moving if clips is not None else None,
            speaks=True,
        ),
        Stage(
            name="joint",
            steps=recipe.joint_steps,
            batch=recipe.decoder_batch,
            rate=recipe.rate * recipe.joint_share,
            matrix_rate=recipe.matrix_rate * recipe.joint_share,
            parameters=[*tower, *decoder],
            step=on_both,
            speaks=True,
        ),
    )
