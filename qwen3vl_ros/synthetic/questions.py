# SPDX-License-Identifier: Apache-2.0
"""Questions about one picture and their true answers, in Qwen3-VL's own words.

Knows what is in a picture, not how it was drawn. The prompt of a question comes from
`language/prompt.py`; answers are written in the model's native JSON: fenced, one object a line,
a tab before it. 3D numbers carry two decimals always, so that every number has its tokens in the
same places (released models drop trailing zeros; the parser reads both). Questions that are
answered in words are in `small_talk.py`, those about several pictures in `changes.py`.

Things of one kind are answered from left to right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..scene.detections import Query, Task, TextLevel
from . import solids
from .known_objects import KnownObject as KnownObject
from .phrases import ANYTHING, Phrase, groups, is_clear, members
from .scenes import COLORS, SHAPES

# Of the plain scenes, and of rooms.
NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)
ROOM_NAMES = tuple(f"{color} {shape}" for color in solids.COLORS for shape in solids.SHAPES)
NEARLY_THERE = 0.5  # of the absent things asked for have the colour or the shape of a present one
MOST_IN_3D = 2  # boxes of nine numbers in one answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A query and its true answer.

    Attributes:
        query: what is asked.
        lines: one per object answered, without the list around them.
        targets: index of the object each line is about; of a question that is answered in words,
            of each object that must be looked at.
        named: words of the query that name the object of each line; of a list that is empty, and
            of words, those to be read before all.
        words: the answer of a question that is answered in words; "" for a list.
    """

    query: Query
    lines: tuple[str, ...] = ()
    targets: tuple[int, ...] = ()
    named: tuple[str, ...] = ()
    words: str = ""

    @property
    def answer(self) -> str:
        """The whole answer text."""
        return self.words or answer_text(self.lines)


def answer_text(lines: Sequence[str]) -> str:
    """The native wrapper around answer lines; `[]` when nothing is there."""
    if not lines:
        return "```json\n[]\n```"
    return "```json\n[\n\t" + ",\n\t".join(lines) + "\n]\n```"


def plural(words: str) -> str:
    """Many of a kind.

    >>> plural("red box"), plural("mug")
    ('red boxes', 'mugs')
    """
    return words + ("es" if words.endswith("x") else "s")


def box_line(known: KnownObject, label: str = "") -> str:
    """One object as a 2D box: integers, 0 to 1000 of each side."""
    x1, y1, x2, y2 = _whole(known.xyxy_norm1000)
    return f'{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "{label or known.name}"}}'


def point_line(known: KnownObject, label: str = "") -> str:
    """One object as a point inside it; the middle of its box where nobody looked for one."""
    x1, y1, x2, y2 = known.xyxy_norm1000
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2])
    u, v = _whole(known.uv_norm1000 if np.isfinite(known.uv_norm1000).all() else middle)
    return f'{{"point_2d": [{u}, {v}], "label": "{label or known.name}"}}'


def box_3d_line(known: KnownObject, label: str = "") -> str:
    """One object as a 3D box in the camera optical frame."""
    # Adding 0.0 turns a rounded -0.0 into 0.0, which would be written with a sign.
    numbers = ", ".join(f"{round(float(value), 2) + 0.0:.2f}" for value in known.bbox_3d)
    return f'{{"bbox_3d": [{numbers}], "label": "{label or known.name}"}}'


def word_line(known: KnownObject) -> str:
    """The word on an object, and its box."""
    x1, y1, x2, y2 = _whole(known.word_xyxy_norm1000)
    return f'{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "text_content": "{known.word}"}}'


def _whole(norm1000: np.ndarray) -> list[int]:
    numbers: list[int] = np.clip(np.rint(norm1000), 0, 1000).astype(int).tolist()
    return numbers


LINE_OF_TASK = {
    Task.DETECT: box_line,
    Task.REFER: box_line,
    Task.POINT: point_line,
    Task.COUNT: point_line,
    Task.DETECT_3D: box_3d_line,
}


def _query(task: Task, words: str) -> Query:
    if task is Task.DETECT:
        return Query(task=task, categories=(words,))
    return Query(task=task, text=words)


def question_about(objects: Sequence[KnownObject], index: int, task: Task) -> Question:
    """The question that asks for one object by its name."""
    name = objects[index].name
    return question_about_phrase(objects, Phrase(text=name, head=name, index=index), task)


def question_about_phrase(
    objects: Sequence[KnownObject], phrase: Phrase, task: Task, *, article: str = ""
) -> Question:
    """The question that asks for one object by a phrase, with "the " before it if given."""
    return Question(
        query=_query(task, article + phrase.text),
        lines=(LINE_OF_TASK[task](objects[phrase.index], phrase.head),),
        targets=(phrase.index,),
        named=(phrase.text,),
    )


def question_about_absent(
    objects: Sequence[KnownObject],
    task: Task,
    rng: np.random.Generator,
    *,
    names: Sequence[str] = NAMES,
) -> Question:
    """The question that asks for something that is not there, often for something alike."""
    present = {known.name for known in objects}
    absent = [name for name in names if name not in present]
    words = {word for name in present for word in name.split()}
    alike = [name for name in absent if not words.isdisjoint(name.split())]
    if alike and rng.uniform() < NEARLY_THERE:
        absent = alike
    name = absent[rng.integers(len(absent))]
    return Question(query=_query(task, name), named=(name,))


def askable_groups(objects: Sequence[KnownObject]) -> list[str]:
    """Words of every group all of whose members can be asked about."""
    words = {words: None for known in objects for words in groups(known)}
    return [some for some in words if is_clear(objects, members(objects, some))]


def question_about_group(
    objects: Sequence[KnownObject], words: str, task: Task
) -> Question | None:
    """The question that asks for all of a kind; COUNT asks in the plural. None where that would
    be too long an answer."""
    group = left_to_right(objects, members(objects, words))
    if task is Task.DETECT_3D and len(group) > MOST_IN_3D:
        return None
    asked = plural(words) if task is Task.COUNT else words
    return Question(
        query=_query(task, asked),
        lines=tuple(LINE_OF_TASK[task](objects[i], words) for i in group),
        targets=tuple(group),
        named=(asked,) * max(len(group), 1),
    )


def question_about_several(
    objects: Sequence[KnownObject],
    rng: np.random.Generator,
    *,
    names: Sequence[str] = NAMES,
) -> Question:
    """A DETECT question with two or three categories, at most one of them absent.

    Categories are names, or shapes; answered in the order in which they were asked for.
    """
    by_shape = len(names) > len(NAMES) and rng.uniform() < 0.4
    kind = 1 if by_shape else 0
    kinds = {groups(known)[kind] for known in objects}
    there = [words for words in askable_groups(objects) if words in kinds]
    chosen = [there[i] for i in rng.permutation(len(there))[: rng.integers(1, 4)]]
    if len(chosen) < 2 or rng.uniform() < 0.3:
        every = sorted({name.split()[-1] for name in names}) if by_shape else names
        absent = [words for words in every if not members(objects, words)]
        if absent:
            chosen.insert(int(rng.integers(len(chosen) + 1)), absent[rng.integers(len(absent))])
    found = [
        (i, words) for words in chosen for i in left_to_right(objects, members(objects, words))
    ]
    return Question(
        query=Query(task=Task.DETECT, categories=tuple(chosen)),
        lines=tuple(box_line(objects[i], words) for i, words in found),
        targets=tuple(i for i, _ in found),
        named=tuple(words for _, words in found) or (chosen[0],),
    )


def question_about_words(objects: Sequence[KnownObject], level: TextLevel) -> Question:
    """The question for all that is written; nothing is longer than a word, so both levels are
    answered alike."""
    written = left_to_right(objects, [i for i, known in enumerate(objects) if known.word])
    return Question(
        query=Query(task=Task.SPOT_TEXT, text_level=level),
        lines=tuple(word_line(objects[i]) for i in written),
        targets=tuple(written),
        named=("text",) * max(len(written), 1),
    )


def left_to_right(objects: Sequence[KnownObject], indices: Sequence[int]) -> list[int]:
    """Indices in the order in which their objects stand in the picture."""
    return sorted(indices, key=lambda i: objects[i].center_u)


def question_about_any_group(
    objects: Sequence[KnownObject], rng: np.random.Generator, task: Task
) -> Question | None:
    """A question for all of some kind, more often for more than one; None where there is none."""
    words = [some for some in askable_groups(objects) if some != ANYTHING or len(objects) > 1]
    many = [some for some in words if len(members(objects, some)) > 1]
    words = many if many and rng.uniform() < 0.7 else words
    if not words:
        return None
    return question_about_group(objects, words[rng.integers(len(words))], task)
