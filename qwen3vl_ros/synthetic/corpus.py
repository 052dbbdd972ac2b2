# SPDX-License-Identifier: Apache-2.0
"""Texts with every word, digit and mark that questions and answers can hold, for a vocabulary.

Knows questions, no tokenizer. What is not asked yet but may be soon is in
`offline/tiny_vocabulary.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .changes import sentences as sentences_about_changes
from .known_objects import KnownObject
from .phrases import ANYTHING, RELATIONS, SUPERLATIVES
from .questions import (
    LINE_OF_TASK,
    NAMES,
    ROOM_NAMES,
    answer_text,
    box_3d_line,
    box_line,
    plural,
    word_line,
)
from .small_talk import sentences
from .solids import COLORS, WORDS


def corpus() -> Iterator[str]:
    """The texts; their order and number may change, their words rarely."""
    for name in dict.fromkeys((*NAMES, *ROOM_NAMES)):
        known = KnownObject(name=name, xyxy_norm1000=np.arange(4.0), bbox_3d=np.zeros(9))
        for line in LINE_OF_TASK.values():
            yield answer_text([line(known), line(known)])
        shape = known.shape
        yield from (f"the {name}", f"the {shape}", plural(name), f'"label": "{shape}"')
        yield from (
            f"the {superlative} {shape}, {superlative} {name}" for superlative in SUPERLATIVES
        )
        yield from (f"the {shape} {relation} the {name}" for relation in RELATIONS)
    yield from (f"the {color} {ANYTHING}, {color} {plural(ANYTHING)}" for color in COLORS)
    for number in range(1001):
        known = KnownObject(
            name="box", xyxy_norm1000=np.full(4, float(number)), bbox_3d=np.full(9, -number / 100)
        )
        yield answer_text([box_line(known), box_3d_line(known)])
    for word in WORDS:
        known = KnownObject(
            name="box",
            xyxy_norm1000=np.arange(4.0),
            bbox_3d=np.zeros(9),
            word=word,
            word_xyxy_norm1000=np.arange(4.0),
        )
        yield answer_text([word_line(known), word_line(known)])
        yield f"{word}."
    yield answer_text([])
    yield from sentences()
    yield from sentences_about_changes()
