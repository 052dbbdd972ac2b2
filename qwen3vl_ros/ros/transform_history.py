# SPDX-License-Identifier: Apache-2.0
"""What is known of one link of the transform tree: its last seconds, or that it never moves.

Knows no tree (`transform_buffer.py`). The rules are tf2's: samples up to ten seconds older than
the newest are held, and nothing is told outside of them.

Poses:  translation in metres and unit quaternion xyzw of `T_parent_child`, plain numbers, so that
        a lookup costs microseconds. Time: integer nanoseconds, 0 asks for the latest.
Between samples: translation is linear, rotation turns evenly along the shorter arc (slerp).
"""

from __future__ import annotations

import math
from bisect import bisect_left

from ..errors import TransformError

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
Pose = tuple[Vector, Quaternion]

IDENTITY: Pose = ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))


class ExtrapolationException(TransformError):
    """The stamp lies outside of what is held.

    Attributes:
        is_past: the stamp is older than all that is held, so waiting does not help.
    """

    def __init__(self, message: str, *, is_past: bool = False) -> None:
        super().__init__(message)
        self.is_past = is_past


class StaticLink:
    """A link that always holds. Owned by the buffer."""

    def __init__(self) -> None:
        self._held: tuple[str, Pose] | None = None

    def insert(self, stamp_ns: int, parent: str, pose: Pose) -> bool:
        self._held = (parent, pose)
        return True

    def clear(self) -> None:
        """Nothing: static transforms survive a jump in time."""

    def latest(self) -> tuple[int, str] | None:
        return None if self._held is None else (0, self._held[0])

    def at(self, stamp_ns: int) -> tuple[str, Pose]:
        assert self._held is not None  # inserted as soon as made
        return self._held


class MovingLink:
    """The last seconds of a link, oldest first. Owned by the buffer."""

    def __init__(self, cache_ns: int) -> None:
        self._cache_ns = cache_ns
        self._stamps: list[int] = []
        self._held: list[tuple[str, Pose]] = []

    def insert(self, stamp_ns: int, parent: str, pose: Pose) -> bool:
        stamps = self._stamps
        if stamps and stamp_ns < stamps[-1] - self._cache_ns:
            return False
        index = bisect_left(stamps, stamp_ns)
        if index < len(stamps) and stamps[index] == stamp_ns:
            return False
        stamps.insert(index, stamp_ns)
        self._held.insert(index, (parent, pose))
        outdated = bisect_left(stamps, stamps[-1] - self._cache_ns)
        del stamps[:outdated], self._held[:outdated]
        return True

    def clear(self) -> None:
        self._stamps.clear()
        self._held.clear()

    def latest(self) -> tuple[int, str] | None:
        return (self._stamps[-1], self._held[-1][0]) if self._stamps else None

    def at(self, stamp_ns: int) -> tuple[str, Pose]:
        stamps = self._stamps
        if not stamps:
            raise ExtrapolationException("Unable to lookup transform, cache is empty")
        if stamp_ns == 0:
            return self._held[-1]
        index = bisect_left(stamps, stamp_ns)
        if index < len(stamps) and stamps[index] == stamp_ns:
            return self._held[index]
        if len(stamps) == 1:
            raise ExtrapolationException(
                f"Lookup would require extrapolation at time {_seconds(stamp_ns)}, but only time "
                f"{_seconds(stamps[0])} is in the buffer",
                is_past=stamp_ns < stamps[0],
            )
        if index == len(stamps):
            raise ExtrapolationException(
                "Lookup would require extrapolation into the future. Requested time "
                f"{_seconds(stamp_ns)} but the latest data is at time {_seconds(stamps[-1])}"
            )
        if index == 0:
            raise ExtrapolationException(
                "Lookup would require extrapolation into the past. Requested time "
                f"{_seconds(stamp_ns)} but the earliest data is at time {_seconds(stamps[0])}",
                is_past=True,
            )
        older_parent, older = self._held[index - 1]
        newer_parent, newer = self._held[index]
        if older_parent != newer_parent:  # it changed hands: the older holds until the newer
            return older_parent, older
        share = (stamp_ns - stamps[index - 1]) / (stamps[index] - stamps[index - 1])
        return older_parent, between(older, newer, share)


def _product(a: Quaternion, b: Quaternion) -> Quaternion:
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def _rotated(q: Quaternion, v: Vector) -> Vector:
    x, y, z, w = q
    conjugate = (-x, -y, -z, w)
    rx, ry, rz, _ = _product(_product(q, (*v, 0.0)), conjugate)
    return rx, ry, rz


def chained(outer: Pose, inner: Pose) -> Pose:
    """The pose of T_outer @ T_inner."""
    (tx, ty, tz), q = outer
    x, y, z = _rotated(q, inner[0])
    return (tx + x, ty + y, tz + z), _product(q, inner[1])


def inverted(pose: Pose) -> Pose:
    t, (x, y, z, w) = pose
    q = (-x, -y, -z, w)
    rx, ry, rz = _rotated(q, t)
    return (-rx, -ry, -rz), q


def between(older: Pose, newer: Pose, share: float) -> Pose:
    """Linear in translation, slerp along the shorter arc in rotation."""
    (ax, ay, az), p = older
    (bx, by, bz), q = newer
    translation = (ax + (bx - ax) * share, ay + (by - ay) * share, az + (bz - az) * share)
    cosine = sum(a * b for a, b in zip(p, q, strict=True))
    sign = -1.0 if cosine < 0 else 1.0
    angle = math.acos(min(1.0, abs(cosine)))
    if angle < 1e-9:
        return translation, p
    a, b = math.sin((1 - share) * angle), sign * math.sin(share * angle)
    x, y, z, w = ((a * m + b * n) / math.sin(angle) for m, n in zip(p, q, strict=True))
    return translation, (x, y, z, w)


def _seconds(stamp_ns: int) -> str:
    sign, size = ("-", -stamp_ns) if stamp_ns < 0 else ("", stamp_ns)
    return f"{sign}{size // 1_000_000_000}.{size % 1_000_000_000:09d}"
