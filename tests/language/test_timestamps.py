# SPDX-License-Identifier: Apache-2.0
"""Times in all the ways Qwen3-VL writes them, and numbers that are none."""

from __future__ import annotations

import pytest

from qwen3vl_ros.language.timestamps import (
    instant_in_prose,
    seconds_from_text,
    span_from_text,
    spans_in_prose,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12", 12), ("12.5", 12.5), ("12.5s", 12.5), ("12.5 seconds", 12.5), ("0", 0),
        ("<12.5 seconds>", 12.5), ("00:23.00", 23), ("01:02.50", 62.5), ("1:00:00", 3600),
        ("75.5", 75.5), ("00:75.00", None), ("1:60:00", None), ("-1", None), ("12,5", None),
        ("1e3", None), ("", None), ("noon", None), ("9" * 50, None), ("1:2:3:4", None),
    ],
)  # fmt: skip
def test_one_time(text, seconds):
    assert seconds_from_text(text) == seconds


@pytest.mark.parametrize("text", ["1 - 2", "[1.0, 2.0]", "00:01 to 00:02", " 1 s – 2 s "])
def test_a_text_that_is_one_span(text):
    span = span_from_text(text)
    assert (span.start_s, span.end_s) == (1, 2)


@pytest.mark.parametrize("text", ["1", "1 - ", "from 1 to 2", "1 - 2 - 3", "a - b"])
def test_a_text_that_is_not_one_span(text):
    assert span_from_text(text) is None


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("1.0 - 2.0, 3.0 - 4.0", [(1, 2), (3, 4)]),
        ("2 to 3 people, then 0:04 to 0:05", [(4, 5)]),
        ("2026-11-22", []),
        ("v1.0-2.0x", []),
        ("-1.0 - 2.0", []),
        ("0:10 - 0:75", []),
        ("1.0 - 2.0 - 3.0", []),
        ("start 1 s, end 2 s", [(1, 2)]),
    ],
)
def test_spans_among_words(text, spans):
    assert [(span.start_s, span.end_s) for span in spans_in_prose(text)] == spans


@pytest.mark.parametrize(
    ("text", "time_s"),
    [("At 3.5 s.", 3.5), ("3.5", 3.5), ("At 3.5", None), ("3 s or 4 s", None), ("3 people", None)],
)
def test_an_instant_among_words(text, time_s):
    instant = instant_in_prose(text)
    assert (instant and instant.start_s) == time_s
