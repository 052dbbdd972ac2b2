# SPDX-License-Identifier: Apache-2.0
"""The newest image of one camera, with the depth and calibration that belong to it.

Callbacks put messages in, one worker takes the newest moment out; whatever is overtaken is
dropped and counted. Nothing is decoded here. Depth is paired by nearest stamp within a slop. An
image waits a bounded time for depth and calibration, and only while someone publishes them.

Held at most: `MAX_WAITING_IMAGES` images (one, as soon as its depth is there), `MAX_DEPTHS` depth
images, one camera_info. This object owns them; a lock guards them. Waiting is on a steady clock;
stamps are compared only with each other.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from sensor_msgs.msg import CameraInfo, Image

MAX_WAITING_IMAGES = 4
MAX_DEPTHS = 6
# Stamps that go back by more are a camera or bag that started again, not packets out of order.
JUMP_BACK_NS = 1_000_000_000


def stamp_ns(message: Image | CameraInfo) -> int:
    """Nanoseconds of a header stamp; 0 when it has none."""
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """One image and what belongs to it; depth and calibration are None where they are missing.

    Attributes:
        depth_expected: True when someone publishes depth, so that its absence is worth a word.
        nearest_depth_off_s: where depth is missing, how far the stamp of the nearest one held is
            from the image's; None when none is held.
    """

    image: Image
    depth: Image | None
    camera_info: CameraInfo | None
    depth_expected: bool
    nearest_depth_off_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PairingCounts:
    """Messages since the start.

    Attributes:
        images: received.
        taken: handed to the worker.
        overtaken: dropped because a newer image was there.
        duplicate: dropped because their stamp had been seen.
        out_of_order: dropped because they were older than one seen before.
        depths: received.
        without_depth: taken without the depth that someone publishes.
        camera_infos: received.
        time_jumps: times at which everything was dropped because stamps went back.
    """

    images: int = 0
    taken: int = 0
    overtaken: int = 0
    duplicate: int = 0
    out_of_order: int = 0
    depths: int = 0
    without_depth: int = 0
    camera_infos: int = 0
    time_jumps: int = 0


class CameraPairing:
    """A mailbox of one moment for one camera; the newest wins."""

    def __init__(
        self, *, slop_s: float, wait_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._slop_ns = round(slop_s * 1e9)
        self._wait_s = wait_s
        self._clock = clock
        self._changed = threading.Condition()
        self._images: deque[Image] = deque()
        self._waiting_since = math.inf
        self._depths: deque[Image] = deque(maxlen=MAX_DEPTHS)
        self._camera_info: CameraInfo | None = None
        self._newest_ns = 0
        self._depth_expected = False
        self._camera_info_expected = False
        self._counts = PairingCounts()

    @property
    def counts(self) -> PairingCounts:
        """A snapshot of what was received and what became of it."""
        with self._changed:
            return self._counts

    def configure(self, *, slop_s: float, wait_s: float) -> None:
        """Changes how far stamps may differ, and how long an image waits."""
        with self._changed:
            self._slop_ns, self._wait_s = round(slop_s * 1e9), wait_s

    def expect(self, *, depth: bool, camera_info: bool) -> None:
        """Says whether anyone publishes depth and calibration, so that waiting makes sense."""
        with self._changed:
            self._depth_expected, self._camera_info_expected = depth, camera_info

    def put_image(self, image: Image) -> None:
        """Takes an image in, unless it is not newer than the last."""
        stamp = stamp_ns(image)
        with self._changed:
            self._count(images=1)
            if stamp and stamp == self._newest_ns:
                return self._count(duplicate=1)
            if stamp and stamp < self._newest_ns - JUMP_BACK_NS:
                self._forget()
                self._count(time_jumps=1)
            elif stamp and stamp < self._newest_ns:
                return self._count(out_of_order=1)
            self._newest_ns = stamp or self._newest_ns
            if not self._images:
                self._waiting_since = self._clock()
            self._images.append(image)
            self._drop_overtaken()
            self._changed.notify_all()

    def put_depth(self, depth: Image) -> None:
        """Takes a depth image in."""
        with self._changed:
            self._count(depths=1)
            if self._depths and stamp_ns(depth) < stamp_ns(self._depths[-1]) - JUMP_BACK_NS:
                self._depths.clear()
            self._depths.append(depth)
            self._drop_overtaken()
            self._changed.notify_all()

    def put_camera_info(self, camera_info: CameraInfo) -> None:
        """Takes a calibration in; the newest holds for every image after it."""
        with self._changed:
            self._count(camera_infos=1)
            self._camera_info = camera_info
            self._changed.notify_all()

    def take(self, *, timeout_s: float) -> Moment | None:
        """The newest moment, waiting for one at most `timeout_s`; never the same twice."""
        deadline = self._clock() + timeout_s
        with self._changed:
            while True:
                now = self._clock()
                image = self._choice(now)
                if image is not None:
                    return self._taken(image)
                if now >= deadline:
                    return None
                give_up = self._waiting_since + self._wait_s if self._images else math.inf
                self._changed.wait(max(min(deadline, give_up) - now, 0.0))

    def reset(self) -> None:
        """Drops all that is held: time went back, or nobody will want it."""
        with self._changed:
            self._forget()

    def _choice(self, now: float) -> Image | None:
        for image in reversed(self._images):
            if self._is_complete(image):
                return image
        if self._images and now >= self._waiting_since + self._wait_s:
            return self._images[-1]
        return None

    def _taken(self, image: Image) -> Moment:
        depth = self._nearest_depth(image)
        missing = self._depth_expected and depth is None
        off_ns = [abs(stamp_ns(held) - stamp_ns(image)) for held in self._depths]
        overtaken = self._drop_before(image)
        self._images.popleft()
        self._waiting_since = self._clock() if self._images else math.inf
        self._count(taken=1, overtaken=overtaken, without_depth=int(missing))
        while self._depths and stamp_ns(self._depths[0]) < stamp_ns(image) - self._slop_ns:
            self._depths.popleft()
        return Moment(
            image=image,
            depth=depth,
            camera_info=self._camera_info,
            depth_expected=self._depth_expected,
            nearest_depth_off_s=min(off_ns) / 1e9 if missing and off_ns else None,
        )

    def _is_complete(self, image: Image) -> bool:
        if self._camera_info_expected and self._camera_info is None:
            return False
        if not self._depth_expected:
            return True
        # Only a depth at or after the image settles which one is nearest.
        settled = any(stamp_ns(depth) >= stamp_ns(image) for depth in self._depths)
        return settled and self._nearest_depth(image) is not None

    def _nearest_depth(self, image: Image) -> Image | None:
        wanted = stamp_ns(image)
        nearest = min(self._depths, key=lambda d: abs(stamp_ns(d) - wanted), default=None)
        if nearest is None or abs(stamp_ns(nearest) - wanted) > self._slop_ns:
            return None
        return nearest

    def _drop_overtaken(self) -> None:
        complete = next((i for i in reversed(self._images) if self._is_complete(i)), None)
        overtaken = self._drop_before(complete) if complete is not None else 0
        while len(self._images) > MAX_WAITING_IMAGES:
            self._images.popleft()
            overtaken += 1
        self._count(overtaken=overtaken)

    def _drop_before(self, image: Image) -> int:
        dropped = 0
        while self._images[0] is not image:
            self._images.popleft()
            dropped += 1
        return dropped

    def _forget(self) -> None:
        self._images.clear()
        self._depths.clear()
        self._waiting_since = math.inf
        self._newest_ns = 0

    def _count(self, **increments: int) -> None:
        self._counts = replace(
            self._counts,
            **{name: getattr(self._counts, name) + n for name, n in increments.items()},
        )
