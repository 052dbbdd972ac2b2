# SPDX-License-Identifier: Apache-2.0
"""How well a stage does on pictures that nobody learns from, while it trains.

Two ways: what a step reports of them (losses with the truth at hand), and what counts, boxes that
the model itself wrote, token by token, of things asked for by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from ..errors import AnswerError
from ..language.chat import Chat, Message, Role
from ..language.chat_template import ChatStyle, prompt_from_chat
from ..language.parsing import parse_answer
from ..language.prompt import prompt_text
from ..language.tokenizer import Tokenizer
from ..scene.detections import Query, Task
from ..scene.geometry import overlap_of_boxes
from ..synthetic.shards import Shard
from .pictures import pictures_from_shard
from .reference_generation import generate_greedy
from .reference_model import ReferenceModel
from .stages import Stage

Size = tuple[int, int]
MOST_PICTURES = 32  # of each size, in two batches
ASKED_PICTURES = 6  # of each size, about one thing each
MAX_NEW_TOKENS = 60


def watched_reports(stage: Stage, watched: Mapping[Size, Shard]) -> dict[str, float]:
    """What the stage reports, averaged over two batches of each size."""
    sums: dict[str, list[float]] = {}
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for shard in watched.values():
            halves = np.array_split(np.arange(min(MOST_PICTURES, len(shard.images))), 2)
            for indices in (half for half in halves if len(half)):
                straight = np.zeros(len(indices), bool)
                pictures = pictures_from_shard(shard, indices, straight, jitter=None)
                for name, value in stage.step(pictures, rng, 0.0)[1].items():
                    sums.setdefault(f"watched_{name}", []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}


def watched_answers(
    model: ReferenceModel, tokenizer: Tokenizer, watched: Mapping[Size, Shard]
) -> dict[str, float]:
    """Mean IoU of boxes written greedily, and the share that could be read."""
    overlaps, readable = [], 0
    for shard in watched.values():
        for index in range(min(ASKED_PICTURES, len(shard.images))):
            pictures = pictures_from_shard(
                shard, np.array([index]), np.array([False]), jitter=None
            )
            names = [known.name for known in pictures.objects[0]]
            asked = [
                known
                for known in pictures.objects[0]
                if known.askable and names.count(known.name) == 1
            ]
            if not asked:
                continue
            query = Query(task=Task.REFER, text=asked[0].name)
            parts = (*pictures.shown.visuals, prompt_text(query))
            chat = Chat(messages=(Message(role=Role.USER, parts=parts),))
            prompt = prompt_from_chat(chat, ChatStyle.INSTRUCT, tokenizer, model.config)
            said = generate_greedy(
                model,
                prompt.input_ids,
                pictures.shown.pixel_values[0].numpy(),
                pictures.shown.grid_thw,
                max_new_tokens=MAX_NEW_TOKENS,
                stop_ids=frozenset(tokenizer.eos_token_ids),
            )
            overlaps.append(0.0)
            try:
                answer = parse_answer(
                    tokenizer.decode(said), task=Task.REFER, width=1000, height=1000, max_objects=3
                )
            except AnswerError:
                continue
            readable += 1
            if answer.objects:
                found = answer.objects[0].xyxy_px
                assert found is not None, "as REFER's answers have"
                overlaps[-1] = overlap_of_boxes(found, asked[0].xyxy_norm1000.astype(np.float64))
    return {
        "watched_answer_iou": float(np.mean(overlaps)) if overlaps else 0.0,
        "watched_answers_readable": readable / max(len(overlaps), 1),
    }
