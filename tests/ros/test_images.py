# SPDX-License-Identifier: Apache-2.0
"""What a camera may send, and what comes of it; OpenCV's own conversions are the oracle."""

from __future__ import annotations

import array
import tracemalloc
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.ros.images import COLOR_LAYOUTS, depth_from_image, image_from_rgb, rgb_from_image

# Four large fields of one colour each; subsampled colour is exact inside a field.
COLOURS = np.array([[220, 40, 40], [40, 200, 60], [50, 60, 210], [230, 230, 230]], np.uint8)
CARD = np.repeat(np.repeat(COLOURS.reshape(2, 2, 3), 8, axis=0), 8, axis=1)
GREY = cv2.cvtColor(CARD, cv2.COLOR_RGB2GRAY)
FIELD_CENTRES = ([4, 4, 12, 12], [4, 12, 4, 12])


def message(
    samples: npt.NDArray[Any],
    encoding: str,
    *,
    height: int | None = None,
    width: int | None = None,
    padding: int = 0,
    is_bigendian: int = 0,
) -> Image:
    rows = np.ascontiguousarray(samples).view(np.uint8).reshape(samples.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xEE)
    return Image(
        height=height or samples.shape[0],
        width=width or samples.shape[1],
        encoding=encoding,
        step=rows.shape[1],
        is_bigendian=is_bigendian,
        data=array.array("B", rows.tobytes()),
    )


def wide(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """16-bit samples whose upper byte is the picture."""
    return (picture.astype(np.uint16) << 8) | 0x5A


def mosaic(pattern: str) -> npt.NDArray[np.uint8]:
    """What a sensor with this 2 x 2 pattern sees of the card."""
    channels = ["rgb".index(letter) for letter in pattern]
    seen = np.empty(CARD.shape[:2], np.uint8)
    for place, channel in enumerate(channels):
        rows, columns = slice(place // 2, None, 2), slice(place % 2, None, 2)
        seen[rows, columns] = CARD[rows, columns, channel]
    return seen


def planar_yuv(order: str) -> npt.NDArray[np.uint8]:
    """nv12 ('uv') or nv21 ('vu'): the luma plane, then one pair per 2 x 2 pixels."""
    i420 = cv2.cvtColor(CARD, cv2.COLOR_RGB2YUV_I420)
    height, width = CARD.shape[:2]
    u, v = i420[height:].reshape(2, height // 2, width // 2)
    planes = {"u": u, "v": v}
    chroma = np.stack([planes[order[0]], planes[order[1]]], axis=-1).reshape(height // 2, width)
    return np.concatenate([i420[:height], chroma])


def packed_yuv(order: str) -> npt.NDArray[np.uint8]:
    """uyvy or yuyv: (h, w, 2)."""
    y = planar_yuv("uv")[: CARD.shape[0]]
    chroma = planar_yuv("uv")[CARD.shape[0] :].repeat(2, axis=0)
    planes = (chroma, y) if order == "uyvy" else (y, chroma)
    return np.stack(planes, axis=-1)


def nv24() -> npt.NDArray[np.uint8]:
    height, width = CARD.shape[:2]
    chroma = planar_yuv("uv")[height:].reshape(height // 2, width // 2, 2)
    full = chroma.repeat(2, axis=0).repeat(2, axis=1)
    return np.concatenate([planar_yuv("uv")[:height], full.reshape(2 * height, width)])


ALPHA = np.full((*CARD.shape[:2], 1), 77, np.uint8)
RGBA = np.concatenate([CARD, ALPHA], axis=2)
BGRA = np.concatenate([CARD[..., ::-1], ALPHA], axis=2)
COLOUR_MESSAGES = {
    "rgb8": message(CARD, "rgb8"),
    "bgr8": message(CARD[..., ::-1], "bgr8"),
    "rgba8": message(RGBA, "rgba8"),
    "bgra8": message(BGRA, "bgra8"),
    "rgb16": message(wide(CARD), "rgb16"),
    "bgr16": message(wide(CARD[..., ::-1]), "bgr16"),
    "rgba16": message(wide(RGBA), "rgba16"),
    "bgra16": message(wide(BGRA), "bgra16"),
    **{f"bayer_{p}8": message(mosaic(p), f"bayer_{p}8") for p in ("rggb", "bggr", "gbrg", "grbg")},
    **{
        f"bayer_{p}16": message(wide(mosaic(p)), f"bayer_{p}16")
        for p in ("rggb", "bggr", "gbrg", "grbg")
    },
    "uyvy": message(packed_yuv("uyvy"), "uyvy"),
    "yuv422": message(packed_yuv("uyvy"), "yuv422"),
    "yuyv": message(packed_yuv("yuyv"), "yuyv"),
    "yuv422_yuy2": message(packed_yuv("yuyv"), "yuv422_yuy2"),
    "nv12": message(planar_yuv("uv"), "nv12", height=16),
    "nv21": message(planar_yuv("vu"), "nv21", height=16),
    "nv24": message(nv24(), "nv24", height=16),
}
GREY_MESSAGES = {
    "mono8": message(GREY, "mono8"),
    "8UC1": message(GREY, "8UC1"),
    "mono16": message(wide(GREY), "mono16"),
}


@pytest.mark.parametrize("encoding", COLOUR_MESSAGES)
def test_every_colour_encoding_shows_the_same_card(encoding):
    rgb = rgb_from_image(COLOUR_MESSAGES[encoding])
    assert rgb.shape == CARD.shape
    assert rgb.dtype == np.uint8
    np.testing.assert_allclose(rgb[FIELD_CENTRES].astype(int), COLOURS, atol=4)


@pytest.mark.parametrize("encoding", GREY_MESSAGES)
def test_grey_becomes_three_equal_channels(encoding):
    rgb = rgb_from_image(GREY_MESSAGES[encoding])
    np.testing.assert_array_equal(rgb, np.dstack([GREY] * 3))


def test_the_tables_above_cover_every_encoding_we_claim():
    assert COLOR_LAYOUTS.keys() == COLOUR_MESSAGES.keys() | GREY_MESSAGES.keys()


@pytest.mark.parametrize("encoding", ["rgb8", "bgr16", "mono8", "uyvy", "nv12"])
def test_padding_of_rows_is_left_out(encoding):
    tight = (COLOUR_MESSAGES | GREY_MESSAGES)[encoding]
    rows = np.frombuffer(tight.data, np.uint8).reshape(-1, tight.step)
    padded = message(rows, encoding, height=tight.height, width=tight.width, padding=6)
    np.testing.assert_array_equal(rgb_from_image(padded), rgb_from_image(tight))


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bayer_rggb16"])
def test_the_byte_order_of_16_bit_samples_is_honoured(encoding):
    little = (COLOUR_MESSAGES | GREY_MESSAGES)[encoding]
    swapped = np.frombuffer(little.data, np.uint16).byteswap().reshape(little.height, -1)
    big = message(swapped, encoding, width=little.width, is_bigendian=1)
    np.testing.assert_array_equal(rgb_from_image(big), rgb_from_image(little))


def test_bytes_after_the_last_row_are_ignored_and_its_padding_may_be_missing():
    longer = message(CARD, "rgb8", padding=4)
    longer.data.extend([1, 2, 3])
    np.testing.assert_array_equal(rgb_from_image(longer), CARD)
    shorter = message(CARD, "rgb8", padding=4)
    del shorter.data[-4:]
    np.testing.assert_array_equal(rgb_from_image(shorter), CARD)


def broken(**changes: Any) -> Image:
    image = message(CARD, "rgb8")
    for name, value in changes.items():
        setattr(image, name, value)
    return image


BROKEN = [
    pytest.param(broken(encoding="foo8"), "encoding is 'foo8'", id="unknown encoding"),
    pytest.param(broken(encoding=""), "encoding is ''", id="no encoding"),
    pytest.param(broken(encoding="8UC3"), "encoding is '8UC3'", id="order of channels unsaid"),
    pytest.param(broken(data=CARD.tobytes()[:-1]), "arrived short", id="one byte short"),
    pytest.param(broken(data=b""), "arrived short", id="no data"),
    pytest.param(broken(width=0), "at least 1 x 1", id="no width"),
    pytest.param(broken(height=0), "at least 1 x 1", id="no height"),
    pytest.param(broken(step=0), "step is 0", id="no step"),
    pytest.param(broken(step=47), "step is 47", id="step shorter than a row"),
    pytest.param(broken(encoding="uyvy", width=15), "even", id="odd uyvy"),
    pytest.param(broken(encoding="nv12", height=15), "even", id="odd nv12"),
    pytest.param(broken(encoding="mono16", step=49), "multiple", id="step cuts a sample"),
    pytest.param(broken(encoding="nv24", step=17), "without padding", id="padded nv24"),
]


@pytest.mark.parametrize(("image", "words"), BROKEN)
def test_a_broken_image_is_refused_and_told_why_and_what_to_do(image, words):
    with pytest.raises(FrameError, match=words) as refused:
        rgb_from_image(image)
    assert "publish" in str(refused.value), "who publishes it can mend it"


def test_a_header_that_claims_billions_of_pixels_allocates_nothing():
    image = broken(width=2**31, height=2**31, step=2**32 - 1)
    tracemalloc.start()
    with pytest.raises(FrameError, match="100,000,000 pixels"):
        rgb_from_image(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


MILLIMETRES = np.array([[0, 1, 1500], [65535, 2000, 999]], np.uint16)
METRES = np.array([[np.nan, 0.001, 1.5], [65.535, 2.0, 0.999]], np.float32)


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_millimetres_become_metres_and_zero_becomes_unknown(encoding, is_bigendian):
    samples = MILLIMETRES.byteswap() if is_bigendian else MILLIMETRES
    depth_m = depth_from_image(message(samples, encoding, is_bigendian=is_bigendian))
    assert depth_m.dtype == np.float32
    np.testing.assert_allclose(depth_m, METRES, rtol=1e-6)


@pytest.mark.parametrize("is_bigendian", [0, 1])
def test_metres_stay_and_all_that_is_no_distance_becomes_unknown(is_bigendian):
    samples = np.array([[1.25, np.nan, np.inf], [-np.inf, 0.0, -1.0]], np.float32)
    expected = np.array([[1.25, np.nan, np.nan], [np.nan, np.nan, np.nan]])
    sent = samples.byteswap() if is_bigendian else samples
    depth_m = depth_from_image(message(sent, "32FC1", padding=8, is_bigendian=is_bigendian))
    np.testing.assert_array_equal(depth_m, expected)
    assert depth_m.dtype.isnative


@pytest.mark.parametrize(
    ("image", "words"),
    [
        pytest.param(message(MILLIMETRES, "rgb8"), "depth encoding is 'rgb8'", id="colour"),
        pytest.param(message(MILLIMETRES, "32FC1"), "step is 6", id="claims to be floats"),
        pytest.param(message(MILLIMETRES, "16UC1", height=3), "arrived short", id="short"),
    ],
)
def test_a_broken_depth_image_is_refused_and_told_why_and_what_to_do(image, words):
    with pytest.raises(FrameError, match=words) as refused:
        depth_from_image(image)
    assert "publish" in str(refused.value)


def test_a_picture_survives_the_way_out_and_back():
    header = Header(frame_id="camera")
    image = image_from_rgb(CARD, header=header)
    assert image.header == header
    np.testing.assert_array_equal(rgb_from_image(image), CARD)
