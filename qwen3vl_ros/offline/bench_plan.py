# SPDX-License-Identifier: Apache-2.0
"""What `bench.py` measures: which stages of an engine, in which sizes.

Knows no engine and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

# A picture of 640x480 and one of 1024x1024; a short prompt and a long conversation.
IMAGE_TOKENS, CACHED_TOKENS = (300, 1024), (512, 4096)
LARGER = 2  # times the engine's cache: what a pass behind as many tokens takes over more room


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchPlan:
    """What to measure.

    Attributes:
        image_tokens: of pictures, to encode and to prefill.
        text_tokens: of the prompt around a picture.
        cached_tokens: behind which one token is decoded.
        windows: rows of a pass behind the fewest cached tokens, beginning with 1: what several
            rows at once cost.
        rounds: how often each stage has its turn.
        passes: of a turn, where passes are as short as those of decoding.
        threads: of the engine, and of the read of memory.
        read_megabytes: size of that read.
    """

    image_tokens: tuple[int, ...]
    text_tokens: int
    cached_tokens: tuple[int, ...]
    windows: tuple[int, ...]
    rounds: int
    passes: int
    threads: int
    read_megabytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One kind of pass, and its size.

    Attributes:
        kind: "vision", "prefill" or "decode"; or "read", of memory, by nobody's engine.
        image_tokens: of a vision or prefill.
        rows: tokens of a pass of decoding.
        cached_tokens: before it.
        cache_length: room in the cache.
    """

    kind: str
    image_tokens: int | None = None
    rows: int | None = None
    cached_tokens: int | None = None
    cache_length: int | None = None

    def sizes(self) -> dict[str, int]:
        """Those that a pass of its kind has."""
        return {k: v for k, v in asdict(self).items() if isinstance(v, int)}

    def __str__(self) -> str:
        return " ".join([self.kind, *map(str, self.sizes().values())])


def sizes_that_fit(usual: Sequence[int], *, most: int) -> tuple[int, ...]:
    """Those of the usual sizes that an engine takes; its own largest where it takes none.

    >>> sizes_that_fit((300, 1024), most=512), sizes_that_fit((300, 1024), most=75)
    ((300,), (75,))
    """
    return tuple(size for size in usual if size <= most) or (most,)


def stages_of(plan: BenchPlan, cache_length: int) -> tuple[Stage, ...]:
    """Everything that takes turns, but the read of memory, for an engine with such a cache."""
    pictures = [
        Stage(kind=kind, image_tokens=tokens)
        for tokens in plan.image_tokens
        for kind in ("vision", "prefill")
    ]
    decoding = [
        Stage(kind="decode", rows=1, cached_tokens=tokens, cache_length=length)
        for tokens in plan.cached_tokens
        for length in (cache_length, LARGER * cache_length)
    ]
    windows = [
        Stage(
            kind="decode",
            rows=rows,
            cached_tokens=plan.cached_tokens[0],
            cache_length=cache_length,
        )
        for rows in plan.windows
        if rows > 1
    ]
    return (*pictures, *decoding, *windows)
