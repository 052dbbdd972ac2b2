# SPDX-License-Identifier: Apache-2.0
"""A clip becomes flattened patches and their times, as transformers' Qwen3-VL does it.

Knows no camera and no prompt. The truth is transformers 5.23's `Qwen3VLVideoProcessor`: which
frames are looked at, how large they become, how grey levels become numbers (bit for bit). Only the
resize filter is Pillow's, as for pictures; torchvision's stays within a grey level of it.

Chosen frames: as many as upstream chooses of so many frames in so long a time, at even times.
    Upstream knows a frame rate and counts frames; a camera's stamps are uneven, so here the frame
    nearest to each of those times is taken (of two, the earlier), and no frame twice: where a gap
    holds fewer frames than times, those after it step in. With even stamps this is upstream's
    choice exactly.
Temporal patches: two frames each, the last one repeated if their number is odd; the time of a
    patch is the mean of its frames' own.
Budget: `min_pixels` and `max_pixels` are of the whole clip, `max_tokens_per_frame` of one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import FrameError
from ..scene.clip import Clip
from .patch_config import RESCALE_FACTOR
from .preprocess import Patches, patches_from_pictures, refuse_extreme, size_within_budget
from .video_config import Looks, VideoConfig

# Stamps are whole nanoseconds: even ones are even to within one.
_EVEN_NS = 1.0
# Rounded stamps make 60 frames at 30 a second last 1.9999999 s; a count is not to hang on that.
_COUNT_SLACK = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPatches:
    """A clip, ready for the vision tower.

    Attributes:
        patches: `grid_thw` is (1, 3): temporal patches, patch rows, patch columns.
        times_s: of each temporal patch, seconds from the first frame of the clip.
    """

    patches: Patches
    times_s: tuple[float, ...]


def sampled_indices(stamps_ns: Sequence[int], config: Looks) -> list[int]:
    """Which frames of a clip are looked at; the rule is in the header.

    Two seconds at 5 frames a second, of which a checkpoint looks at four; then the same with a
    camera that stood still from 0.4 s to 1.2 s:

    >>> from pathlib import Path
    >>> from qwen3vl_ros.image.video_config import load_video_config
    >>> config = load_video_config(Path("engines/tiny/checkpoint"))
    >>> sampled_indices([k * 200_000_000 for k in range(10)], config)
    [0, 3, 6, 9]
    >>> sampled_indices([k * 200_000_000 for k in (0, 1, 2, 6, 7, 8, 9)], config)
    [0, 2, 3, 6]

    Args:
        stamps_ns: of the frames, nanoseconds, each later than the one before.
    """
    total = len(stamps_ns)
    if total == 1:
        return [0]
    offsets_ns = np.array([stamp_ns - stamps_ns[0] for stamp_ns in stamps_ns], np.float64)
    native_fps = (total - 1) * 1_000_000_000 / (stamps_ns[-1] - stamps_ns[0])
    wanted = int(total / native_fps * config.fps + _COUNT_SLACK)
    count = min(max(wanted, config.min_frames), config.max_frames, total)
    even_ns = np.linspace(0, offsets_ns[-1], total)
    if np.abs(offsets_ns - even_ns).max() <= _EVEN_NS:
        # Where two frames are equally near, upstream's rounding of floats decides, so do it.
        return [int(index) for index in np.linspace(0, total - 1, count).round()]
    times_ns = np.linspace(0, offsets_ns[-1], count)
    later = np.clip(np.searchsorted(offsets_ns, times_ns), 1, total - 1)
    is_earlier_nearer = times_ns - offsets_ns[later - 1] <= offsets_ns[later] - times_ns
    nearest = np.where(is_earlier_nearer, later - 1, later)
    # No frame twice: each at least one after the one before, and room left for those that follow.
    order = np.arange(count)
    distinct = np.maximum.accumulate(nearest - order) + order
    return [int(index) for index in np.minimum(distinct, total - count + order)]


def resized_frame_size(
    frames: int,
    height: int,
    width: int,
    config: VideoConfig,
    *,
    max_tokens: int | None = None,
    max_patch_tokens: int | None = None,
) -> tuple[int, int]:
    """Height and width of the frames of a clip after resizing.

    Args:
        frames: how many are looked at.
        height: of each, pixels.
        width: likewise.
        max_tokens: of the whole clip; the pixel budget shrinks until they are no more.
        max_patch_tokens: of one temporal patch, likewise.

    Raises:
        FrameError: an extreme aspect ratio, or `max_tokens` are too few even for the smallest
            frames.
    """
    temporal_patches = -(-frames // config.temporal_patch_size)
    if max_tokens is not None and temporal_patches > max_tokens:
        raise FrameError(
            f"the video takes at least {temporal_patches} visual tokens, one for each "
            f"{config.temporal_patch_size} of the {frames} frames that are looked at, and there "
            f"is room for {max_tokens}; show a shorter video, or export the engine again with a "
            "larger --cache-length"
        )
    if max_patch_tokens is not None:
        of_all = temporal_patches * max_patch_tokens  # they are alike
        max_tokens = of_all if max_tokens is None else min(max_tokens, of_all)
    # Upstream refuses a single frame; here it counts as the pair that it becomes.
    frames = max(frames, config.temporal_patch_size)
    max_pixels = config.max_pixels
    if config.cap_pixels_per_frame:
        own = min(config.max_tokens_per_frame * config.factor**2, config.max_pixels // frames)
        max_pixels = max(own, int(config.min_pixels * 1.05)) * frames
    while True:
        size = _size_within(frames, height, width, config, max_pixels=max_pixels)
        area = size[0] * size[1]
        tokens = temporal_patches * area // config.factor**2
        if max_tokens is None or tokens <= max_tokens:
            return size
        # Fewer pixels by the share that is too much. Once may not do: upstream may count a frame
        # less than there is, and no side gets below a token. One token is reached at last.
        max_pixels = min(max_pixels, frames * area) * max_tokens // tokens


def _size_within(
    frames: int, height: int, width: int, config: VideoConfig, *, max_pixels: int
) -> tuple[int, int]:
    factor = config.factor
    taller, wider = height, width
    if height < factor or width < factor:
        scale = max(factor / height, factor / width)
        taller, wider = int(height * scale), int(width * scale)
    refuse_extreme(taller, wider, subject=f"frames of the video are {width} x {height} pixels")
    return size_within_budget(
        taller,
        wider,
        frames=frames,
        # Half a pair rounds to even, as upstream.
        counted_frames=round(frames / config.temporal_patch_size) * config.temporal_patch_size,
        factor=factor,
        min_pixels=min(config.min_pixels, max_pixels),
        max_pixels=max_pixels,
    )


def patches_from_clip(
    clip: Clip,
    config: VideoConfig,
    *,
    max_tokens: int | None = None,
    max_patch_tokens: int | None = None,
) -> ClipPatches:
    """Choose frames, resize, normalise and cut them.

    Args:
        max_tokens: visual tokens that there is room for; the budget shrinks to keep within.
        max_patch_tokens: likewise, in one temporal patch: what the tower was built for.

    Raises:
        FrameError: an extreme aspect ratio, or more frames than `max_tokens` have room for.
    """
    stamps_ns = [frame.stamp_ns for frame in clip.frames]
    indices = sampled_indices(stamps_ns, config)
    height, width = resized_frame_size(
        len(indices),
        clip.height,
        clip.width,
        config,
        max_tokens=max_tokens,
        max_patch_tokens=max_patch_tokens,
    )
    patches = patches_from_pictures(
        [clip.frames[index].image for index in indices],
        config,
        height=height,
        width=width,
        levels=_normalised_levels(config),
    )
    after_ns = [stamps_ns[index] - clip.stamp_ns for index in indices]
    t = config.temporal_patch_size
    after_ns += after_ns[-1:] * (-len(after_ns) % t)
    times_s = tuple(
        (first + last) / 2e9
        for first, last in zip(after_ns[::t], after_ns[t - 1 :: t], strict=True)
    )
    return ClipPatches(patches=patches, times_s=times_s)


def _normalised_levels(config: VideoConfig) -> npt.NDArray[np.float32]:
    """(3, 256) float32: what each grey level of each channel becomes."""
    # Upstream scales mean and std of a video where it scales the pixels of a picture: other last
    # bits.
    scale = np.float32(1.0 / RESCALE_FACTOR)
    mean = np.array(config.image_mean, np.float32)[:, None] * scale
    std = np.array(config.image_std, np.float32)[:, None] * scale
    return np.asarray((np.arange(256, dtype=np.float32) - mean) / std, np.float32)
