# SPDX-License-Identifier: Apache-2.0
"""The tiny checkpoint from nothing: scenes, tokenizer, recipe, directory.

Knows where things lie; the recipe is `training.py`'s. Everything can be interrupted: rendered
scenes and training states stay in the work directory and are taken up again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from tqdm import tqdm

from ..image.preprocess import preprocess_config_from_dict
from ..language.tokenizer import load_tokenizer
from ..synthetic.dataset import WATCHED_SEED, cache_scenes, read_shards
from ..synthetic.questions import corpus
from .checkpoint import write_checkpoint
from .lessons import QuestionPacker
from .losses import Trainee, init_trainee
from .reference_model import ReferenceModel
from .tiny import tiny_config
from .tiny_tokenizer import PREPROCESSOR, write_tiny_tokenizer
from .training import Recipe, train

WATCHED_SCENES = 300  # never learned from; their loss is reported while training


def train_tiny_checkpoint(
    output: Path,
    *,
    work: Path,
    scenes: int,
    seed: int,
    threads: int,
    recipe: Recipe | None = None,
) -> None:
    """Train and write a checkpoint directory to `output`.

    Args:
        work: holds `scenes/`, `watched/`, `train/` and the log, `train/log.jsonl`.
        scenes: to render and learn from.
        seed: of the first weights and of every draw; scenes have seeds of their own.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    recipe = recipe or Recipe(seed=seed)
    preprocess = preprocess_config_from_dict(PREPROCESSOR)
    for name, count, first in (
        ("scenes", scenes, 0),
        ("watched", WATCHED_SCENES, WATCHED_SEED),
    ):
        with tqdm(total=count, desc=f"render {name}", unit="scene", disable=None) as bar:
            for done in cache_scenes(
                work / name, count=count, config=preprocess, first_seed=first, processes=threads
            ):
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
        )
    output.mkdir(parents=True, exist_ok=True)
    for file in (states / "tokenizer").iterdir():
        shutil.copyfile(file, output / file.name)
    # float16 keeps three more bits of these weights than bfloat16, at the same size.
    write_checkpoint(model, output, dtype=torch.float16)


def _rounded(found: Mapping[str, object]) -> dict[str, object]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}
