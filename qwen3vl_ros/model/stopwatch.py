# SPDX-License-Identifier: Apache-2.0
"""How long each stage of one grounding took, and how much work it was.

Knows no stage's meaning beyond its name. Whoever asks brings a `Stopwatch`; nothing measured here
ever reaches a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

STAGES = ("preprocess", "vision", "prefill", "decode", "lift")


@dataclass(frozen=True, kw_only=True, slots=True)
class GroundingStats:
    """Durations in seconds and sizes of the work for one picture and one query.

    A stage that was not reached took None. A query that asks the model more than once (its own 3D
    boxes where there is no depth) is summed over.

    Attributes:
        preprocess_s: picture into patches.
        vision_s: the tower.
        prefill_s: questions into tokens, and prompts through the decoder.
        decode_s: answers.
        lift_s: boxes and depth into 3D boxes.
        total_s: all of it.
        image_tokens: visual tokens of what was looked at.
        prompt_tokens: of all prompts, visual tokens included.
        answer_tokens: of all answers, end tokens included.
        passes: through the decoder, after the prefills.
    """

    preprocess_s: float | None
    vision_s: float | None
    prefill_s: float | None
    decode_s: float | None
    lift_s: float | None
    total_s: float
    image_tokens: int
    prompt_tokens: int
    answer_tokens: int
    passes: int


class Stopwatch:
    """Mutable; owned by whoever asked, for one grounding."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.perf_counter,
        on_stage: Callable[[str], None] | None = None,
    ) -> None:
        """`clock` gives seconds; `on_stage` hears the name of each stage as it begins."""
        self._clock = clock
        self._on_stage = on_stage
        self._began = clock()
        self._seconds: dict[str, float] = {}
        self._running: tuple[str, float] | None = None
        self._image_tokens = 0
        self._prompt_tokens = 0
        self._answer_tokens = 0
        self._passes = 0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts the block as `name`, one of `STAGES`, unless it goes on to another (`enter`)."""
        self.enter(name)
        try:
            yield
        finally:
            self._leave()

    def enter(self, name: str) -> None:
        """From here on it is `name`."""
        assert name in STAGES, name
        self._leave()
        self._running = (name, self._clock())
        if self._on_stage is not None:
            self._on_stage(name)

    def saw(self, *, image_tokens: int) -> None:
        """One more view, and its size."""
        self._image_tokens += image_tokens

    def heard(self, *, prompt_tokens: int, answer_tokens: int, passes: int) -> None:
        """One more answer, and its work (see `GroundingStats`)."""
        self._prompt_tokens += prompt_tokens
        self._answer_tokens += answer_tokens
        self._passes += passes

    def stats(self) -> GroundingStats:
        """What was measured so far."""
        return GroundingStats(
            **{f"{name}_s": self._seconds.get(name) for name in STAGES},
            total_s=self._clock() - self._began,
            image_tokens=self._image_tokens,
            prompt_tokens=self._prompt_tokens,
            answer_tokens=self._answer_tokens,
            passes=self._passes,
        )

    def _leave(self) -> None:
        if self._running is not None:
            name, began = self._running
            self._seconds[name] = self._seconds.get(name, 0.0) + self._clock() - began
            self._running = None
