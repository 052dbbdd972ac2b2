# SPDX-License-Identifier: Apache-2.0
"""A model server as a value: where it is, what it speaks, how pictures are sent to it.

Knows no protocol and opens no connection. A key is named by its environment variable and never
stands in the value, so that the value can be printed; `api_key` reads it at the moment of use.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from ..errors import ConfigError
from ..language.chat_template import ChatStyle

# The same for every released Qwen3-VL: 16 pixels to a patch, 2 x 2 patches to an image token.
PATCH_SIZE, MERGE_SIZE = 16, 2
FACTOR = PATCH_SIZE * MERGE_SIZE
# The released rule has 65,536 to 16,777,216 pixels (preprocessor_config.json). Its upper limit is
# 16,384 tokens for one picture; ours is 2,560, which leaves a full-HD picture as it is.
MIN_PIXELS, MAX_PIXELS = 64 * FACTOR**2, 2560 * FACTOR**2

CONNECT_TIMEOUT_S = 5.0  # as both libraries have it
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ChatProtocol(Enum):
    """What a server speaks."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class PictureFormat(Enum):
    """How pictures are written.

    PNG loses nothing. JPEG at quality 90 was 5 times smaller for docs/scene.jpg, 10 times for the
    same scene in full HD with noise, and 40 times quicker to write (0.05 and 0.4 s as PNG).
    """

    PNG = "png"
    JPEG = "jpeg"


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteServer:
    """A model on a server.

    Attributes:
        base_url: what the protocol's paths are put behind, for most servers with /v1 at its end;
            the Anthropic protocol does not mind it.
        model: as the server calls it.
        protocol: what it speaks.
        key_variable: environment variable that holds the key; None takes the protocol's usual
            one, OPENAI_API_KEY or ANTHROPIC_API_KEY. Where it is not set no key is sent.
        timeout_s: without a sign of the server, for each try. An answer that is not streamed
            shows no sign before it is whole.
        max_retries: further tries, with growing pauses, when the server is busy, fails or is not
            reached.
        picture_format: how pictures are written.
        jpeg_quality: 1 to 95.
        min_pixels: pictures are enlarged to this area. With the server's own limits its resize
            changes nothing.
        max_pixels: and shrunk to this one.
        clip_fps: a clip is sent as so many stills a second ...
        clip_max_stills: ... and at most so many.
        clip_max_pixels: of each still.
        thinking: whether it is a Thinking checkpoint.
        max_tokens: of an answer, where the protocol wants a limit and the question sets none.
    """

    base_url: str
    model: str
    protocol: ChatProtocol = ChatProtocol.OPENAI
    key_variable: str | None = None
    timeout_s: float = 120.0
    max_retries: int = 2
    picture_format: PictureFormat = PictureFormat.PNG
    jpeg_quality: int = 90
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    clip_fps: float = 2.0
    clip_max_stills: int = 32
    clip_max_pixels: int = 768 * FACTOR**2
    thinking: bool = False
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        _check_url(self.base_url)
        if not self.model.strip():
            raise ConfigError("the server's model has no name, expected one that it lists")
        # What does not look like a variable's name may be the key itself: it is not repeated.
        if self.key_variable is not None and not _VARIABLE.fullmatch(self.key_variable):
            raise ConfigError(
                "the key's variable is not the name of an environment variable, expected one like "
                "OPENAI_API_KEY; put the key into the environment and name its variable here"
            )
        numbers = (self.timeout_s, self.clip_fps)
        if not all(math.isfinite(number) and number > 0 for number in numbers):
            raise ConfigError(
                f"timeout_s is {self.timeout_s} and clip_fps {self.clip_fps}, expected both "
                "positive and finite"
            )
        if self.max_retries < 0 or self.clip_max_stills < 1 or self.max_tokens < 1:
            raise ConfigError(
                f"max_retries is {self.max_retries}, clip_max_stills {self.clip_max_stills} and "
                f"max_tokens {self.max_tokens}, expected at least 0, 1 and 1"
            )
        if not 1 <= self.jpeg_quality <= 95:
            raise ConfigError(f"jpeg_quality is {self.jpeg_quality}, expected 1 to 95")
        most = min(self.max_pixels, self.clip_max_pixels)
        if not (0 < self.min_pixels <= most and most >= FACTOR**2):
            raise ConfigError(
                f"pictures may have {self.min_pixels} to {self.max_pixels} pixels and stills of a "
                f"clip up to {self.clip_max_pixels}, expected 0 < min_pixels <= both others, and "
                f"room for one image token ({FACTOR**2})"
            )

    @property
    def connect_timeout_s(self) -> float:
        """How long a connection may take to be made, for each try; a lost host is told of soon."""
        return min(self.timeout_s, CONNECT_TIMEOUT_S)

    @property
    def style(self) -> ChatStyle:
        """Whether its words begin with a thought."""
        return ChatStyle.THINKING if self.thinking else ChatStyle.INSTRUCT

    @property
    def named_key_variable(self) -> str:
        """The environment variable that a key is looked for in."""
        usual = {
            ChatProtocol.OPENAI: "OPENAI_API_KEY",
            ChatProtocol.ANTHROPIC: "ANTHROPIC_API_KEY",
        }
        return usual[self.protocol] if self.key_variable is None else self.key_variable


def api_key(server: RemoteServer) -> str | None:
    """The key in the environment; None where there is none.

    Raises:
        ConfigError: it cannot be one; its value is not repeated.
    """
    key = os.environ.get(server.named_key_variable, "").strip()
    # A line break in it would be refused by the HTTP library, with the key in the message.
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError(
            f"the key in {server.named_key_variable} holds spaces, line breaks or letters that no "
            "key has, expected one word; copy it again"
        )
    return key or None


def _check_url(url: str) -> None:
    """Refuses what is no plain address, and does not repeat it: it may hold a key."""
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError:
        parts, port_is_fine = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise ConfigError(
            "the server's address is not one, expected http:// or https://, a host and perhaps "
            "a port and a path, such as http://localhost:8000/v1"
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"the address of {parts.hostname} has a user, a password or a query in it, which logs "
            "would show; expected a plain address: put the key into an environment variable and "
            "name that"
        )
