# SPDX-License-Identifier: Apache-2.0
"""What is to be compared takes turns, so that a busy minute is shared by all of it.

Knows clocks and medians, no engine. A machine that does other things besides makes seconds worth
little; what one round says of two things measured in it, one divided by the other, holds better,
and the median over rounds better still.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What something took, once.

    Attributes:
        wall_s: by the clock.
        cpu_s: of all threads of the process together; above `threads * wall_s` is impossible,
            far below means that threads waited: for each other, or for a core.
    """

    wall_s: float
    cpu_s: float


def effort_of(task: Callable[[], object], *, times: int = 1) -> Effort:
    """What one of `times` runs in a row takes, on average."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        task()
    return Effort(
        wall_s=(time.perf_counter() - wall) / times, cpu_s=(time.process_time() - cpu) / times
    )


def in_turns(
    tasks: Mapping[Name, Callable[[], Value]],
    *,
    rounds: int,
    on_turn: Callable[[Name, int], None] | None = None,
) -> dict[Name, tuple[Value, ...]]:
    """What each task gave in each round, by its name.

    Each round begins with another task, so that nobody always comes after the same one.

    Args:
        tasks: each gives one measurement.
        rounds: how often each has its turn.
        on_turn: hears a task's name before its turn, and how many turns are over.

    >>> in_turns({"one": lambda: 1, "two": lambda: 2}, rounds=3)
    {'one': (1, 1, 1), 'two': (2, 2, 2)}
    """
    names = list(tasks)
    values: dict[Name, list[Value]] = {name: [] for name in names}
    over = 0
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if on_turn is not None:
                on_turn(name, over)
            values[name].append(tasks[name]())
            over += 1
    return {name: tuple(each) for name, each in values.items()}


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of ratios taken round by round.

    >>> median_ratio([1.0, 8.0, 3.0], [1.0, 4.0, 1.0])
    2.0
    """
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def median_wall(efforts: Sequence[Effort]) -> float:
    """Seconds."""
    return statistics.median(effort.wall_s for effort in efforts)


def median_cpu(efforts: Sequence[Effort]) -> float:
    """Seconds."""
    return statistics.median(effort.cpu_s for effort in efforts)
