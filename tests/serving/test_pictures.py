# SPDX-License-Identifier: Apache-2.0
"""Pictures in a request become exactly the pixels that were sent."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from qwen3vl_ros.serving.fields import Field
from qwen3vl_ros.serving.pictures import PictureReader
from tests.serving.requests import data_url, speckled

SIDEWAYS = 6  # Exif: turn by a quarter, clockwise, to see it upright
ORIENTATION = 0x0112


def pixels(url: str) -> np.ndarray:
    reader = PictureReader()
    reader.read(Field(url))
    (frame,) = reader.frames
    return frame.image


def test_a_png_arrives_bit_for_bit():
    sent = speckled(37, 33)
    np.testing.assert_array_equal(pixels(data_url(sent)), np.asarray(sent))


@pytest.mark.parametrize("head", ["data:image/jpg;base64,", "DATA:image/JPEG;BASE64,"])
def test_the_picture_itself_says_its_format(head):
    sent = data_url(speckled()).replace("data:image/png;base64,", head)
    np.testing.assert_array_equal(pixels(sent), np.asarray(speckled()))


def test_a_jpeg_is_decoded_as_pillow_does():
    url = data_url(speckled(), "JPEG", quality=90)
    assert np.abs(pixels(url).astype(int) - np.asarray(speckled())).mean() < 60
    assert pixels(url).shape == (48, 64, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_picture_taken_sideways_is_turned_upright(kind, tmp_path):
    """As `qwen3vl ground` reads a JPEG; boxes would otherwise be of two pictures."""
    sent = Image.fromarray(np.kron([[0, 255], [90, 160]], np.ones((16, 24))).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = SIDEWAYS
    got = pixels(data_url(sent, kind, exif=exif))
    assert got.shape == (48, 32, 3)
    assert np.abs(got[::47, ::31, 0].astype(int) - [[90, 0], [160, 255]]).max() < 5
    file = tmp_path / f"sideways.{kind.lower()}"
    sent.save(file, kind, exif=exif)
    if kind == "JPEG":
        read = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        assert read.shape == got.shape


@pytest.mark.parametrize(
    ("image", "first_pixel"),
    [
        pytest.param(Image.new("L", (4, 4), 7), [7, 7, 7], id="grey"),
        pytest.param(Image.new("1", (4, 4), 1), [255, 255, 255], id="black and white"),
        pytest.param(
            Image.new("RGB", (4, 4), (1, 2, 3)).convert("P", palette=Image.Palette.ADAPTIVE),
            [1, 2, 3], id="palette",
        ),
        pytest.param(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), [255] * 3, id="transparent"),
        pytest.param(Image.new("RGBA", (4, 4), (10, 20, 30, 255)), [10, 20, 30], id="opaque"),
        pytest.param(Image.new("LA", (4, 4), (0, 51)), [204] * 3, id="a fifth of black"),
    ],
)  # fmt: skip
def test_every_kind_of_eight_bits_becomes_rgb(image, first_pixel):
    assert pixels(data_url(image))[0, 0].tolist() == first_pixel
