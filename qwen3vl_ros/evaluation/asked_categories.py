# SPDX-License-Identifier: Apache-2.0
"""Which categories a picture is asked for, and how they are put into questions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum

from ..errors import DatasetError

# Of the longest query, what several categories may take together.
_MOST_CHARACTERS = 1600


class Asked(Enum):
    """Which categories each picture is asked for."""

    PRESENT = "present"  # those that it holds, and those it is known not to hold (LVIS)
    ALL = "all"  # every category of the data set


def spoken(name: str) -> str:
    """A category as it is asked for: without the underscores of data sets.

    >>> spoken("alarm_clock")
    'alarm clock'
    """
    return " ".join(name.replace("_", " ").split())


def same_words(a: str, b: str) -> bool:
    """Whether two labels are the same but for case, underscores and spaces."""
    return spoken(a).casefold() == spoken(b).casefold()


def chosen_categories(words: str, known: Sequence[str]) -> Sequence[str]:
    """Categories named apart by commas.

    Raises:
        DatasetError: the data set has no such category.
    """
    wanted = [name.strip() for name in words.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise DatasetError(
            f"--categories names {', '.join(unknown)}, expected names in the annotations: "
            f"{', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
        )
    return wanted


def questions_of(names: Sequence[str], *, most: int) -> Iterator[tuple[str, ...]]:
    """Categories in groups of at most `most`, none too long for a query.

    >>> list(questions_of(["mug", "cup", "bowl"], most=2))
    [('mug', 'cup'), ('bowl',)]
    """
    group: list[str] = []
    for name in names:
        length = sum(map(len, group)) + len(name)
        if group and (len(group) == most or length > _MOST_CHARACTERS):
            yield tuple(group)
            group = []
        group.append(name)
    if group:
        yield tuple(group)
