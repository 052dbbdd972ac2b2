# SPDX-License-Identifier: Apache-2.0
"""The last seconds of one camera, kept so that a question may be about what just happened.

Knows no ROS and no clock: time is what the stamps say, and frames keep theirs. Mutable, owned by
who fills it; one thread adds, another reads, a lock guards both.

Held at most: the frames of `seconds`, `fps` of them in each, and never more than `max_bytes` of
pictures, the oldest going first. Pictures are held, not copied. Depth is dropped: no question
about a video reads it, and it takes more than a picture.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import replace

from ..errors import ConfigError
from .camera import Frame

# Stamps that go back by more are a camera or bag that started again, not frames out of order.
JUMP_BACK_NS = 1_000_000_000


class RecentFrames:
    """A ring of frames in the order of their stamps, thinned as they come."""

    def __init__(self, *, seconds: float, fps: float, max_bytes: int) -> None:
        """An empty ring.

        Args:
            seconds: how far back from the newest frame it reaches.
            fps: frames kept of each second, at most; a slower camera's are all kept.
            max_bytes: of pictures, height x width x 3 each.

        Raises:
            ConfigError: one of them is not positive.
        """
        if not all(0 < number < math.inf for number in (seconds, fps, max_bytes)):
            raise ConfigError(
                f"recent frames are to be kept for {seconds} s, {fps} a second, in {max_bytes} "
                "bytes, expected all of them positive and finite"
            )
        self._reach_ns = round(seconds * 1e9)
        self._step_ns = round(1e9 / fps)
        self._max_bytes = max_bytes
        self._frames: deque[Frame] = deque()
        # Of the last frame taken in; it may be gone already, when it alone is over `max_bytes`.
        self._newest_ns: int | None = None
        self._due_ns = 0
        self._lock = threading.Lock()

    def is_due(self, stamp_ns: int) -> bool:
        """Whether a frame of that stamp would be taken in, so that others need not be decoded.

        A frame may come half a step early, but then the next one is due no earlier: so a camera of
        just `fps`, whose stamps waver, is not halved, and a faster one is not kept oftener.
        """
        with self._lock:
            return self._is_due(stamp_ns)

    def add(self, frame: Frame) -> bool:
        """Takes a frame in, if it is due.

        What is held is dropped when stamps go back by more than `JUMP_BACK_NS`, or when the
        picture's size or frame_id is another: a clip is of one camera, and goes forward.
        """
        frame = replace(frame, depth_m=None)
        with self._lock:
            if not self._is_due(frame.stamp_ns):
                return False
            if not self._goes_on(frame):
                self._frames.clear()
                self._due_ns = frame.stamp_ns
            # After a gap, steps are counted anew; else a gap would be made up for in a burst.
            is_late = frame.stamp_ns - self._due_ns > self._step_ns // 2
            self._due_ns = (frame.stamp_ns if is_late else self._due_ns) + self._step_ns
            self._newest_ns = frame.stamp_ns
            self._frames.append(frame)
            most = self._max_bytes // frame.image.nbytes
            oldest_ns = frame.stamp_ns - self._reach_ns
            while self._frames and (
                len(self._frames) > most or self._frames[0].stamp_ns < oldest_ns
            ):
                self._frames.popleft()
            return True

    def last(self, seconds: float) -> tuple[Frame, ...]:
        """Frames of the last seconds before the newest, in the order of their stamps."""
        with self._lock:
            frames = tuple(self._frames)
        return tuple(
            frame for frame in frames if frames[-1].stamp_ns - frame.stamp_ns <= seconds * 1e9
        )

    def clear(self) -> None:
        """Forgets all of it."""
        with self._lock:
            self._frames.clear()
            self._newest_ns = None

    def _is_due(self, stamp_ns: int) -> bool:
        if self._newest_ns is None or stamp_ns < self._newest_ns - JUMP_BACK_NS:
            return True
        # Not again the newest, and none before it: repeated or out of order.
        return stamp_ns > self._newest_ns and stamp_ns >= self._due_ns - self._step_ns // 2

    def _goes_on(self, frame: Frame) -> bool:
        """Whether a frame is of the same camera as those held, and later."""
        if self._newest_ns is None or frame.stamp_ns < self._newest_ns:
            return False
        return all(
            frame.frame_id == held.frame_id and frame.image.shape == held.image.shape
            for held in tuple(self._frames)[-1:]
        )
