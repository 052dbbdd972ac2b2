# SPDX-License-Identifier: Apache-2.0
"""Places in an answer led back from the rectified picture to pixels of the picture as it came."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import numpy.typing as npt

from ..scene.answers import (
    Count,
    Moment,
    Response,
    ResponseValue,
    TextSpan,
    TimedBox,
    ZoomedAnswer,
)
from .calibration import Rectification


def in_raw_pixels(response: Response, lens: Rectification | None) -> Response:
    """The response with every place in pixels of the image message; without a lens, as it is."""
    return response if lens is None else replace(response, value=_raw(response.value, lens))


def _raw(value: ResponseValue, lens: Rectification) -> ResponseValue:
    if isinstance(value, Count):
        return replace(value, uv_px=_raw_points(value.uv_px, lens))
    if isinstance(value, ZoomedAnswer):
        zooms = tuple(replace(z, xyxy_px=lens.raw_xyxy_px(z.xyxy_px)) for z in value.zooms)
        return replace(value, zooms=zooms)
    if not isinstance(value, tuple):
        return value  # words, and calls: their arguments mean what their tools say
    return cast("ResponseValue", tuple(_raw_item(item, lens) for item in value))


def _raw_item(
    item: TextSpan | TimedBox | Moment, lens: Rectification
) -> TextSpan | TimedBox | Moment:
    if isinstance(item, Moment):
        return item
    return replace(item, xyxy_px=lens.raw_xyxy_px(item.xyxy_px))


def _raw_points(uv_px: npt.NDArray[np.float64], lens: Rectification) -> npt.NDArray[np.float64]:
    boxes = [lens.raw_xyxy_px(np.concatenate([uv, uv])) for uv in uv_px]
    return np.array(boxes, np.float64).reshape(-1, 4)[:, :2]
