# SPDX-License-Identifier: Apache-2.0
"""Questions about one picture that are answered in a word or three: where, which, how many.

Knows known objects and groups of them. Nothing is asked that a person would have to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ..scene.detections import Query, Task
from .known_objects import KnownObject
from .phrases import ANYTHING, SUPERLATIVES, is_clear, members, superlative_of
from .questions import ROOM_NAMES, Question, askable_groups, plural

NUMBERS = ("None", "One", "Two", "Three", "Four", "Five", "Six")
# Thirds of the picture, with a gap between them in which nobody is asked.
THIRDS = (("On the left.", 0, 300), ("In the middle.", 370, 630), ("On the right.", 700, 1000))

Candidates = Callable[[Sequence[KnownObject], np.random.Generator], Iterator[Question]]


def question_in_words(objects: Sequence[KnownObject], rng: np.random.Generator) -> Question | None:
    """A question of a random kind; None where nothing can be asked."""
    for number in rng.permutation(len(KINDS)):
        found = list(KINDS[int(number)](objects, rng))
        if found:
            return found[rng.integers(len(found))]
    return None


def _asked(text: str, named: str, words: str, *targets: int) -> Question:
    return Question(
        query=Query(task=Task.ASK, text=text), words=words, targets=targets, named=(named,)
    )


def where(objects: Sequence[KnownObject], rng: np.random.Generator) -> Iterator[Question]:
    """ "Where is the red box?" "On the left." """
    for index, known in enumerate(objects):
        if not known.askable or len(members(objects, known.name)) > 1:
            continue
        for words, low, high in THIRDS:
            if low <= known.center_u <= high:
                yield _asked(f"Where is the {known.name}?", known.name, words, index)


def what_color(objects: Sequence[KnownObject], rng: np.random.Generator) -> Iterator[Question]:
    """ "What color is the box?" "Red." """
    for index, known in enumerate(objects):
        if known.askable and len(members(objects, known.shape)) == 1:
            text = f"What color is the {known.shape}?"
            yield _asked(text, known.shape, f"{known.color.capitalize()}.", index)


def which(objects: Sequence[KnownObject], rng: np.random.Generator) -> Iterator[Question]:
    """ "Which object is the nearest?" "The red box." """
    everything = list(range(len(objects)))
    for superlative in SUPERLATIVES:
        index = superlative_of(objects, everything, superlative)
        if index is not None:
            text, words = f"Which object is the {superlative}?", f"The {objects[index].name}."
            yield _asked(text, superlative, words, index)


def how_many(objects: Sequence[KnownObject], rng: np.random.Generator) -> Iterator[Question]:
    """ "How many boxes are there?" "Two." """
    words = askable_groups(objects)
    shapes = sorted({name.split()[-1] for name in ROOM_NAMES})
    words.append(shapes[rng.integers(len(shapes))])
    for some in words:
        group = members(objects, some)
        if is_clear(objects, group) and len(group) < len(NUMBERS):
            many = plural(some)
            yield _asked(f"How many {many} are there?", many, f"{NUMBERS[len(group)]}.", *group)


def is_there(objects: Sequence[KnownObject], rng: np.random.Generator) -> Iterator[Question]:
    """ "Is there a red box?" "Yes." """
    names = [known.name for known in objects if known.askable]
    absent = [name for name in ROOM_NAMES if not members(objects, name)]
    for name in [*names[:2], *(absent[rng.integers(len(absent))] for _ in range(2))]:
        article = "an" if name[0] in "aeiou" else "a"
        group = members(objects, name)
        yield _asked(f"Is there {article} {name}?", name, "Yes." if group else "No.", *group)


def what_is_written(
    objects: Sequence[KnownObject], rng: np.random.Generator
) -> Iterator[Question]:
    """ "What is written on the red box?" "TEA." """
    for index, known in enumerate(objects):
        if known.word and len(members(objects, known.name)) == 1:
            text = f"What is written on the {known.name}?"
            yield _asked(text, known.name, f"{known.word}.", index)


KINDS: tuple[Candidates, ...] = (where, what_color, which, how_many, is_there, what_is_written)


def sentences() -> Iterator[str]:
    """Every wording of questions and answers, for the vocabulary."""
    yield from (f"{number}." for number in NUMBERS)
    yield from (words for words, _, _ in THIRDS)
    yield from (f"Which object is the {superlative}?" for superlative in SUPERLATIVES)
    yield from ("Yes.", "No.", f"How many {plural(ANYTHING)} are there?")
    for name in ROOM_NAMES:
        color, shape = name.split()
        yield f"Where is the {name}? Is there a {name}? Is there an {name}?"
        yield f"What color is the {shape}? What is written on the {name}?"
        yield f"How many {plural(name)} are there? How many {color} objects are there?"
        yield f"{color.capitalize()}."
        yield f"The {name}."
