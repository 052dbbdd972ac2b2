# SPDX-License-Identifier: Apache-2.0
"""Times as Qwen3-VL writes them, and spans of time in its words.

Knows "12.5", "12.5 seconds", "<12.5 seconds>", "mm:ss.ff" and "h:mm:ss.ff". "ff" are decimals of
a second: Qwen's own notebook for Qwen2.5-VL reads it so (strptime's %M:%S.%f), answers in it end
in .80 and .90, which no frame number of a video at 25 or 30 frames a second could be, and Qwen's
developers write hundredths ("01:23.45", QwenLM/Qwen3-VL issue 950).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BARE = r"(?:\d{1,3}:){0,2}\d{1,6}(?:\.\d{1,6})?(?:\s?(?:seconds?|secs?|s)\b)?"
_TIME = rf"(?:<{_BARE}>|{_BARE})"
# Not inside a longer number, word, date, or row of numbers.
_BEFORE, _AFTER = r"(?<![\w.:-])", r"(?![\w:]|\.\d|\s*[-–—~]\s*[\d<])"
_IN_A_ROW = re.compile(r"[\d>]\s?(?:seconds?|secs?|s)?\s*[-–—~]\s*$")
_SEPARATOR = r"\s*(?:-|–|—|~|to|and|until)\s*"
_SPAN = re.compile(rf"{_BEFORE}({_TIME}){_SEPARATOR}({_TIME}){_AFTER}")
_PAIR = re.compile(rf"\[\s*({_TIME})\s*,\s*({_TIME})\s*\]")
_START_END = re.compile(
    rf"\bstart[^\d<>\n]{{0,40}}({_TIME}){_AFTER}[^\d<>\n]{{0,40}}\bend[^\d<>\n]{{0,40}}"
    rf"({_TIME}){_AFTER}",
    re.IGNORECASE,
)
_INSTANT = re.compile(rf"{_BEFORE}({_TIME}){_AFTER}")
_WHOLE = re.compile(r"<?(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)(?:\s?(?:seconds?|secs?|s))?>?")
_MARKS = re.compile(r"[.:s<]")  # what tells a time from just any number


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Two times in a text, in the order they stand there, and where they end, in characters."""

    start_s: float
    end_s: float
    stop: int

    def may_go_on(self, text: str) -> bool:
        """Whether, had `text` not been cut off, the second time could be another one.

        >>> span = span_from_text("3.5 - 9")
        >>> span.may_go_on("3.5 - 9."), span.may_go_on("3.5 - 9. ")
        (True, False)
        """
        return text[self.stop :] in ("", ".", ":")


def seconds_from_text(text: str) -> float | None:
    """Seconds, or None if the text is not one time.

    >>> [seconds_from_text(text) for text in ("01:02.50", "<12.5 seconds>", "1:75")]
    [62.5, 12.5, None]
    """
    whole = _WHOLE.fullmatch(text.strip())
    if whole is None or len(text) > 40:
        return None
    hours, minutes, seconds = whole[1], whole[2], float(whole[3])
    if (minutes and seconds >= 60) or (hours and int(minutes) >= 60):
        return None
    return int(hours or 0) * 3600.0 + int(minutes or 0) * 60.0 + seconds


def span_from_text(text: str) -> Span | None:
    """The span that the whole text is, or None.

    >>> span_from_text("00:23.00 - 00:48.00")
    Span(start_s=23.0, end_s=48.0, stop=19)
    """
    match = _SPAN.fullmatch(text.strip()) or _PAIR.fullmatch(text.strip())
    return _span(match) if match else None


def spans_in_prose(text: str) -> Iterator[Span]:
    """Every span of time in a text, first to last.

    Two numbers are times if one of them has a unit, a colon or a decimal point, or if they are
    all that the text holds, or are written [start, end]: "2 to 3 people" is no span.
    """
    whole = text.strip().rstrip(".")
    spans = [
        match
        for match in _SPAN.finditer(text)
        if (_MARKS.search(match[1] + match[2]) or match[0] == whole)
        and not _IN_A_ROW.search(text[max(match.start() - 16, 0) : match.start()])
    ]
    for match in sorted([*spans, *_PAIR.finditer(text)], key=re.Match.start) or (
        _START_END.finditer(text)
    ):
        if span := _span(match):
            yield span


def instant_in_prose(text: str) -> Span | None:
    """The one time that a text holds, as a span without duration; None if none or several."""
    whole = text.strip().rstrip(".")
    found = [m for m in _INSTANT.finditer(text) if re.search(r"[:s<]", m[1]) or m[1] == whole]
    times = {seconds_from_text(match[1]) for match in found}
    time_s = times.pop() if len(times) == 1 else None
    return None if time_s is None else Span(start_s=time_s, end_s=time_s, stop=found[-1].end())


def _span(match: re.Match[str]) -> Span | None:
    start_s, end_s = seconds_from_text(match[1]), seconds_from_text(match[2])
    if start_s is None or end_s is None:
        return None
    return Span(start_s=start_s, end_s=end_s, stop=match.end())
