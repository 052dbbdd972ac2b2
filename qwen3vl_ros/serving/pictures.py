# SPDX-License-Identifier: Apache-2.0
"""A picture in a request becomes pixels, or is refused.

Knows data URLs of PNG and JPEG. Nothing is ever fetched: a server that follows addresses of
strangers reaches what they cannot, so they send the picture itself.

Pixels: as Pillow decodes them, eight bits a channel; what is transparent lies on white, as in
        Qwen's own tools. A JPEG or PNG that says it was taken sideways (Exif) is turned upright,
        as viewers and `qwen3vl ground` do, and coordinates are of the upright picture.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

from ..scene.camera import Frame
from .fields import Field
from .refusals import Refusal

MAX_PIXELS = 32_000_000  # of one picture: more than any camera's frame, 96 MB in memory
MAX_PIXELS_TOGETHER = 64_000_000  # of one request
MAX_PICTURES = 256
FRAME_ID = "request"

_DATA_URL = re.compile(r"data:image/(?:png|jpeg|jpg);base64,", re.IGNORECASE)
_GREY_OR_COLOUR = ("1", "L", "P", "RGB")
_TRANSPARENT = ("LA", "PA", "RGBA", "La", "RGBa")
# What Pillow raises on damaged files, by its sources: OSError (UnidentifiedImageError is one),
# and whatever its PNG and JPEG readers let through.
_DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error,
    zlib.error, Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip


class PictureReader:
    """The pictures of one request, in order. Mutable: counts them; owned by whoever reads it."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._room_px = MAX_PIXELS_TOGETHER

    @property
    def frames(self) -> tuple[Frame, ...]:
        """What was read so far."""
        return tuple(self._frames)

    def read(self, url: Field) -> None:
        """One more.

        Raises:
            Refusal: it cannot be used.
        """
        if len(self._frames) == MAX_PICTURES:
            raise url.refused(f"is picture {MAX_PICTURES + 1}, expected at most {MAX_PICTURES}")
        image = _decoded(_data(url), url, room_px=self._room_px)
        self._room_px -= image.width * image.height
        self._frames.append(Frame(image=np.array(image), stamp_ns=0, frame_id=FRAME_ID))


def _data(url: Field) -> bytes:
    text = url.text()
    head = _DATA_URL.match(text)
    if head is None:
        scheme = text[:64].partition(":")[0][:16]
        if scheme.lower() in ("http", "https", "file", "ftp"):
            raise url.refused(
                f"is a '{scheme}:' address, and this server does not fetch pictures; send the "
                "picture itself, as data:image/png;base64,... or data:image/jpeg;base64,..."
            )
        raise url.refused(
            f"begins with {text[:32]!r}, expected data:image/png;base64,... or "
            "data:image/jpeg;base64,..."
        )
    try:
        return base64.b64decode(text[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise url.refused(
            f"is not base64 ({error}), expected it without line breaks and whole"
        ) from error


def _decoded(data: bytes, url: Field, *, room_px: int) -> Image.Image:
    try:
        # The header only; pixels come when they are asked for.
        file = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
        _check_size(file, url, room_px=room_px)
        file.load()
        image = ImageOps.exif_transpose(file)
    except _DAMAGED as error:
        raise url.refused(
            f"cannot be decoded ({type(error).__name__}), expected a whole PNG or JPEG of at most "
            f"{MAX_PIXELS:,} pixels"
        ) from error
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        colours = image.convert("RGBA")
        on_white = Image.new("RGBA", colours.size, "white")
        return Image.alpha_composite(on_white, colours).convert("RGB")
    if image.mode not in _GREY_OR_COLOUR:
        raise url.refused(
            f"is a picture of Pillow's mode '{image.mode}', expected grey or RGB of eight bits a "
            "channel; convert it before sending"
        )
    return image.convert("RGB")


def _check_size(image: Image.Image, url: Field, *, room_px: int) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise url.refused(
            f"is a picture of {image.width} x {image.height} pixels, expected at most "
            f"{MAX_PIXELS:,} in all; send it smaller"
        )
    if pixels > room_px:
        raise Refusal(
            f"the request's pictures have more than {MAX_PIXELS_TOGETHER:,} pixels together; send "
            "fewer or smaller ones",
            param="messages",
        )
