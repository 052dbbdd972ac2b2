# SPDX-License-Identifier: Apache-2.0
"""Words for things: groups ("red box", "box"), superlatives ("nearest box"), relations ("ball left
of the red box"), given only where a person would not hesitate.

Knows known objects, no questions. Left and right are the picture's, near and far the camera's,
large and small those of the box around a thing in the world, in all three directions.

An object that peeps out just a little cannot be asked about, but it is there: whoever says "the
nearest box" counts it too, so a group that holds one has no superlative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .known_objects import KnownObject

ANYTHING = "object"
SUPERLATIVES = ("leftmost", "rightmost", "nearest", "farthest", "largest", "smallest")
RELATIONS = ("left of", "right of", "in front of", "behind", "next to")
MARGIN_U = 70.0  # of 1000, by which things must be apart to be left or right
MARGIN_M = 0.10  # by which one must be nearer
MARGIN_VOLUME = 2.0  # times as large: a quarter more in every direction
MARGIN_BESIDE = 1.5  # times as far away must be whatever else could be next to something

# How a superlative is measured (the least is meant), and how two values must lie apart.
_MEASURES: dict[str, tuple[Callable[[KnownObject], float], float]] = {
    "leftmost": (lambda known: known.center_u, MARGIN_U),
    "rightmost": (lambda known: -known.center_u, MARGIN_U),
    "nearest": (lambda known: known.distance_m, MARGIN_M),
    "farthest": (lambda known: -known.distance_m, MARGIN_M),
    "largest": (lambda known: -float(np.log(known.volume_m3)), float(np.log(MARGIN_VOLUME))),
    "smallest": (lambda known: float(np.log(known.volume_m3)), float(np.log(MARGIN_VOLUME))),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Phrase:
    """Words that mean exactly one object.

    Attributes:
        text: all of them: "ball left of the red box".
        head: those that say what kind of thing it is: "ball"; an answer's label.
        index: the object.
    """

    text: str
    head: str
    index: int


def members(objects: Sequence[KnownObject], words: str) -> list[int]:
    """Indices of the objects that a group's words fit: "red box", "box", "red object", "object".

    >>> red = KnownObject(name="red box", xyxy_norm1000=np.ones(4), bbox_3d=np.ones(9))
    >>> [members([red], words) for words in ("red box", "box", "red object", "ball")]
    [[0], [0], [0], []]
    """
    *color, shape = words.split()
    return [
        i
        for i, known in enumerate(objects)
        if shape in (known.shape, ANYTHING) and (not color or color[0] == known.color)
    ]


def groups(known: KnownObject) -> tuple[str, ...]:
    """Words of the groups an object is of, the narrowest first."""
    return (known.name, known.shape, f"{known.color} {ANYTHING}", ANYTHING)


def is_clear(objects: Sequence[KnownObject], group: Sequence[int]) -> bool:
    """Whether every one of a group shows enough of itself to be counted."""
    return all(objects[i].askable for i in group)


def superlative_of(
    objects: Sequence[KnownObject], group: Sequence[int], superlative: str
) -> int | None:
    """The one of a group that is the most so by the margin; None when nobody could say."""
    if len(group) < 2 or not is_clear(objects, group):
        return None
    measure, margin = _MEASURES[superlative]
    first, second = sorted(group, key=lambda i: measure(objects[i]))[:2]
    return first if measure(objects[second]) - measure(objects[first]) >= margin else None


def superlative_phrases(objects: Sequence[KnownObject]) -> Iterator[Phrase]:
    """Every superlative that holds: "largest object", "nearest box", "leftmost red ball"."""
    for words in {words: None for known in objects for words in groups(known)}:
        group = members(objects, words)
        for superlative in SUPERLATIVES:
            index = superlative_of(objects, group, superlative)
            if index is not None:
                yield Phrase(text=f"{superlative} {words}", head=words, index=index)


@dataclass(frozen=True, kw_only=True, slots=True)
class Relation:
    """One of a group, picked by how it stands to an anchor.

    Attributes:
        words: of the group: "ball".
        group: indices of its members.
        relation: one of `RELATIONS`.
        anchor: index of the object with a name of its own that the group is held against.
        index: the member for which the relation holds, and for no other.
    """

    words: str
    group: tuple[int, ...]
    relation: str
    anchor: int
    index: int


def relations_that_hold(objects: Sequence[KnownObject]) -> Iterator[Relation]:
    """Every relation to a thing with a name of its own that picks one of two or more."""
    for words in {words: None for known in objects for words in groups(known)[:2]}:
        group = members(objects, words)
        if len(group) < 2 or not is_clear(objects, group):
            continue
        for anchor, known in enumerate(objects):
            alone = known.askable and len(members(objects, known.name)) == 1
            if not alone or anchor in group:
                continue
            for relation in RELATIONS:
                index = _related(objects, group, relation, known)
                if index is not None:
                    yield Relation(
                        words=words,
                        group=tuple(group),
                        relation=relation,
                        anchor=anchor,
                        index=index,
                    )


def relation_phrases(objects: Sequence[KnownObject]) -> Iterator[Phrase]:
    """Every relation that holds, in words: "ball left of the red box"."""
    for found in relations_that_hold(objects):
        text = f"{found.words} {found.relation} the {objects[found.anchor].name}"
        yield Phrase(text=text, head=found.words, index=found.index)


def _related(
    objects: Sequence[KnownObject], group: Sequence[int], relation: str, anchor: KnownObject
) -> int | None:
    """The one of a group for which a relation holds by the margin, if it clearly fails for all
    others."""
    if relation == "next to":
        away = sorted(
            (float(np.linalg.norm(objects[i].bbox_3d[:3] - anchor.bbox_3d[:3])), i) for i in group
        )
        return away[0][1] if away[1][0] >= MARGIN_BESIDE * away[0][0] else None
    if relation in ("left of", "right of"):
        values, margin = [(objects[i].center_u - anchor.center_u, i) for i in group], MARGIN_U
    else:
        values, margin = [(objects[i].distance_m - anchor.distance_m, i) for i in group], MARGIN_M
    if relation in ("left of", "in front of"):
        values = [(-value, i) for value, i in values]
    holds = [i for value, i in values if value >= margin]
    fails = [i for value, i in values if value <= 0]
    return holds[0] if len(holds) == 1 and len(fails) == len(group) - 1 else None
