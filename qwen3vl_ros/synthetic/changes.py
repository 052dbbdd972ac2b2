# SPDX-License-Identifier: Apache-2.0
"""Questions about what changes: what moved between two pictures, and when in a clip.

Knows what is known of the objects before and after, no renderer. Left and right are the picture's.
Objects stand in one order in all that is known here; None where one is out of sight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..scene.detections import Query, Task
from .known_objects import KnownObject
from .motion import MovingRoom
from .phrases import MARGIN_M, MARGIN_U
from .questions import ROOM_NAMES, Question

WHAT_MOVED = "What moved from Picture 1 to Picture 2?"
NOTHING = "Nothing moved."
DIRECTIONS = ("to the left", "to the right", "nearer", "farther away")

Known = Sequence[KnownObject | None]


def question_what_moved(before: Known, after: Known, moved: int | None) -> Question | None:
    """ "What moved from Picture 1 to Picture 2?" "The red ball moved to the left."

    None where a person could not say: the object is out of sight, has a twin, or moved in no
    direction that has a name.

    Args:
        before, after: of the two pictures.
        moved: index of the object that moved; None where none did.
    """
    query = Query(task=Task.COMPARE, text=WHAT_MOVED)
    if moved is None:
        return Question(query=query, words=NOTHING, named=("moved",))
    first, second = before[moved], after[moved]
    twins = [one for one in before if one is not None and first and one.name == first.name]
    if first is None or second is None or not (first.askable and second.askable):
        return None
    direction = direction_of(first, second)
    if len(twins) > 1 or direction is None:
        return None
    words = f"The {first.name} moved {direction}."
    return Question(query=query, words=words, targets=(moved,), named=("moved",))


def direction_of(first: KnownObject, second: KnownObject) -> str | None:
    """Where something went: sideways if it did so clearly, else nearer or farther."""
    sideways = second.center_u - first.center_u
    if abs(sideways) >= MARGIN_U:
        return DIRECTIONS[0] if sideways < 0 else DIRECTIONS[1]
    away = second.distance_m - first.distance_m
    if abs(away) >= MARGIN_M:
        return DIRECTIONS[2] if away < 0 else DIRECTIONS[3]
    return None


def question_when(moving: MovingRoom, known: Known) -> Question | None:
    """ "the red ball moves" "1.0 - 2.5 seconds": when the first move of a clip happens.

    None where nothing moves, or what moves is out of sight or has a twin.

    Args:
        moving: the clip.
        known: of its first frame.
    """
    if not moving.moves:
        return None
    move = moving.moves[0]
    return question_of_move(move.index, move.start_s, move.end_s, known)


def question_of_move(index: int, start_s: float, end_s: float, known: Known) -> Question | None:
    """As `question_when`, of a move told by the solid's place in the room and its times."""
    mover = known[index]
    names = [one.name for one in known if one is not None]
    if mover is None or not mover.askable or names.count(mover.name) > 1:
        return None
    return Question(
        query=Query(task=Task.LOCATE_MOMENT, text=f"the {mover.name} moves"),
        words=f"{start_s:.1f} - {end_s:.1f} seconds",
        targets=(index,),
        named=(mover.name,),
    )


def sentences() -> Iterator[str]:
    """Every wording of questions and answers, for the vocabulary."""
    yield f"Picture 1: Picture 2: Picture 3: Video 1: {WHAT_MOVED} {NOTHING}"
    for name in ROOM_NAMES:
        yield from (f"The {name} moved {direction}." for direction in DIRECTIONS)
        yield f"the {name} moves, the {name} is moving"
    for tenths in range(0, 300, 5):
        yield f"{tenths / 10:.1f} - {tenths / 10 + 1:.1f} seconds"
        yield f"<{tenths / 10:.1f} seconds>"
