# SPDX-License-Identifier: Apache-2.0
"""sensor_msgs/Image into arrays and back: colour to RGB, depth to metres.

Knows no calibration and no stamps. Everything a header claims is checked before a byte is read or
allocated: sizes, step, length, encoding, byte order. numpy and OpenCV only: cv_bridge fails under
NumPy 2 and says too little about a short buffer.

Layout: rows may be padded (`step`); bytes after the last row are ignored, as cv_bridge does.
"""

from __future__ import annotations

import array
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ..errors import FrameError

# 100 megapixels: past any robot camera; a header that claims more is broken or hostile.
MAX_PIXELS = 100_000_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How an encoding lies in memory, and how it becomes RGB.

    Attributes:
        channels: samples per pixel and row.
        sample_bytes: 1, or 2 for 16-bit samples, of which the upper byte is used.
        to_rgb: OpenCV conversion of the 8-bit samples; None where they are RGB already.
        rows_per_height: rows of data per row of picture, as (numerator, denominator).
        even: True when width (and, for planar layouts, height) must be even.
    """

    channels: int
    sample_bytes: int = 1
    to_rgb: int | None = None
    rows_per_height: tuple[int, int] = (1, 1)
    even: bool = False


COLOR_LAYOUTS: dict[str, Layout] = {
    "rgb8": Layout(channels=3),
    "bgr8": Layout(channels=3, to_rgb=cv2.COLOR_BGR2RGB),
    "rgba8": Layout(channels=4, to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra8": Layout(channels=4, to_rgb=cv2.COLOR_BGRA2RGB),
    "mono8": Layout(channels=1, to_rgb=cv2.COLOR_GRAY2RGB),
    "8UC1": Layout(channels=1, to_rgb=cv2.COLOR_GRAY2RGB),
    "rgb16": Layout(channels=3, sample_bytes=2),
    "bgr16": Layout(channels=3, sample_bytes=2, to_rgb=cv2.COLOR_BGR2RGB),
    "rgba16": Layout(channels=4, sample_bytes=2, to_rgb=cv2.COLOR_RGBA2RGB),
    "bgra16": Layout(channels=4, sample_bytes=2, to_rgb=cv2.COLOR_BGRA2RGB),
    "mono16": Layout(channels=1, sample_bytes=2, to_rgb=cv2.COLOR_GRAY2RGB),
    # OpenCV names a Bayer pattern by its second row: ROS's rggb is OpenCV's BG (cv_bridge agrees).
    "bayer_rggb8": Layout(channels=1, to_rgb=cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": Layout(channels=1, to_rgb=cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": Layout(channels=1, to_rgb=cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": Layout(channels=1, to_rgb=cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": Layout(channels=1, sample_bytes=2, to_rgb=cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": Layout(channels=1, sample_bytes=2, to_rgb=cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": Layout(channels=1, sample_bytes=2, to_rgb=cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": Layout(channels=1, sample_bytes=2, to_rgb=cv2.COLOR_BayerGB2RGB),
    "uyvy": Layout(channels=2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, even=True),
    "yuv422": Layout(channels=2, to_rgb=cv2.COLOR_YUV2RGB_UYVY, even=True),
    "yuyv": Layout(channels=2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, even=True),
    "yuv422_yuy2": Layout(channels=2, to_rgb=cv2.COLOR_YUV2RGB_YUY2, even=True),
    # nv12 is no ROS name, but what Jetson drivers say.
    "nv12": Layout(channels=1, to_rgb=cv2.COLOR_YUV2RGB_NV12, rows_per_height=(3, 2), even=True),
    "nv21": Layout(channels=1, to_rgb=cv2.COLOR_YUV2RGB_NV21, rows_per_height=(3, 2), even=True),
    "nv24": Layout(channels=1, rows_per_height=(3, 1)),
}

# 16UC1 and mono16 are millimetres with 0 = unknown (REP 118), 32FC1 is metres.
DEPTH_SAMPLES: dict[str, str] = {"16UC1": "u2", "mono16": "u2", "32FC1": "f4"}
MILLIMETRES_PER_METRE = np.float32(1000)

# BT.601 in video range, the same that OpenCV applies to nv12; columns: Y, U, V, 1.
RGB_FROM_YUV = np.array(
    [
        [1.164, 0.0, 1.596, -16 * 1.164 - 128 * 1.596],
        [1.164, -0.391, -0.813, -16 * 1.164 + 128 * (0.391 + 0.813)],
        [1.164, 2.018, 0.0, -16 * 1.164 - 128 * 2.018],
    ]
)


def rgb_from_image(message: Image) -> npt.NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB of a colour or grey image; may share the message's memory.

    Raises:
        FrameError: unknown encoding, impossible size, or less data than the header says.
    """
    layout = COLOR_LAYOUTS.get(message.encoding)
    if layout is None:
        raise FrameError(
            f"image encoding is '{message.encoding[:64]}', expected one of "
            f"{', '.join(COLOR_LAYOUTS)}; convert it, for example to rgb8, where it is published"
        )
    if layout.even and (message.width % 2 or (message.height % 2 and layout.channels == 1)):
        raise FrameError(
            f"image is {message.width} x {message.height} pixels, '{message.encoding}' needs even "
            "sizes, because neighbours share colour samples: crop it, or publish rgb8"
        )
    if message.encoding == "nv24" and message.step != message.width:
        raise FrameError(
            f"image step is {message.step} bytes, 'nv24' is read without padding only, expected "
            f"{message.width}: publish it without padding, or as rgb8"
        )
    numerator, denominator = layout.rows_per_height
    # nv24 holds its colour plane at twice the width of a row: two further rows per row.
    rows = message.height * numerator // denominator
    samples = _samples(
        message,
        rows=rows,
        row_bytes=message.width * layout.channels * layout.sample_bytes,
        sample_type=f"u{layout.sample_bytes}",
    )
    if layout.sample_bytes == 2:
        samples = (samples >> 8).astype(np.uint8)
    if message.encoding == "nv24":
        return _rgb_from_nv24(samples, width=message.width, height=message.height)
    if layout.channels > 1:
        samples = samples.reshape(rows, message.width, layout.channels)
    if layout.to_rgb is None:
        return np.ascontiguousarray(samples)
    rgb: npt.NDArray[np.uint8] = cv2.cvtColor(np.ascontiguousarray(samples), layout.to_rgb)
    return rgb


def depth_from_image(message: Image) -> npt.NDArray[np.float32]:
    """(h, w) float32 metres of a depth image; NaN where it says nothing usable.

    Unknown are: 0 in 16-bit images (REP 118); NaN, infinities (REP 117), 0 and less in floats.

    Raises:
        FrameError: unknown encoding, impossible size, or less data than the header says.
    """
    sample_type = DEPTH_SAMPLES.get(message.encoding)
    if sample_type is None:
        raise FrameError(
            f"depth encoding is '{message.encoding[:64]}', expected one of "
            f"{', '.join(DEPTH_SAMPLES)} (REP 118): publish 32FC1 metres or 16UC1 millimetres, "
            "and remap 'depth' to it"
        )
    samples = _samples(
        message,
        rows=message.height,
        row_bytes=message.width * int(sample_type[1]),
        sample_type=sample_type,
    )
    depth_m = samples.astype(np.float32)  # a copy in the byte order of this machine
    if sample_type == "u2":
        depth_m /= MILLIMETRES_PER_METRE
    depth_m[~((depth_m > 0) & (depth_m < np.inf))] = np.nan
    return depth_m


def image_from_rgb(rgb: npt.NDArray[np.uint8], *, header: Header) -> Image:
    """An rgb8 message of a (h, w, 3) uint8 picture."""
    height, width = rgb.shape[:2]
    message = Image(header=header, height=height, width=width, encoding="rgb8", step=3 * width)
    # rclpy takes an array.array in microseconds; bytes or a list it checks one by one.
    message.data = array.array("B", rgb.tobytes())
    return message


def _samples(message: Image, *, rows: int, row_bytes: int, sample_type: str) -> npt.NDArray[Any]:
    """(rows, n) uint8, uint16 or float32 (`sample_type`), without the padding of the rows.

    In the byte order of the message, read only. `Any`, because only the caller knows the type.
    """
    width, height, step = message.width, message.height, message.step
    if width == 0 or height == 0 or width * height > MAX_PIXELS:
        raise FrameError(
            f"image is {width} x {height} pixels, expected at least 1 x 1 and at most "
            f"{MAX_PIXELS:,} pixels: fix width and height where it is published"
        )
    if step < row_bytes:
        raise FrameError(
            f"image step is {step} bytes, a row of {width} pixels of '{message.encoding}' needs "
            f"{row_bytes}: fix step, width or encoding where it is published"
        )
    needed = step * (rows - 1) + row_bytes  # some drivers do not pad the last row
    if len(message.data) < needed:
        raise FrameError(
            f"image data is {len(message.data)} bytes, its header ({width} x {height} "
            f"'{message.encoding}', step {step}) needs {needed}: the picture arrived short; fix "
            "step and data where it is published"
        )
    if row_bytes % np.dtype(sample_type).itemsize or step % np.dtype(sample_type).itemsize:
        raise FrameError(
            f"image step is {step} bytes, expected a multiple of the "
            f"{np.dtype(sample_type).itemsize} bytes of a sample: fix it where it is published"
        )
    data = np.frombuffer(message.data, np.uint8, count=needed)
    samples = np.lib.stride_tricks.as_strided(data, (rows, row_bytes), (step, 1), writeable=False)
    order = ">" if message.is_bigendian else "<"
    return samples.view(order + sample_type)


def _rgb_from_nv24(
    samples: npt.NDArray[np.uint8], *, width: int, height: int
) -> npt.NDArray[np.uint8]:
    chroma = samples[height:].reshape(height, width, 2)
    yuv = np.dstack([samples[:height], chroma])
    rgb: npt.NDArray[np.uint8] = cv2.transform(yuv, RGB_FROM_YUV)
    return rgb
