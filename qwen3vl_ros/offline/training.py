# SPDX-License-Identifier: Apache-2.0
"""Train the tiny checkpoint on two cores, in the order that works.

0. *heads*: only for a model that was trained before (`--from`): the detector heads, which no
   checkpoint keeps, over the rows of the tower as it is. Random heads would wreck it.
1. *tower*: the vision tower alone, on dense targets at every image token (`dense_targets.py`);
   nothing is grounded before the tower knows what it sees and where.
2. *decoder*: the text decoder on answers, over the rows of the frozen tower. Two layers are told
   where to look: some of their heads are pulled onto the image tokens of the object that is being
   written about. Without that a decoder this small learns the format and a location prior, and
   grounds nothing for hours.
3. *joint*: both together, more slowly, so that each adapts to the other; not part of the recipe of
   the committed checkpoint, which meets its goals without.

Every stage can be interrupted and goes on from its last saved state, which holds what the stage
itself trains, no more: a tower can be taken on with another vocabulary. The same seed, scenes and
thread count give the same weights, if the run is not interrupted. Knows shards and lessons; saves
states, not checkpoints.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..synthetic.shards import Shard
from .lessons import WHOLE_ANSWERS, draw_lesson, draw_questions
from .losses import Trainee, answer_loss, dense_loss, encode
from .optimizer import MatricesAndRest
from .packing import QuestionPacker
from .pictures import Pictures, batches_of_indices, pictures_from_shard

Size = tuple[int, int]
Loss = tuple[Tensor, dict[str, float]]
Step = Callable[[Pictures, np.random.Generator, float], Loss]
Report = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how hard each stage trains.

    Attributes:
        heads_steps, tower_steps, decoder_steps, joint_steps: optimiser steps of the stages. They
            may be changed while a stage is under way: the rate falls over the last third only.
        tower_batch: pictures a step in stages 0 and 1; decoder_batch: in stages 2 and 3.
        rate: of AdamW; matrix_rate: of Muon (`optimizer.py`).
        joint_share: of both rates in stage 3; at the full rate answers wreck the tower.
        save_every: steps between saved states; watch_every: between looks at the watched pictures.
    """

    heads_steps: int = 0
    tower_steps: int = 1400
    decoder_steps: int = 1700
    joint_steps: int = 0
    tower_batch: int = 16
    decoder_batch: int = 8
    rate: float = 1.0e-3
    matrix_rate: float = 3.0e-3
    joint_share: float = 0.1
    save_every: int = 25
    watch_every: int = 100
    seed: int = 0


def going_on(*, seed: int) -> Recipe:
    """For a model that was trained before: new heads first, then at half the rate, so that what
    it knows is not shaken out of it."""
    return Recipe(
        heads_steps=40,
        tower_steps=400,
        decoder_steps=800,
        tower_batch=8,
        decoder_batch=4,
        rate=7e-4,
        matrix_rate=1.5e-3,
        seed=seed,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage of the recipe.

    Attributes:
        step: loss of one batch and what to report of it, some way (0 to 1) through the stage.
    """

    name: str
    steps: int
    batch: int
    rate: float
    matrix_rate: float
    parameters: Sequence[tuple[str, nn.Parameter]]
    step: Step


def train(
    trainee: Trainee,
    shards: Mapping[Size, Shard],
    watched: Mapping[Size, Shard],
    packer: QuestionPacker,
    directory: Path,
    recipe: Recipe,
    report: Report,
) -> None:
    """Run what is left of the stages; `report` hears of every 20th step.

    States are saved in `directory`, one file a stage. Weights are reproduced by a run that is not
    interrupted; one that is draws other batches after it goes on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    model = trainee.model
    decoder = [(n, p) for n, p in trainee.named_parameters() if ".language_model." in n]
    tower = [(n, p) for n, p in trainee.named_parameters() if ".language_model." not in n]
    heads = [(n, p) for n, p in tower if ".visual." not in n]

    def on_dense_targets(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        return dense_loss(trainee, *encode(model.visual, pictures), pictures)

    def on_rows_as_they_are(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        with torch.no_grad():
            image, taps = encode(model.visual, pictures)
        return dense_loss(trainee, image, taps, pictures)

    def on_answers(
        pictures: Pictures,
        rng: np.random.Generator,
        progress: float,
        image: Tensor,
        taps: Tensor,
    ) -> Loss:
        lesson = draw_lesson(rng, progress=progress)
        asked = [draw_questions(objects, lesson, rng) for objects in pictures.objects]
        whole = [[rng.uniform() < WHOLE_ANSWERS for _ in lesson] for _ in asked]
        batch = packer.pack(pictures, asked, whole=whole)
        answered, looking, found = answer_loss(model, batch, image, taps)
        return answered + 0.3 * looking, found

    def on_frozen_tower(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        with torch.no_grad():
            image, taps = encode(model.visual, pictures)
        return on_answers(pictures, rng, progress, image, taps)

    def on_both(pictures: Pictures, rng: np.random.Generator, progress: float) -> Loss:
        image, taps = encode(model.visual, pictures)
        seen, found_dense = dense_loss(trainee, image, taps, pictures)
        answered, found = on_answers(pictures, rng, 1.0, image, taps)
        return answered + 0.4 * seen, {**found_dense, **found}

    stages = (
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
        ),
        Stage(
            name="joint",
            steps=recipe.joint_steps,
            batch=recipe.decoder_batch,
            rate=recipe.rate * recipe.joint_share,
            matrix_rate=recipe.matrix_rate * recipe.joint_share,
            parameters=[*tower, *decoder],
            step=on_both,
        ),
    )
    for stage in stages:
        _run(stage, trainee, shards, watched, directory, recipe, report)


def _run(
    stage: Stage,
    trainee: Trainee,
    shards: Mapping[Size, Shard],
    watched: Mapping[Size, Shard],
    directory: Path,
    recipe: Recipe,
    report: Report,
) -> None:
    """Run a stage from its last saved state, or from the weights as they are."""
    optimizer, parameters = MatricesAndRest(stage.parameters), [p for _, p in stage.parameters]
    step, file = 0, directory / f"{stage.name}.pt"
    if file.exists():
        state = torch.load(file, weights_only=True)
        _check_is_of_this_run(file, state["run"], _run_of(stage, recipe, shards))
        trainee.load_state_dict({**trainee.state_dict(), **state["parameters"]})
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]
    rng = np.random.default_rng([recipe.seed, *stage.name.encode(), step])
    sizes = {size: len(shard.images) for size, shard in shards.items()}
    started, first = time.monotonic(), step
    for size, indices in batches_of_indices(sizes, batch=stage.batch, rng=rng):
        if step >= stage.steps:
            break
        mirrored = rng.uniform(size=len(indices)) < 0.5
        pictures = pictures_from_shard(shards[size], indices, mirrored, jitter=rng)
        loss, found = stage.step(pictures, rng, step / stage.steps)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        share = _schedule(step, stage.steps)
        optimizer.step(matrix_rate=share * stage.matrix_rate, rate=share * stage.rate)
        step += 1
        if step % 20 == 0:
            seconds_left = (stage.steps - step) * (time.monotonic() - started) / (step - first)
            report(
                {
                    "stage": stage.name,
                    "step": step,
                    "loss": loss.item(),
                    **found,
                    "minutes_left": seconds_left / 60,
                }
            )
        if step % recipe.watch_every == 0 or step == stage.steps:
            report({"stage": stage.name, "step": step, **_watched(stage, watched)})
        if step % recipe.save_every == 0 or step == stage.steps:
            _save(
                file,
                {
                    "run": _run_of(stage, recipe, shards),
                    "parameters": {name: p.detach() for name, p in stage.parameters},
                    "optimizer": optimizer.state_dict(),
                    "step": step,
                },
            )


def _watched(stage: Stage, watched: Mapping[Size, Shard]) -> dict[str, float]:
    """What the stage reports, averaged over two batches of each size that it never
    learns from."""
    sums: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for shard in watched.values():
            for indices in np.arange(min(32, len(shard.images) // 2 * 2)).reshape(2, -1):
                straight = np.zeros(len(indices), bool)
                pictures = pictures_from_shard(shard, indices, straight, jitter=None)
                for name, value in stage.step(pictures, rng, 0.0)[1].items():
                    sums.setdefault(f"watched_{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def _schedule(step: int, steps: int) -> float:
    """Share of the full rate: 50 steps up, then all of it, in the last third down to a twentieth.

    A cosine would depend on the end from the first step on; this one lets a run be lengthened.
    """
    left = (steps - step) / (steps / 3)
    return min((step + 1) / 50, 1.0, 0.05 + 0.95 * left)


def _run_of(stage: Stage, recipe: Recipe, shards: Mapping[Size, Shard]) -> dict[str, float]:
    """What a state depends on, so that none is taken up by another run."""
    return {
        "seed": recipe.seed,
        "scenes": sum(len(shard.images) for shard in shards.values()),
        "batch": stage.batch,
        "rate": stage.rate,
        "matrix_rate": stage.matrix_rate,
    }


def _check_is_of_this_run(
    file: Path, saved: Mapping[str, float], wanted: Mapping[str, float]
) -> None:
    for name, value in wanted.items():
        if saved.get(name) != value:
            raise ConfigError(
                f"{file} is of a run with {name} {saved.get(name)}, this one has {value}; give "
                "another --work directory, or remove the file to begin the stage anew"
            )


def _save(file: Path, state: Mapping[str, object]) -> None:
    temporary = file.with_suffix(".tmp")
    torch.save(dict(state), temporary)
    os.replace(temporary, file)
