# SPDX-License-Identifier: Apache-2.0
"""Requests to write down in a line, and pictures as they are sent."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from tests.serving.conftest import MODEL


def encoded(image: Image.Image, kind: str = "PNG", **how: object) -> str:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return base64.b64encode(file.getvalue()).decode()


def data_url(image: Image.Image, kind: str = "PNG", **how: object) -> str:
    return f"data:image/{kind.lower()};base64,{encoded(image, kind, **how)}"


def speckled(width: int = 64, height: int = 48) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def picture_part(url: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url}}


def text_part(text: str) -> dict[str, object]:
    return {"type": "text", "text": text}


def user(*parts: str | dict[str, object]) -> dict[str, object]:
    if len(parts) == 1 and isinstance(parts[0], str):
        return {"role": "user", "content": parts[0]}
    content = [text_part(part) if isinstance(part, str) else part for part in parts]
    return {"role": "user", "content": content}


def request(*messages: dict[str, object], **fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": list(messages or [user("hello")]), **fields}


WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
