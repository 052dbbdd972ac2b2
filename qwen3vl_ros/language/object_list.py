# SPDX-License-Identifier: Apache-2.0
"""A list of JSON objects in a model's words, read one by one, strictly.

Knows what all such answers share: fences and prose around, broken objects, repetition, a tail cut
off. What one object means is its reader's business. What cannot be read is dropped and said in
`notes`; when nothing can be read that is an `AnswerError`, never an empty answer. Only a list that
the model itself left empty, `[]`, is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import AnswerError
from .coordinates import DroppedError
from .json_scan import ScannedText, Value, scan_objects
from .reading import Reading, Span, answer_start, excerpt

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found(Generic[T]):
    """One object, read.

    Attributes:
        item: what it means.
        identity: equal for objects that say the same.
        mended: what had to be mended in it.
    """

    item: T
    identity: Hashable
    mended: tuple[str, ...] = ()


Entries = Mapping[str, Value]
# Entries of one object, and where the scanned part of the text begins; raises DroppedError.
ObjectReader = Callable[[Entries, int], Found[T]]
# The objects that an object stands for: itself, or several written as one.
Splitter = Callable[[Entries], Sequence[Entries]]


def read_objects(
    text: str,
    read_one: ObjectReader[T],
    *,
    expected: str,
    max_objects: int,
    thinking: bool = False,
    split: Splitter | None = None,
) -> Reading[tuple[T, ...]]:
    """Read a list of objects.

    Args:
        text: the model's words; what follows the last `</think>` counts.
        read_one: reads one of them.
        expected: what an object should hold, for the error message.
        max_objects: objects beyond this many are not read, with a note.
        thinking: whether the prompt ended with `<think>`.
        split: for formats that write several objects as one.

    Raises:
        AnswerError: no object can be read, and the answer is not an empty list.
    """
    offset = answer_start(text, thinking=thinking)
    scanned = scan_objects(text[offset:])
    if scanned.is_empty_list:
        return Reading(value=(), complete=True, notes=(), text=text)
    notes: Counter[str] = Counter()
    if scanned.malformed:
        notes["not well-formed, dropped"] = scanned.malformed
    found: list[T] = []
    number_spans: list[tuple[Span, ...]] = []
    seen: set[Hashable] = set()
    for entries in _objects(scanned, split):
        try:
            one = read_one(entries, offset)
        except DroppedError as reason:
            notes[f"{reason}, dropped"] += 1
            continue
        if one.identity in seen:
            notes["said before, dropped"] += 1
            continue
        seen.add(one.identity)
        if len(found) == max_objects:
            notes[f"beyond max_objects {max_objects}, not read"] += 1
            continue
        notes.update(one.mended)
        found.append(one.item)
        number_spans.append(tuple(_number_spans(entries, offset)))
    reasons = tuple(f"{n} object{'s' * (n > 1)}: {reason}" for reason, n in notes.items())
    if not found:
        raise AnswerError(
            f"the answer holds no object with {expected}"
            + (f" ({'; '.join(reasons)})" if reasons else "")
            + (", it was cut off" if not scanned.complete else "")
            + f"; expected a JSON list of them, or []; got {excerpt(text)}: ask again, or allow "
            "more (max_objects) if it was cut off",
            answer_text=text,
        )
    return Reading(
        value=tuple(found),
        complete=scanned.complete,
        notes=reasons,
        text=text,
        number_spans=tuple(number_spans),
    )


def _number_spans(entries: Entries, offset: int) -> Iterator[Span]:
    """Where the numbers of an object's lists stand in the text."""
    for value in entries.values():
        if isinstance(value.content, tuple):
            for item in value.content:
                if isinstance(item.content, float):
                    yield offset + item.start, offset + item.stop


def _objects(scanned: ScannedText, split: Splitter | None) -> Iterator[Entries]:
    for value in scanned.objects:
        assert isinstance(value.content, dict), "as the scanner says"
        yield from split(value.content) if split else (value.content,)
    # What is whole of an object cut off is known only where it stands for several.
    if split and (several := split(scanned.cut)) != [scanned.cut]:
        yield from several
