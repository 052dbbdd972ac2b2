# SPDX-License-Identifier: Apache-2.0
"""Words of a model made safe to print and publish.

Knows no answer format. Model output is untrusted: it may hold terminal escapes, bidirectional
overrides, or a picture's own text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

MAX_LABEL_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 1000
MOST_NAMED = 5  # in one sentence

_ANSI_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b."
)


def clean_words(words: str) -> str:
    """Words of any length safe to print and publish; lines and tabs stay.

    >>> clean_words("Two:\\n- a \\x1b[31mred\\x1b[0m mug\\x07")
    'Two:\\n- a red mug'
    """
    plain = _ANSI_ESCAPE.sub("", words)
    visible = (c for c in plain if c in "\n\t" or not unicodedata.category(c).startswith("C"))
    return unicodedata.normalize("NFC", "".join(visible)).strip()


def clean_label(label: str, *, longest: int = MAX_LABEL_CHARACTERS) -> str:
    """A label safe to print and publish: NFC, one line, no control characters, not too long.

    >>> clean_label("\\x1b[31mred\\x1b[0m  mug\\n")
    'red mug'
    """
    plain = _ANSI_ESCAPE.sub("", label)
    # Categories C*: control, invisible formatting (bidi overrides), surrogates, unassigned.
    visible = "".join(
        " " if character.isspace() else character
        for character in plain
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    one_line = unicodedata.normalize("NFC", " ".join(visible.split()))
    return one_line[:longest].rstrip()


def unasked_warning(labels: Iterable[str], categories: Sequence[str]) -> tuple[str, ...]:
    """A sentence about objects whose label is none of the categories asked for, if there are any.

    A detector has a list of classes; this model says what it likes, a synonym as easily as another
    thing. Which of both it is, only the asker can tell, so objects keep the names it gave them.
    Case, spaces and underscores make no difference.

    >>> unasked_warning(["Mug", "table"], ["mug"])
    ("named otherwise than asked ('mug'): 'table', 1 of 2 objects; they keep the model's names",)
    """
    asked = {_plain(category) for category in categories}
    given = tuple(labels)
    others = [label for label in given if _plain(label) not in asked]
    if not others:
        return ()
    return (
        f"named otherwise than asked ({_named(categories)}): {_named(others)}, {len(others)} of "
        f"{len(given)} objects; they keep the model's names",
    )


def _plain(label: str) -> str:
    return clean_label(label.replace("_", " ")).casefold()


def _named(labels: Iterable[str]) -> str:
    distinct = tuple(dict.fromkeys(labels))
    more = ", ..." if len(distinct) > MOST_NAMED else ""
    return ", ".join(f"'{clean_label(label)}'" for label in distinct[:MOST_NAMED]) + more
