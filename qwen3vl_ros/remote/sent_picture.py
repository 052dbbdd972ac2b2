# SPDX-License-Identifier: Apache-2.0
"""A view becomes pictures that a server takes: resized by the model's own rule, and encoded.

Knows no protocol. What is sent has the size that the checkpoint's preprocessing would give it, so
that the server's own resize changes nothing and the tower sees the pixels it sees here; PNG keeps
them bit for bit. A clip is sent as stills with their times. Depth and calibration stay here.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..image.preprocess import smart_resize
from ..language.chat import Picture
from ..model.vision_language_model import Sight, View
from ..scene.camera import Frame
from ..scene.clip import Clip, evenly
from .remote_server import FACTOR, PATCH_SIZE, PictureFormat, RemoteServer

NANOSECONDS = 1e9


@dataclass(frozen=True, kw_only=True, slots=True)
class SentPicture:
    """A picture, ready to be sent.

    Attributes:
        data: the file, encoded.
        media_type: what it is, such as "image/png".
        grid_hw: patch rows and patch columns that the model will see.
    """

    data: bytes
    media_type: str
    grid_hw: tuple[int, int]

    @property
    def image_tokens(self) -> int:
        """What it takes in the prompt."""
        rows, columns = self.grid_hw
        return rows * columns * PATCH_SIZE**2 // FACTOR**2


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteSight(Sight):
    """A view, encoded; one picture for each part."""

    pictures: tuple[SentPicture, ...]


def sight_from_view(view: View, server: RemoteServer) -> RemoteSight:
    """The pictures of a view.

    Raises:
        FrameError: one side of the picture is more than 200 times the other.
    """
    if isinstance(view, Frame):
        picture = sent_picture(view.image, server, max_pixels=server.max_pixels)
        return RemoteSight(parts=(Picture(grid_hw=picture.grid_hw),), pictures=(picture,))
    stills = _stills(view, fps=server.clip_fps, most=server.clip_max_stills)
    pictures = tuple(
        sent_picture(still.image, server, max_pixels=server.clip_max_pixels) for still in stills
    )
    parts = tuple(
        Picture(grid_hw=picture.grid_hw, time_s=(still.stamp_ns - view.stamp_ns) / NANOSECONDS)
        for still, picture in zip(stills, pictures, strict=True)
    )
    return RemoteSight(parts=parts, pictures=pictures)


def sent_picture(
    image: npt.NDArray[np.uint8], server: RemoteServer, *, max_pixels: int
) -> SentPicture:
    """One picture, resized and encoded.

    Args:
        image: (h, w, 3) uint8, RGB.
        server: says how.
        max_pixels: its area is at most this.

    Raises:
        FrameError: one side is more than 200 times the other.
    """
    height, width = smart_resize(
        image.shape[0],
        image.shape[1],
        factor=FACTOR,
        min_pixels=server.min_pixels,
        max_pixels=max_pixels,
    )
    resized = Image.fromarray(np.ascontiguousarray(image)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    file = io.BytesIO()
    if server.picture_format is PictureFormat.PNG:
        # Level 6 takes two to three times as long and saves 15 %, measured on docs/scene.jpg.
        resized.save(file, "PNG", compress_level=1)
    else:
        # Full colour resolution: thin coloured things are what a box is asked around.
        resized.save(file, "JPEG", quality=server.jpeg_quality, subsampling=0)
    return SentPicture(
        data=file.getvalue(),
        media_type=f"image/{server.picture_format.value}",
        grid_hw=(height // PATCH_SIZE, width // PATCH_SIZE),
    )


def _stills(clip: Clip, *, fps: float, most: int) -> Sequence[Frame]:
    """Frames of a clip, evenly spread in time; first and last among them, if two may be."""
    wanted = max(2, round(clip.duration_s * fps))
    count = min(len(clip.frames), most, wanted)
    return evenly(clip.frames, count) if count > 1 else clip.frames[:1]
