# SPDX-License-Identifier: Apache-2.0
"""Questions about a rendered scene and their true answers, in Qwen3-VL's own words.

Knows what is in a picture, not how it was drawn. The prompt of a question comes from
`language/prompt.py`; answers are written in the model's native JSON: fenced, one object a line,
a tab before it. 3D numbers carry two decimals always, so that every number has its tokens in the
same places (released models drop trailing zeros; the parser reads both).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..scene.detections import Query, Task
from .scenes import COLORS, SHAPES

NAMES = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownObject:
    """An object of which everything is known.

    Attributes:
        name: "red box".
        xyxy_norm1000: (4,) around its visible part.
        bbox_3d: (9,) Qwen3-VL's numbers.
        askable: shows enough of itself to be asked about.
    """

    name: str
    xyxy_norm1000: npt.NDArray[np.floating]
    bbox_3d: npt.NDArray[np.floating]
    askable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A query and its true answer.

    Attributes:
        query: what is asked.
        lines: one per object answered, without the list around them.
        targets: index of the object each line is about.
    """

    query: Query
    lines: tuple[str, ...]
    targets: tuple[int, ...]

    @property
    def answer(self) -> str:
        """The whole answer text."""
        return answer_text(self.lines)


def answer_text(lines: Sequence[str]) -> str:
    """The native wrapper around answer lines; `[]` when nothing is there."""
    if not lines:
        return "```json\n[]\n```"
    return "```json\n[\n\t" + ",\n\t".join(lines) + "\n]\n```"


def box_line(known: KnownObject) -> str:
    """One object as a 2D box: integers, 0 to 1000 of each side."""
    x1, y1, x2, y2 = np.clip(np.rint(known.xyxy_norm1000), 0, 1000).astype(int)
    return f'{{"bbox_2d": [{x1}, {y1}, {x2}, {y2}], "label": "{known.name}"}}'


def point_line(known: KnownObject) -> str:
    """One object as the middle of its visible box."""
    x1, y1, x2, y2 = known.xyxy_norm1000
    u, v = np.clip(np.rint([(x1 + x2) / 2, (y1 + y2) / 2]), 0, 1000).astype(int)
    return f'{{"point_2d": [{u}, {v}], "label": "{known.name}"}}'


def box_3d_line(known: KnownObject) -> str:
    """One object as a 3D box in the camera optical frame."""
    # Adding 0.0 turns a rounded -0.0 into 0.0, which would be written with a sign.
    numbers = ", ".join(f"{round(float(value), 2) + 0.0:.2f}" for value in known.bbox_3d)
    return f'{{"bbox_3d": [{numbers}], "label": "{known.name}"}}'


LINE_OF_TASK = {
    Task.DETECT: box_line,
    Task.REFER: box_line,
    Task.POINT: point_line,
    Task.DETECT_3D: box_3d_line,
}


def question_about(objects: Sequence[KnownObject], index: int, task: Task) -> Question:
    """The question that asks for one object by its name."""
    name = objects[index].name
    query = (
        Query(task=task, categories=(name,))
        if task is Task.DETECT
        else Query(task=task, text=name)
    )
    return Question(query=query, lines=(LINE_OF_TASK[task](objects[index]),), targets=(index,))


def question_about_absent(
    objects: Sequence[KnownObject], task: Task, rng: np.random.Generator
) -> Question:
    """The question that asks for something that is not there."""
    present = {known.name for known in objects}
    absent = [name for name in NAMES if name not in present]
    name = absent[rng.integers(len(absent))]
    query = (
        Query(task=task, categories=(name,))
        if task is Task.DETECT
        else Query(task=task, text=name)
    )
    return Question(query=query, lines=(), targets=())


def question_about_several(objects: Sequence[KnownObject], rng: np.random.Generator) -> Question:
    """A DETECT question with two or three categories, at most one of them absent.

    Answered in the order in which the categories were named.
    """
    askable = [i for i, known in enumerate(objects) if known.askable]
    chosen = list(rng.permutation(askable)[: rng.integers(1, 4)])
    names = [objects[i].name for i in chosen]
    if len(chosen) < 2 or rng.uniform() < 0.3:
        absent = question_about_absent(objects, Task.DETECT, rng).query.categories[0]
        names.insert(int(rng.integers(len(names) + 1)), absent)
    return Question(
        query=Query(task=Task.DETECT, categories=tuple(names)),
        lines=tuple(box_line(objects[i]) for i in chosen),
        targets=tuple(int(i) for i in chosen),
    )


def corpus() -> Iterator[str]:
    """Texts with every word, digit and mark that questions and answers can hold."""
    for name in NAMES:
        known = KnownObject(name=name, xyxy_norm1000=np.arange(4.0), bbox_3d=np.zeros(9))
        for line in LINE_OF_TASK.values():
            yield answer_text([line(known), line(known)])
    for number in range(1001):
        known = KnownObject(
            name="box", xyxy_norm1000=np.full(4, float(number)), bbox_3d=np.full(9, -number / 100)
        )
        yield answer_text([box_line(known), box_3d_line(known)])
    yield answer_text([])
