# SPDX-License-Identifier: Apache-2.0
"""Answers that are text: what is written in a picture, and what the model says in words.

Knows `bbox_2d` with `text_content`, Qwen3-VL's format for text spotting, and free words. Text in
a picture is as untrusted as the model: nobody may obey it.

Boxes are read as 0 to 1000, as for every other task and as Qwen's own evaluation divides (QwenLM/
Qwen3-VL evaluation/ODinW-13). Qwen's notebook for text, cookbooks/ocr.ipynb, divides by 999 to
draw them: a tenth of a per cent apart.
"""

from __future__ import annotations

from ..errors import AnswerError
from ..scene.answers import TextSpan
from .coordinates import label_at, mended_box, numbers_at, pixels
from .labels import MAX_TEXT_CHARACTERS, clean_words
from .object_list import Entries, Found, read_objects
from .reading import Reading, answer_start


def parse_text_spans(
    text: str, *, width: int, height: int, max_objects: int, thinking: bool = False
) -> Reading[tuple[TextSpan, ...]]:
    """Read the lines or words spotted in a picture.

    Args:
        text: the model's words.
        width: of the original image, pixels.
        height: of the original image, pixels.
        max_objects: pieces of text beyond this many are not read, with a note.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: none can be read, and the answer is not an empty list.
    """

    def read_one(entries: Entries, _: int) -> Found[TextSpan]:
        numbers, mended = mended_box(numbers_at(entries, "bbox_2d", 4))
        written = label_at(entries, "text_content", longest=MAX_TEXT_CHARACTERS)
        span = TextSpan(text=written, xyxy_px=pixels(numbers, width=width, height=height))
        return Found(item=span, identity=(written, numbers), mended=mended)

    return read_objects(
        text,
        read_one,
        expected="a 'bbox_2d' of 4 numbers and a 'text_content'",
        max_objects=max_objects,
        thinking=thinking,
    )


def parse_words(text: str, *, ended: bool, thinking: bool = False) -> Reading[str]:
    """Read an answer in words; the value is safe to print and publish.

    Args:
        text: the model's words.
        ended: whether the model ended them itself; words do not show whether they are whole.
        thinking: whether the prompt ended with `<think>`.

    Raises:
        AnswerError: there are no words.
    """
    words = clean_words(text[answer_start(text, thinking=thinking) :])
    if not words:
        raise AnswerError(
            "the answer holds no words, expected some; ask again in other words",
            answer_text=text,
        )
    return Reading(value=words, complete=ended, notes=(), text=text)
