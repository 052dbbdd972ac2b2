# SPDX-License-Identifier: Apache-2.0
"""What a goal of ~/ask is shown: the newest picture, recent ones in a row, or a video of them.

Pictures kept are as the camera sent them; here they are rectified as the newest one is. Times are
the camera's stamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import FrameError
from ..model.vision_language_model import View
from ..scene.camera import Frame
from ..scene.clip import Clip, evenly
from . import frames as camera
from .ask_action import AskGoal


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """Views for a question, and what is otherwise than its goal wished, one sentence each."""

    views: tuple[View, ...]
    notes: tuple[str, ...] = ()


def shown(goal: AskGoal, *, newest: camera.View, recent: Sequence[Frame]) -> Shown:
    """What the goal is shown.

    Args:
        goal: says how much of the past.
        newest: the picture in hand.
        recent: kept of the last `goal.video_s`, in the order of their stamps.

    Raises:
        FrameError: too few pictures are kept, or they are of another camera than the newest.
    """
    if not goal.video_s:
        return Shown(views=(newest.frame,))
    least = max(goal.pictures, 2)
    if len(recent) < least:
        raise FrameError(
            f"{len(recent)} pictures of the last {goal.video_s:g} s are kept, expected at least "
            f"{least}; ask again when more have come, ask for a longer video_s, or start the node "
            "with a higher video_buffer_fps (pictures without a stamp are never kept)"
        )
    height, width = recent[-1].image.shape[:2]
    if (height, width) != newest.frame.image.shape[:2]:
        raise FrameError(
            f"the pictures kept are {width} x {height} pixels, and the newest is not: the camera "
            "has changed; ask again"
        )
    lens = newest.rectification
    chosen = evenly(recent, goal.pictures) if goal.pictures else recent
    frames = tuple(
        frame if lens is None else replace(frame, image=lens.rectified_image(frame.image))
        for frame in chosen
    )
    views: tuple[View, ...] = frames if goal.pictures else (Clip(frames=frames),)
    return Shown(views=views, notes=_shorter_than_asked(recent, goal.video_s))


def _shorter_than_asked(frames: Sequence[Frame], video_s: float) -> tuple[str, ...]:
    lasts_s = (frames[-1].stamp_ns - frames[0].stamp_ns) / 1e9
    gap_s = lasts_s / (len(frames) - 1)
    # One gap is lost at either end: pictures do not come at the very borders of the time asked.
    if lasts_s + 2 * gap_s >= video_s:
        return ()
    return (
        f"the pictures kept go back {lasts_s:.1f} s, not {video_s:g}: the node has not seen more "
        "yet, or video_buffer_mb bounds them",
    )
