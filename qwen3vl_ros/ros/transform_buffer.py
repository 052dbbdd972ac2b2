# SPDX-License-Identifier: Apache-2.0
"""Ten seconds of a transform tree, answering as tf2's buffer does; pure Python, no ROS import.

Knows no topics: `transforms.py` feeds it. Values, rules and key words of the errors are tf2's, so
that what users know (and search for) holds; tests compare it with tf2's own BufferCore.

Transforms: `T_target_source`, `p_target = T_target_source @ p_source`, metres; a child frame has
        one parent, `T_parent_child`. Quaternions xyzw.
Time:   integer nanoseconds; a lookup at 0 means the latest moment that all frames in between have.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from ..errors import TransformError
from ..scene.geometry import Array, transform_from_quaternion
from .transform_history import (
    IDENTITY,
    ExtrapolationException,
    MovingLink,
    Pose,
    Quaternion,
    StaticLink,
    Vector,
    chained,
    inverted,
)

CACHE_NS = 10_000_000_000
MAX_DEPTH = 1000
# The square of a quaternion's length may differ from one by this; it is then normalised.
QUATERNION_TOLERANCE = 0.01


class LookupException(TransformError):
    """A frame that was never heard of, or a tree that runs in a circle."""


class ConnectivityException(TransformError):
    """Both frames are known and nothing connects them."""


class InvalidArgumentException(TransformError):
    """A frame name or a transform that means nothing; waiting does not help."""


class TransformBuffer:
    """The tree, its history, and lookups in it. Thread-safe.

    Owns mutable state: written by the thread that receives transforms, read by any.
    """

    def __init__(self, *, cache_ns: int = CACHE_NS) -> None:
        self._cache_ns = cache_ns
        self._lock = threading.RLock()
        self._frames: set[str] = set()
        self._links: dict[str, MovingLink | StaticLink] = {}  # by child

    def insert(
        self,
        *,
        parent: str,
        child: str,
        stamp_ns: int,
        translation: Vector,
        quat_xyzw: Quaternion,
        is_static: bool = False,
    ) -> bool:
        """Remembers `T_parent_child` at a stamp; False when it is too old, or a repetition.

        Raises:
            InvalidArgumentException: names empty or equal, a number not finite, or a quaternion
                that is not of unit length.
        """
        parent, child = parent.removeprefix("/"), child.removeprefix("/")
        _check_link(parent, child, translation, quat_xyzw)
        length = math.sqrt(sum(value * value for value in quat_xyzw))
        x, y, z, w = (value / length for value in quat_xyzw)
        with self._lock:
            link = self._links.get(child)
            if is_static:
                self._links[child] = link = StaticLink()
            elif not isinstance(link, MovingLink):
                self._links[child] = link = MovingLink(self._cache_ns)
            self._frames.update((parent, child))
            return link.insert(stamp_ns, parent, (translation, (x, y, z, w)))

    def reset(self) -> None:
        """Forgets all moving transforms; static ones stay."""
        with self._lock:
            for link in self._links.values():
                link.clear()

    def lookup(self, *, target: str, source: str, stamp_ns: int) -> Array:
        """`T_target_source` (4, 4) float64 at a stamp, 0 for the latest common one.

        Raises:
            LookupException, ConnectivityException, ExtrapolationException,
            InvalidArgumentException: see there; all are TransformError.
        """
        with self._lock:
            _check_name("target_frame", target)
            _check_name("source_frame", source)
            if target == source:
                return np.eye(4)
            self._check_known("target_frame", target)
            self._check_known("source_frame", source)
            if stamp_ns == 0:
                stamp_ns = self._latest_common_ns(target, source)
            pose = self._pose(target, source, stamp_ns)
        return transform_from_quaternion(np.array(pose[1]), np.array(pose[0]))

    def _check_known(self, argument: str, frame: str) -> None:
        if frame not in self._frames:
            raise LookupException(
                f"'{frame}' passed to lookupTransform argument {argument} does not exist; heard "
                f"of so far: {', '.join(sorted(self._frames)) or 'no frame'}"
            )

    def _pose(self, target: str, source: str, stamp_ns: int) -> Pose:
        """Both frames are taken to the top of the source's tree, as far as the stamp allows."""
        fault: ExtrapolationException | None = None
        from_source = IDENTITY
        top = source
        for _ in range(MAX_DEPTH):
            link = self._links.get(top)
            if link is None:
                break
            try:
                parent, pose = link.at(stamp_ns)
            except ExtrapolationException as exc:
                fault = exc  # there may still be a way: the target may lie below
                break
            from_source = chained(pose, from_source)
            top = parent
            if top == target:
                return from_source
        else:
            raise LookupException(_circle(source))

        from_target = IDENTITY
        frame = target
        for _ in range(MAX_DEPTH):
            if frame == top:
                return chained(inverted(from_target), from_source)
            link = self._links.get(frame)
            if link is None:
                break
            try:
                parent, pose = link.at(stamp_ns)
            except ExtrapolationException as exc:
                raise _when_looking_up(exc, target, source) from None
            from_target = chained(pose, from_target)
            frame = parent
            if frame == source:
                return inverted(from_target)
        else:
            raise LookupException(_circle(target))
        if fault is not None:
            raise _when_looking_up(fault, target, source)
        raise _unconnected(target, source)

    def _latest_common_ns(self, target: str, source: str) -> int:
        """The latest stamp that every moving link on the way has; 0 when none moves."""
        ups = [self._latest_upwards(frame) for frame in (source, target)]
        common = next((frame for frame in ups[0] if frame in ups[1]), None)
        if common is None:
            raise _unconnected(target, source)
        # Each chain maps a frame to the oldest of the latest stamps on the way up to it.
        stamps = [stamp for up in ups if (stamp := up[common]) is not None]
        return min(stamps, default=0)

    def _latest_upwards(self, frame: str) -> dict[str, int | None]:
        oldest: int | None = None
        reached: dict[str, int | None] = {frame: None}
        while (link := self._links.get(frame)) is not None:
            latest = link.latest()
            if latest is None:
                break
            stamp_ns, frame = latest
            if frame in reached:
                raise LookupException(_circle(frame))
            if stamp_ns != 0:
                oldest = stamp_ns if oldest is None else min(oldest, stamp_ns)
            reached[frame] = oldest
        return reached


def _check_name(argument: str, frame: str) -> None:
    if not frame:
        raise InvalidArgumentException(f"{argument} is empty, expected the name of a frame")
    if frame.startswith("/"):
        raise InvalidArgumentException(
            f"{argument} '{frame}' starts with '/', which tf2 frame names do not; drop it"
        )


def _check_link(parent: str, child: str, translation: Vector, quat_xyzw: Quaternion) -> None:
    link = f"transform from '{child}' to '{parent}'"
    if not parent or not child:
        raise InvalidArgumentException(f"{link} refused: a frame name is empty")
    if parent == child:
        raise InvalidArgumentException(f"{link} refused: frame and child frame are the same")
    if not all(map(math.isfinite, (*translation, *quat_xyzw))):
        raise InvalidArgumentException(
            f"{link} refused: translation {translation} or quaternion {quat_xyzw} has a NaN or "
            "an infinite value"
        )
    squared = sum(value * value for value in quat_xyzw)
    if abs(squared - 1) > QUATERNION_TOLERANCE:
        raise InvalidArgumentException(
            f"{link} refused: quaternion xyzw {quat_xyzw} has length {math.sqrt(squared):g}, "
            "expected 1: normalise it where it is published"
        )


def _when_looking_up(
    fault: ExtrapolationException, target: str, source: str
) -> ExtrapolationException:
    return ExtrapolationException(
        f"{fault}, when looking up transform from frame [{source}] to frame [{target}]",
        is_past=fault.is_past,
    )


def _unconnected(target: str, source: str) -> ConnectivityException:
    return ConnectivityException(
        f"Could not find a connection between '{target}' and '{source}' because they are not "
        "part of the same tree. Tf has two or more unconnected trees."
    )


def _circle(frame: str) -> str:
    return f"The tf tree is invalid because it contains a loop, met above '{frame}'"
