# SPDX-License-Identifier: Apache-2.0
"""Image messages of the last seconds, kept as frames for videos and rows of pictures.

Filled by the image callback, read by the worker. Which are kept, `scene/recent_frames.py` decides
by their stamps; only those are decoded, a few each second. Rectifying waits until somebody asks
(`shown.py`).
"""

from __future__ import annotations

from sensor_msgs.msg import Image

from ..errors import FrameError
from ..scene.camera import Frame
from ..scene.recent_frames import RecentFrames
from .camera_pairing import stamp_ns
from .fault_log import FaultLog
from .images import rgb_from_image


class RecentPictures:
    """The pictures kept; owned by the node."""

    def __init__(self, *, keep_s: float, fps: float, max_bytes: int, faults: FaultLog) -> None:
        """`keep_s` 0 keeps none; the rest as of `RecentFrames`."""
        self._frames = (
            RecentFrames(seconds=keep_s, fps=fps, max_bytes=max_bytes) if keep_s else None
        )
        self._faults = faults

    def put(self, message: Image) -> None:
        """Keeps a picture, if one is due; never one without a stamp, which has no time."""
        stamp = stamp_ns(message)
        if self._frames is None or not stamp or not self._frames.is_due(stamp):
            return
        try:
            image = rgb_from_image(message)
        except FrameError as exc:
            self._faults.report("image", str(exc))
            return
        self._frames.add(Frame(image=image, stamp_ns=stamp, frame_id=message.header.frame_id))

    def last(self, seconds: float) -> tuple[Frame, ...]:
        """Frames of the last seconds before the newest one kept, in the order of their stamps."""
        return self._frames.last(seconds) if self._frames is not None else ()

    def reset(self) -> None:
        """Forgets all of it."""
        if self._frames is not None:
            self._frames.clear()
