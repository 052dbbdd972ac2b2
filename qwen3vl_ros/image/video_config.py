# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint wants its videos: which frames, how large, read from its own JSON files.

Knows the numbers, and does nothing with them: `video.py` does. The truth is transformers 5.23's
`Qwen3VLVideoProcessor`, its files and the defaults of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ConfigError
from .patch_config import PatchConfig, patch_fields, read_json
from .preprocess import FILE_NAME as PICTURES_FILE_NAME
from .preprocess import preprocess_config_from_dict

FILE_NAME = "video_preprocessor_config.json"

# What released checkpoints say of the size of a clip (video_preprocessor_config.json, "size").
RELEASED_MIN_PIXELS, RELEASED_MAX_PIXELS = 4096, 25165824
# What they leave to the class (attributes of Qwen3VLVideoProcessor in transformers 5.23).
DEFAULT_FPS, DEFAULT_MIN_FRAMES, DEFAULT_MAX_FRAMES = 2.0, 4, 768
DEFAULT_TOKENS_PER_FRAME = 768  # there: max_video_tokens; in qwen-vl-utils: VIDEO_MAX_TOKEN_NUM
# Released checkpoints say nothing. Qwen's own tool (qwen-vl-utils, in its README the way to feed
# videos) caps; transformers 5.23 does not, and warns that it will (pull request 48071). Without
# the cap, four frames of a 1080p camera cost 4080 tokens, with it 1440.
DEFAULT_CAP_PIXELS_PER_FRAME = True


class Looks(Protocol):
    """How often a clip is looked at; the fields are those of `VideoConfig`."""

    @property
    def fps(self) -> float: ...
    @property
    def min_frames(self) -> int: ...
    @property
    def max_frames(self) -> int: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleasedLooks:
    """How often released checkpoints look, for a model whose files are elsewhere."""

    fps: float = DEFAULT_FPS
    min_frames: int = DEFAULT_MIN_FRAMES
    max_frames: int = DEFAULT_MAX_FRAMES


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoConfig(PatchConfig):
    """How a checkpoint wants its videos; another budget is a `dataclasses.replace` away.

    Attributes:
        min_pixels: all chosen frames together have at least this area after resizing.
        max_pixels: and at most this.
        fps: frames to look at in a second.
        min_frames: to look at however short the clip is, if it has so many.
        max_frames: and at most, however long.
        cap_pixels_per_frame: whether a frame has a budget of its own, so that a short clip is not
            shown at full resolution only because it is short.
        max_tokens_per_frame: that budget, in image tokens (upstream: `max_video_tokens`).
    """

    fps: float
    min_frames: int
    max_frames: int
    cap_pixels_per_frame: bool
    max_tokens_per_frame: int


def load_video_config(path: Path) -> VideoConfig:
    """Read the video preprocessing of a checkpoint or engine directory.

    That is its `video_preprocessor_config.json`; where there is none, patches are as in its
    `preprocessor_config.json` and everything else as in the released checkpoints.

    Raises:
        ConfigError: missing, not JSON, or asking for another preprocessing than ours.
    """
    file = path / FILE_NAME
    if file.exists():
        return video_config_from_dict(read_json(file, what="video preprocessor config"))
    values = read_json(path / PICTURES_FILE_NAME, what="preprocessor config")
    preprocess_config_from_dict(values)
    size = {"shortest_edge": RELEASED_MIN_PIXELS, "longest_edge": RELEASED_MAX_PIXELS}
    return video_config_from_dict({**values, "size": size})


def video_config_from_dict(values: Mapping[str, Any]) -> VideoConfig:
    """A `VideoConfig` from a parsed `video_preprocessor_config.json`.

    Raises:
        ConfigError: a field is missing, or asks for another preprocessing than ours.
    """
    for field, expected in (
        ("video_processor_type", "Qwen3VLVideoProcessor"),
        ("do_sample_frames", True),
        ("num_frames", None),
    ):
        if field in values and values[field] != expected:
            raise ConfigError(
                f"{FILE_NAME} says {field} = {values[field]}, expected {expected}; this project "
                "samples videos as released Qwen3-VL checkpoints ask and no other way"
            )
    fields = patch_fields(values, file_name=FILE_NAME)
    try:
        config = VideoConfig(
            **fields,
            fps=float(_given(values, "fps", DEFAULT_FPS)),
            min_frames=int(_given(values, "min_frames", DEFAULT_MIN_FRAMES)),
            max_frames=int(_given(values, "max_frames", DEFAULT_MAX_FRAMES)),
            cap_pixels_per_frame=bool(
                _given(values, "cap_pixels_per_frame", DEFAULT_CAP_PIXELS_PER_FRAME)
            ),
            max_tokens_per_frame=int(_given(values, "max_video_tokens", DEFAULT_TOKENS_PER_FRAME)),
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{FILE_NAME} garbles a number ({error}); expected fps, min_frames, max_frames and "
            "max_video_tokens to be numbers: is the checkpoint whole?"
        ) from error
    counts = (config.min_frames, config.max_tokens_per_frame)
    if not (
        0 < config.fps < np.inf and min(counts) > 0 and config.max_frames >= config.min_frames
    ):
        raise ConfigError(
            f"{FILE_NAME} says fps = {config.fps}, min_frames = {config.min_frames}, max_frames = "
            f"{config.max_frames}, max_video_tokens = {config.max_tokens_per_frame}; expected all "
            "of them positive and min_frames <= max_frames"
        )
    return config


def _given(values: Mapping[str, Any], field: str, default: float) -> Any:
    """What the file says; null counts as nothing, as upstream."""
    value = values.get(field)
    return default if value is None else value
