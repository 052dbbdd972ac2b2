# SPDX-License-Identifier: Apache-2.0
"""The tiny checkpoint, from nothing or from an earlier one: pictures, tokenizer, recipe, files.

Knows where things lie; the recipe is `stages.py`'s. Everything can be interrupted: rendered
pictures and training states stay in the work directory and are taken up again. A checkpoint that
was written can be trained on by somebody who has no states: its detector heads are learned anew.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ..image.preprocess import preprocess_config_from_dict
from ..language.tokenizer import load_tokenizer
from ..model.taught_tasks import TaughtTasks, write_taught_tasks
from ..scene.detections import Task
from ..synthetic.clip_shards import cache_clips, read_clips
from ..synthetic.corpus import corpus
from ..synthetic.dataset import WATCHED_SEED
from ..synthetic.shards import cache_pictures, read_shards
from .carrying_over import carry_over
from .checkpoint import write_checkpoint
from .losses import Trainee, init_trainee
from .packing import QuestionPacker
from .reference_model import ReferenceModel
from .stages import Recipe, going_on
from .tiny import tiny_config
from .tiny_tokenizer import PREPROCESSOR, write_tiny_tokenizer
from .training import train

WATCHED_SCENES = 100  # never learned from; their loss is reported while training
LABELS_NOTE = "solids by colour and shape, as in 'red box'"
TAUGHT_BY_PICTURES = (
    Task.DETECT,
    Task.REFER,
    Task.POINT,
    Task.DETECT_3D,
    Task.COUNT,
    Task.ASK,
)
NOT_LEARNED = (Task.SPOT_TEXT,)  # asked for, but no word is read yet (docs/LOG.md)
TAUGHT_BY_CLIPS = (Task.COMPARE, Task.LOCATE_MOMENT)


def train_tiny_checkpoint(
    output: Path,
    *,
    work: Path,
    scenes: int,
    clips: int,
    seed: int,
    threads: int,
    recipe: Recipe | None = None,
    source: Path | None = None,
) -> None:
    """Train and write a checkpoint directory to `output`.

    Args:
        work: holds `scenes/`, `watched/`, `clips/`, `train/` and the log, `train/log.jsonl`.
        scenes: pictures to render and learn from.
        clips: of moving things, likewise; 0 for none.
        seed: of the first weights and of every draw; scenes have seeds of their own.
        recipe: how long and how hard; None takes that of `recipe_for`.
        source: checkpoint directory to go on from; None begins with random weights.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    recipe = recipe or recipe_for(source, seed=seed, lengths={})
    preprocess = preprocess_config_from_dict(PREPROCESSOR)
    for name, count, first in (
        ("scenes", scenes, 0),
        ("watched", WATCHED_SCENES, WATCHED_SEED),
    ):
        with tqdm(total=count, desc=f"render {name}", unit="scene", disable=None) as bar:
            for done in cache_pictures(
                work / name, count=count, config=preprocess, first_seed=first, processes=threads
            ):
                bar.update(done - bar.n)

    with tqdm(total=clips, desc="render clips", unit="clip", disable=None) as bar:
        for done in cache_clips(work / "clips", count=clips, config=preprocess, processes=threads):
            bar.update(done - bar.n)

    states = work / "train"
    written = write_tiny_tokenizer(corpus(), states / "tokenizer")
    tokenizer = load_tokenizer(states / "tokenizer")
    model = ReferenceModel(
        tiny_config(
            vocab_size=written.vocab_size,
            image_token_id=written.image_token_id,
            video_token_id=written.video_token_id,
            vision_start_token_id=written.vision_start_token_id,
            vision_end_token_id=written.vision_end_token_id,
        )
    )
    trainee = Trainee(model)
    init_trainee(trainee, seed=seed)
    if source is not None:
        new = carry_over(source, model, states / "tokenizer" / "tokenizer.json")
        tqdm.write(f"weights of {source}, {new} new tokens")
    started = time.monotonic()
    with (states / "log.jsonl").open("a", encoding="utf-8") as log:

        def report(found: Mapping[str, object]) -> None:
            row = {"seconds": round(time.monotonic() - started), **_rounded(found)}
            log.write(json.dumps(row) + "\n")
            log.flush()
            tqdm.write(" ".join(f"{name}={value}" for name, value in row.items()))

        train(
            trainee,
            read_shards(work / "scenes", count=scenes),
            read_shards(work / "watched", count=WATCHED_SCENES, first_seed=WATCHED_SEED),
            QuestionPacker(tokenizer, model.config),
            states,
            recipe,
            report,
            clips=read_clips(work / "clips", count=clips),
        )
    output.mkdir(parents=True, exist_ok=True)
    for file in (states / "tokenizer").iterdir():
        shutil.copyfile(file, output / file.name)
    taught = TAUGHT_BY_PICTURES + (TAUGHT_BY_CLIPS if clips else ())
    write_taught_tasks(output, TaughtTasks(tasks=taught, labels_note=LABELS_NOTE))
    # float16 keeps three more bits of these weights than bfloat16, at the same size.
    write_checkpoint(model, output, dtype=torch.float16)


def recipe_for(source: Path | None, *, seed: int, lengths: Mapping[str, int | None]) -> Recipe:
    """The recipe for a source; `lengths` holds steps of stages that shall not be its own."""
    recipe = Recipe(seed=seed) if source is None else going_on(seed=seed)
    given = {f"{stage}_steps": steps for stage, steps in lengths.items() if steps is not None}
    return replace(recipe, **given)


def _rounded(found: Mapping[str, object]) -> dict[str, object]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
