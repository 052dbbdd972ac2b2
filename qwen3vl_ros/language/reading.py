# SPDX-License-Identifier: Apache-2.0
"""An answer, read (`Reading`), and where in a model's words the answer begins.

Knows no answer format. A thinking model's prompt ends with `<think>`, so its words hold only the
closing tag; what follows the last one is the answer, and words that never close it hold none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import AnswerError

BEGIN_OF_THINKING, END_OF_THINKING = "<think>", "</think>"

Span = tuple[int, int]
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading(Generic[T_co]):
    """What the model said, read.

    Attributes:
        value: what was found; an empty one only if the model itself said "nothing".
        complete: False when words are missing at the end; what is there was still read.
        notes: what was dropped or mended, one sentence each.
        text: the model's words, whole and untrusted.
        number_spans: where the coordinates of each item of `value` stand in `text`, (start, stop)
            characters; empty where the items have none.
    """

    value: T_co
    complete: bool
    notes: tuple[str, ...]
    text: str
    number_spans: tuple[tuple[Span, ...], ...] = ()


def answer_start(text: str, *, thinking: bool) -> int:
    """Index of the first character after the last `</think>`; 0 if nothing was thought.

    Args:
        text: the model's words.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: the model was still thinking when its words ended.

    >>> text = "Two? No.</think>\\n\\nThree."
    >>> text[answer_start(text, thinking=True):].strip()
    'Three.'
    """
    end = text.rfind(END_OF_THINKING)
    if end >= 0:
        return end + len(END_OF_THINKING)
    if thinking or text.lstrip().startswith(BEGIN_OF_THINKING):
        raise AnswerError(
            f"the model was still thinking after {len(text)} characters, expected "
            f"'{END_OF_THINKING}' and an answer; ask an Instruct checkpoint, or for less",
            answer_text=text,
        )
    return 0


def thought_in(text: str) -> str:
    """What the model thought, as its chat template splits it off; empty if nothing.

    >>> thought_in("Two? No.\\n</think>\\n\\nThree.")
    'Two? No.'
    """
    thought, closed, _ = text.partition(END_OF_THINKING)
    return thought.rpartition(BEGIN_OF_THINKING)[2].strip("\n") if closed else ""


def excerpt(text: str) -> str:
    """The start of a model's words, quoted, for an error message."""
    return repr(text[:80])
