# SPDX-License-Identifier: Apache-2.0
"""What the node tells /diagnostics: is each input alive, what went wrong last, how long it took.

Knows no messages but diagnostic_msgs and no engine; the node and its worker report facts, this
file keeps counts and turns them into statuses. Names and keys are those of diagnostic_updater
(topic statistics) and Autoware (processing times), so that existing monitors read them.

Durations are on a steady clock (they survive clock steps and a missing /clock); the age of stamps
is on the node's clock and is handed in. Owned by the node; a lock guards it, because the worker
reports too.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

WINDOW_S = 5.0
# diagnostic_updater's limits for stamps: ahead of the clock by 1 s, behind it by 5 s.
FUTURE_LIMIT_S = -1.0
PAST_LIMIT_S = 5.0
LOG_EVERY_S = 10.0
# What has a status besides the topics.
PLACES = ("engine", "question", "inference", "transform")


class TopicMonitor:
    """Arrivals on one topic: how often, and how old their stamps are. Owned by `Diagnostics`."""

    def __init__(self, *, topic: str, needed: bool, clock: Callable[[], float]) -> None:
        self._topic = topic
        self._needed = needed
        self._clock = clock
        # (when, age of its stamp or None) of each message in the window.
        self._arrivals: deque[tuple[float, float | None]] = deque(maxlen=1000)
        self._total = 0
        self._early = self._late = self._zero = 0

    def arrived(self, *, age_s: float | None) -> None:
        """Counts a message; `age_s` is None when it has no stamp."""
        self._arrivals.append((self._clock(), age_s))
        self._total += 1
        if age_s is None:
            self._zero += 1
        else:
            self._early += age_s < FUTURE_LIMIT_S
            self._late += age_s > PAST_LIMIT_S

    def status(self, name: str, *, more: Mapping[str, object]) -> DiagnosticStatus:
        """The topic's status over the last `WINDOW_S`, with `more` to show."""
        begin = self._clock() - WINDOW_S
        while self._arrivals and self._arrivals[0][0] < begin:
            self._arrivals.popleft()
        ages = [age for _, age in self._arrivals if age is not None]
        level, message = self._verdict(ages)
        return status(
            name,
            level,
            message,
            {
                "Topic": self._topic,
                "Events in window": len(self._arrivals),
                "Events since startup": self._total,
                "Duration of window (s)": WINDOW_S,
                "Actual frequency (Hz)": f"{len(self._arrivals) / WINDOW_S:.2f}",
                "Earliest timestamp delay": f"{min(ages):.3f}" if ages else "n/a",
                "Latest timestamp delay": f"{max(ages):.3f}" if ages else "n/a",
                "Early diagnostic update count": self._early,
                "Late diagnostic update count": self._late,
                "Zero seen diagnostic update count": self._zero,
                **more,
            },
        )

    def _verdict(self, ages: list[float]) -> tuple[bytes, str]:
        if not self._arrivals:
            absent = "No events recorded." if not self._total else "No data since last update."
            return (ERROR if self._needed else WARN), absent
        if self._arrivals[-1][1] is None:
            return ERROR, "Zero timestamp seen."
        if min(ages) < FUTURE_LIMIT_S:
            return ERROR, "Timestamps too far in future seen."
        if max(ages) > PAST_LIMIT_S:
            return ERROR, "Timestamps too far in past seen."
        return OK, "Receiving."


@dataclass(kw_only=True)
class Fault:
    """The last thing that went wrong in one place. Owned by `Diagnostics`.

    Attributes:
        message: what.
        level: WARN or ERROR.
        until: steady seconds; infinite until the place works again.
        count: how often anything went wrong there.
        logged_at: steady seconds.
    """

    message: str = ""
    level: bytes = ERROR
    until: float = -math.inf
    count: int = 0
    logged_at: float = -math.inf


@dataclass(kw_only=True)
class ProcessingTimes:
    """Seconds of recent inferences, newest last, and how many. Owned by `Diagnostics`."""

    recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    age_s: float | None = None
    count: int = 0


class Diagnostics:
    """Facts from the node and its worker; statuses for /diagnostics."""

    def __init__(self, *, node_name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._node_name = node_name
        self._clock = clock
        self._lock = threading.Lock()
        self._topics: dict[str, TopicMonitor] = {}
        self._faults: dict[str, Fault] = {}
        self._facts: dict[str, dict[str, object]] = {}
        self._times = ProcessingTimes()

    def watch_topic(self, name: str, *, topic: str, needed: bool) -> None:
        """Begins to count arrivals; a needed topic without any is an error, others a warning."""
        self._topics[name] = TopicMonitor(topic=topic, needed=needed, clock=self._clock)

    def arrived(self, name: str, *, age_s: float | None) -> None:
        """A message came; `age_s` on the node's clock, None when it has no stamp."""
        with self._lock:
            self._topics[name].arrived(age_s=age_s)

    def fault(self, place: str, message: str, *, level: bytes = ERROR) -> bool:
        """Something went wrong in one place: a watched topic, or one of `PLACES`.

        Returns:
            True when it is worth a line in the log: the first of its place in `LOG_EVERY_S`.
        """
        assert place in self._topics or place in PLACES, f"nobody would see a fault of '{place}'"
        with self._lock:
            return self._note(place, message, level=level, lasts_s=math.inf)

    def lost(self, name: str, message: str, *, total: int) -> bool:
        """Messages of a topic were lost on their way, `total` so far: a warning for `WINDOW_S`.

        Nothing says when none are lost any more, so it lapses by itself.

        Returns:
            As `fault`.
        """
        with self._lock:
            self._facts.setdefault(name, {})["Messages lost in transport"] = total
            return self._note(_transport(name), message, level=WARN, lasts_s=WINDOW_S)

    def _note(self, place: str, message: str, *, level: bytes, lasts_s: float) -> bool:
        fault = self._faults.setdefault(place, Fault())
        now = self._clock()
        fault.message, fault.level, fault.until = message, level, now + lasts_s
        fault.count += 1
        if now - fault.logged_at < LOG_EVERY_S:
            return False
        fault.logged_at = now
        return True

    def recovered(self, place: str) -> None:
        """What was wrong in a place is so no longer; its count stays."""
        with self._lock:
            if place in self._faults:
                self._faults[place].until = -math.inf

    def facts(self, place: str, **facts: object) -> None:
        """Remembers what to show in a place's status, under these keys."""
        with self._lock:
            self._facts.setdefault(place, {}).update(facts)

    def answered(self, *, seconds: float, age_s: float | None) -> None:
        """One picture was looked at; `age_s` of the image when its results went out."""
        with self._lock:
            self._times.recent_s.append(seconds)
            self._times.age_s = age_s
            self._times.count += 1

    def statuses(self) -> list[DiagnosticStatus]:
        """One status for each topic and each place, in a fixed order."""
        with self._lock:
            prefix = f"{self._node_name}: "
            statuses = []
            for name, monitor in self._topics.items():
                facts = self._facts.get(name, {})
                current = monitor.status(f"{prefix}{name} topic status", more=facts)
                current = self._with_fault(current, name)
                statuses.append(self._raised(current, _transport(name)))
            for place in PLACES:
                facts = dict(self._facts.get(place, {}))
                if place == "inference":
                    facts.update(self._processing_time_facts())
                statuses.append(self._with_fault(status(prefix + place, OK, "OK", facts), place))
            return statuses

    def _with_fault(self, current: DiagnosticStatus, place: str) -> DiagnosticStatus:
        fault = self._faults.get(place)
        if fault is None:
            return current
        current.values.append(KeyValue(key="Faults since startup", value=str(fault.count)))
        current.values.append(KeyValue(key="Last fault", value=fault.message))
        return self._raised(current, place)

    def _raised(self, current: DiagnosticStatus, place: str) -> DiagnosticStatus:
        """The status at the level of what is wrong in a place now, and with its message."""
        fault = self._faults.get(place)
        if fault is not None and self._clock() < fault.until:
            said = [] if current.level == OK else [current.message]
            current.message = "; ".join([*said, fault.message])
            current.level = max(current.level, fault.level)
        return current

    def _processing_time_facts(self) -> dict[str, object]:
        recent = sorted(self._times.recent_s)
        if not recent:
            return {"processing_time_ms": "n/a", "pipeline_latency_ms": "n/a", "answers": 0}
        latency = self._times.age_s
        return {
            "processing_time_ms": f"{1e3 * self._times.recent_s[-1]:.1f}",
            "processing_time_ms p50": f"{1e3 * recent[len(recent) // 2]:.1f}",
            "processing_time_ms max": f"{1e3 * recent[-1]:.1f}",
            "pipeline_latency_ms": "n/a" if latency is None else f"{1e3 * latency:.1f}",
            "answers": self._times.count,
        }


def _transport(name: str) -> str:
    """The place where losses of a topic are kept, apart from faults of its messages."""
    return f"{name} transport"


def status(
    name: str, level: bytes, message: str, values: Mapping[str, object]
) -> DiagnosticStatus:
    """A status with a hardware_id, which monitors want."""
    return DiagnosticStatus(
        name=name,
        level=level,
        message=message,
        hardware_id="qwen3vl_ros",
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
