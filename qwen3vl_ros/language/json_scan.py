# SPDX-License-Identifier: Apache-2.0
"""Objects in JSON-like text, as far as they go, each with its place in the text.

Knows the ways a language model writes JSON (fences, prose around, single quotes, a tail cut off)
and nothing of what the objects mean. Never evaluates anything; time grows with the length of the
text, depth is bounded. Written by hand because the standard parsers give no places of numbers.

Spans are (start, stop) character indices into the text as given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_DEPTH = 8

_FENCE = "```"
_SPACE = re.compile(r"\s*")
_OPENING = re.compile(r"\s*(?:```\w*)?")
_INFO = re.compile(r"\w*")
_BRACKET = re.compile(r"[\[{]")
_LANDMARK = re.compile(r"[\[\]{]|```")
_RESUME = re.compile(r"[{}]|```")
_LIST_OF_OBJECTS = re.compile(r"\[\s*(?:[\[{\]]|\Z)")
_EMPTY_LIST = re.compile(r"\s*\[\s*\]\s*")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"-?[^\W\d]\w*")
_STRINGS = {quote: re.compile(rf"{quote}((?:[^{quote}\\\r\n]|\\.)*)({quote})?") for quote in "\"'"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|(.))")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass(frozen=True, slots=True)
class Word:
    """A bare word where JSON has a value: true, null, NaN, x_center."""

    text: str


Content: TypeAlias = "str | float | Word | tuple[Value, ...] | dict[str, Value]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A value and its span; a number too large for a float is infinite."""

    content: Content
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ScannedText:
    """What a text holds.

    Attributes:
        objects: the well-formed ones that stand on their own or in lists, in order; the content
            of each is a dict.
        malformed: how many more began and could not be read.
        complete: False when the text ends inside an object or a list of objects.
        is_empty_list: the text, or its fenced part, is exactly an empty list.
        cut: of the object that the text ends in, the entries that are whole.
    """

    objects: tuple[Value, ...]
    malformed: int
    complete: bool
    is_empty_list: bool
    cut: dict[str, Value] = field(default_factory=dict)


class _MalformedError(Exception):
    """Not JSON from here on; `place` is where."""

    def __init__(self, place: int) -> None:
        super().__init__(place)
        self.place = place


class _TruncatedError(Exception):
    """The text ends inside a value; `entries` are the whole ones of the outermost object."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, Value] = {}


def scan_objects(text: str) -> ScannedText:
    """The objects of a text, or of its first fenced block that holds any bracket.

    >>> scan_objects('Sure! [{"a": 1}, {"a": ').complete
    False
    """
    place = _body_start(text)
    empty = _EMPTY_LIST.match(text, place) if "{" not in text else None
    if empty and text[empty.end() : empty.end() + len(_FENCE)] in ("", _FENCE):
        return ScannedText(objects=(), malformed=0, complete=True, is_empty_list=True)
    objects: list[Value] = []
    malformed = 0
    depth = 0  # open lists of objects
    truncated = False
    cut: dict[str, Value] = {}
    while landmark := _LANDMARK.search(text, place):
        place = landmark.end()
        if landmark[0] == _FENCE:
            break
        if landmark[0] == "[":
            # other brackets are prose: "the [2] boxes", "[x, y]"
            depth += _LIST_OF_OBJECTS.match(text, landmark.start()) is not None
        elif landmark[0] == "]":
            depth = max(depth - 1, 0)
        else:
            try:
                value = _scan_value(text, landmark.start(), 0)
            except _TruncatedError as error:
                truncated, cut = True, error.entries
                break
            except _MalformedError as error:
                malformed += 1
                resume = _RESUME.search(text, max(error.place, place))
                if resume is None or resume[0] == _FENCE:
                    truncated = True
                    break
                place = resume.end() if resume[0] == "}" else resume.start()
            else:
                objects.append(value)
                place = value.stop
    return ScannedText(
        objects=tuple(objects),
        malformed=malformed,
        complete=not truncated and depth == 0,
        is_empty_list=False,
        cut=cut,
    )


def scan_object(text: str) -> Value | None:
    """The object that a text is, with nothing but blanks or a fence around it; None if it is not.

    >>> scan_object('{"a": "```"}') is None, scan_object('So: {"a": 1}') is None
    (False, True)
    """
    opening = _OPENING.match(text)
    try:
        value = _scan_value(text, opening.end() if opening else 0, 0)
    except (_MalformedError, _TruncatedError):
        return None
    alone = text[value.stop :].strip() in ("", _FENCE)
    return value if alone and isinstance(value.content, dict) else None


def _body_start(text: str) -> int:
    """After the info string of the fence before the first fenced bracket; 0 if none is fenced."""
    bracket = _BRACKET.search(text, max(text.find(_FENCE), 0))
    fence = text.rfind(_FENCE, 0, bracket.start()) if bracket else -1
    if fence < 0:
        return 0
    info = _INFO.match(text, fence + len(_FENCE))
    return info.end() if info else fence + len(_FENCE)


def _scan_value(text: str, place: int, depth: int) -> Value:
    """The value that starts at or after `place`, blanks skipped."""
    place = _skip_blanks(text, place)
    first = text[place]
    if first in "[{":
        if depth == MAX_DEPTH:
            raise _MalformedError(place)
        return _scan_list(text, place, depth) if first == "[" else _scan_dict(text, place, depth)
    if first in _STRINGS:
        return _scan_string(text, place)
    if number := _NUMBER.match(text, place):
        # float() of any number of digits is linear and never raises; int() is not and does
        return Value(content=float(number[0]), start=place, stop=number.end())
    if word := _WORD.match(text, place):
        return Value(content=Word(word[0]), start=place, stop=word.end())
    if first in "+-." and place + 1 == len(text):
        raise _TruncatedError
    raise _MalformedError(place)


def _scan_list(text: str, start: int, depth: int) -> Value:
    items: list[Value] = []
    place = _skip_blanks(text, start + 1)
    while text[place] != "]":
        items.append(_scan_value(text, place, depth + 1))
        place = _after_separator(text, items[-1].stop, "]")
    return Value(content=tuple(items), start=start, stop=place + 1)


def _scan_dict(text: str, start: int, depth: int) -> Value:
    entries: dict[str, Value] = {}
    try:
        place = _skip_blanks(text, start + 1)
        while text[place] != "}":
            place = _scan_entry(text, place, depth, entries)
    except _TruncatedError as error:
        error.entries = entries
        raise
    return Value(content=entries, start=start, stop=place + 1)


def _scan_entry(text: str, place: int, depth: int, entries: dict[str, Value]) -> int:
    """Adds the entry at `place` to `entries`, the caller's; the place of the next."""
    if text[place] not in _STRINGS:
        raise _MalformedError(place)
    key = _scan_string(text, place)
    place = _skip_blanks(text, key.stop)
    # a key given twice has no single meaning
    if text[place] != ":" or not isinstance(key.content, str) or key.content in entries:
        raise _MalformedError(place)
    value = _scan_value(text, place + 1, depth + 1)
    place = _after_separator(text, value.stop, "}")
    entries[key.content] = value  # not before: a number at the very end may go on
    return place


def _after_separator(text: str, place: int, closing: str) -> int:
    """The place of the next item, or of `closing`; a comma before `closing` is forgiven."""
    place = _skip_blanks(text, place)
    if text[place] == ",":
        return _skip_blanks(text, place + 1)
    if text[place] != closing:
        raise _MalformedError(place)
    return place


def _skip_blanks(text: str, place: int) -> int:
    """The place of the next character that is not blank; there must be one."""
    blanks = _SPACE.match(text, place)
    place = blanks.end() if blanks else place
    if place == len(text):
        raise _TruncatedError
    return place


def _scan_string(text: str, start: int) -> Value:
    string = _STRINGS[text[start]].match(text, start)
    assert string is not None, "called at a quote"
    stop = string.end()
    if string[2] is None:
        if stop == len(text) or (stop + 1 == len(text) and text[stop] == "\\"):
            raise _TruncatedError
        raise _MalformedError(stop)
    content = _ESCAPE.sub(_unescaped, string[1])
    # two escapes may be the halves of one character; a lone half becomes U+FFFD
    content = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return Value(content=content, start=start, stop=stop)


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1] or escape[2]
    return chr(int(code, 16)) if code else _ESCAPED.get(escape[3], escape[3])
