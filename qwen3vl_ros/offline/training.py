# SPDX-License-Identifier: Apache-2.0
"""Runs the stages of a recipe (`stages.py`): steps, reports, saved states.

Every stage can be interrupted and goes on from its last saved state, which holds what the stage
itself trains, no more: a tower can be taken on with another vocabulary. The same seed, scenes and
thread count give the same weights, if the run is not interrupted. Knows shards; saves states, not
checkpoints.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..errors import ConfigError
from ..language.tokenizer import Tokenizer
from ..synthetic.clip_shards import ClipShard
from ..synthetic.shards import Shard
from .losses import Trainee
from .optimizer import MatricesAndRest
from .packing import QuestionPacker
from .pictures import batches_of_indices, pictures_from_shard
from .stages import Recipe, Stage, stages_of
from .watching import watched_answers, watched_reports

Size = tuple[int, int]
Report = Callable[[Mapping[str, object]], None]


def train(
    trainee: Trainee,
    shards: Mapping[Size, Shard],
    watched: Mapping[Size, Shard],
    packer: QuestionPacker,
    directory: Path,
    recipe: Recipe,
    report: Report,
    *,
    clips: ClipShard | None = None,
) -> None:
    """Run what is left of the stages; `report` hears of every 20th step.

    States are saved in `directory`, one file a stage. Weights are reproduced by a run that is not
    interrupted; one that is draws other batches after it goes on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for stage in stages_of(trainee, packer, recipe, clips):
        _run(stage, trainee, packer.tokenizer, shards, watched, directory, recipe, report)


def _run(
    stage: Stage,
    trainee: Trainee,
    tokenizer: Tokenizer,
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
        if stage.moving_step is not None and rng.uniform() < recipe.moving_share:
            loss, found = stage.moving_step(rng)
        else:
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
            report({"stage": stage.name, "step": step, **watched_reports(stage, watched)})
            if stage.speaks:
                told = watched_answers(trainee.model, tokenizer, watched)
                report({"stage": stage.name, "step": step, **told})
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
