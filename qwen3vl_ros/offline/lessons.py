# SPDX-License-Identifier: Apache-2.0
"""What is asked about the pictures of a batch, in which share, and when.

Knows questions, no tokens; `packing.py` makes sequences of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from ..scene.detections import Task, TextLevel
from ..synthetic.known_objects import KnownObject
from ..synthetic.phrases import relation_phrases, superlative_phrases
from ..synthetic.questions import (
    ROOM_NAMES,
    Question,
    question_about,
    question_about_absent,
    question_about_any_group,
    question_about_phrase,
    question_about_several,
    question_about_words,
)
from ..synthetic.small_talk import question_in_words

ARTICLE = 0.4  # of the descriptions begin with "the"
NOTHING_WRITTEN = 0.25  # of the pictures without a word are asked for words all the same


class Asked(Enum):
    """What a question of a lesson is about."""

    ABSENT = "something that is not there"
    ONE = "one thing, by its name"
    PHRASE = "one thing, by a superlative or a relation"
    GROUP = "all of a kind"
    SEVERAL = "several categories"
    WORDS = "what is answered in words, or what is written"


# What is asked about every picture of a batch. All pictures are asked alike, so that their
# sequences are as long. Each lesson stands with its share of the batches before and after `LATER`.
Lesson = tuple[tuple[Task, Asked], ...]
LESSONS: tuple[tuple[Lesson, tuple[float, float]], ...] = (
    (
        (
            (Task.REFER, Asked.ONE),
            (Task.DETECT, Asked.ONE),
            (Task.REFER, Asked.PHRASE),
            (Task.REFER, Asked.PHRASE),
            (Task.REFER, Asked.ABSENT),
        ),
        (0.45, 0.30),
    ),
    (
        (
            (Task.POINT, Asked.ONE),
            (Task.COUNT, Asked.GROUP),
            (Task.DETECT, Asked.SEVERAL),
            (Task.ASK, Asked.WORDS),
            (Task.DETECT, Asked.ABSENT),
        ),
        (0.25, 0.25),
    ),
    (
        (
            (Task.DETECT_3D, Asked.ONE),
            (Task.DETECT_3D, Asked.ONE),
            (Task.DETECT_3D, Asked.ABSENT),
        ),
        (0.15, 0.30),
    ),
    (
        (
            (Task.SPOT_TEXT, Asked.WORDS),
            (Task.POINT, Asked.PHRASE),
            (Task.REFER, Asked.GROUP),
            (Task.ASK, Asked.WORDS),
            (Task.ASK, Asked.WORDS),
            (Task.COUNT, Asked.ABSENT),
        ),
        (0.15, 0.15),
    ),
)
LATER = (
    0.37  # of a stage; finding things in the picture is learned first, placing them builds on it
)
# The closing words of an answer are learned early and cost as much as digits: most answers to one
# object end with their numbers.
WHOLE_ANSWERS = 0.25


def draw_lesson(rng: np.random.Generator, *, progress: float) -> Lesson:
    """What to ask about the pictures of one batch, `progress` (0 to 1) through the stage."""
    shares = [shares[progress >= LATER] for _, shares in LESSONS]
    return LESSONS[rng.choice(len(LESSONS), p=shares)][0]


def draw_questions(
    objects: Sequence[KnownObject], lesson: Lesson, rng: np.random.Generator
) -> list[Question]:
    """The lesson's questions about one picture; no object twice in the same words.

    Where nothing is left to ask about, something absent is asked for.
    """
    askable = [
        i
        for i, known in enumerate(objects)
        if known.askable and sum(known.name == other.name for other in objects) == 1
    ]
    left = {task: list(rng.permutation(askable)) for task, _ in lesson}
    phrases = [*superlative_phrases(objects), *relation_phrases(objects)]
    # No kind of phrase shall drown the others by its number.
    phrases = [phrases[i] for i in rng.permutation(len(phrases))]
    questions = []
    for task, asked in lesson:
        question: Question | None = None
        if asked is Asked.SEVERAL:
            question = question_about_several(objects, rng, names=ROOM_NAMES)
        elif asked is Asked.GROUP:
            question = question_about_any_group(objects, rng, task)
        elif task is Task.SPOT_TEXT:
            if any(known.word for known in objects) or rng.uniform() < NOTHING_WRITTEN:
                question = question_about_words(objects, list(TextLevel)[rng.integers(2)])
            elif phrases:
                question = question_about_phrase(objects, phrases.pop(), Task.REFER)
        elif asked is Asked.WORDS:
            question = question_in_words(objects, rng)
        elif asked is Asked.PHRASE and phrases:
            article = "the " if rng.uniform() < ARTICLE else ""
            question = question_about_phrase(objects, phrases.pop(), task, article=article)
        elif asked in (Asked.ONE, Asked.PHRASE) and left[task]:
            question = question_about(objects, int(left[task].pop()), task)
        if question is None:
            task = Task.REFER if task in (Task.ASK, Task.SPOT_TEXT) else task
            question = question_about_absent(objects, task, rng, names=ROOM_NAMES)
        questions.append(question)
    return questions
