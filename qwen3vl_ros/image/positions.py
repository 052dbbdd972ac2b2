# SPDX-License-Identifier: Apache-2.0
"""Where everything is: position-table taps, vision rotary angles, interleaved M-RoPE.

Pure numpy, computed on the host so that no graph holds grid logic. Knows no weights and no
picture; a grid is all it sees of one. Angles and weights are float32, as in the model.

Grid:   `grid_thw`, (G, 3) int64: temporal patches, patch rows, patch columns of each picture.
Rows:   patches are listed t slowest, then 2x2 blocks row-major, then row-major inside a block
        (`merge_size` 2), so that four rows in a row make one language-model token. N = sum t*h*w.
Halves: cos and sin hold head_dim/2 columns; the model pairs column j with j + head_dim/2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import QueryError
from ..model_config import ModelConfig, TextConfig

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

VISION_ROPE_THETA = 10000.0


def patch_coordinates(grid_thw: Int64, *, merge_size: int) -> tuple[Int64, Int64]:
    """Row and column, (N,) int64 each, of every patch in the order the tower sees them.

    >>> row, column = patch_coordinates(np.array([[1, 2, 4]]), merge_size=2)
    >>> row.tolist(), column.tolist()
    ([0, 0, 1, 1, 0, 0, 1, 1], [0, 1, 0, 1, 2, 3, 2, 3])
    """
    rows, columns = [], []
    for t, h, w in np.asarray(grid_thw, np.int64).tolist():
        blocks = (h // merge_size, merge_size, w // merge_size, merge_size)
        row, column = np.mgrid[:h, :w]
        rows.append(np.tile(row.reshape(blocks).swapaxes(1, 2).ravel(), t))
        columns.append(np.tile(column.reshape(blocks).swapaxes(1, 2).ravel(), t))
    return np.concatenate(rows), np.concatenate(columns)


def vision_position_taps(
    grid_thw: Int64, *, table_side: int, merge_size: int
) -> tuple[Int64, Float32]:
    """Bilinear taps into the learned position table, corners aligned with corners.

    Args:
        grid_thw: (G, 3) int64.
        table_side: the table is `table_side` x `table_side`, row-major.
        merge_size: side of a block of patches that becomes one token.

    Returns:
        indices: (4, N) int64 rows of the table: top-left, top-right, bottom-left, bottom-right.
        weights: (4, N) float32, summing to 1 over the taps.
    """
    row, column = patch_coordinates(grid_thw, merge_size=merge_size)
    counts = np.prod(grid_thw, axis=1)
    heights = np.repeat(np.asarray(grid_thw)[:, 1], counts)
    widths = np.repeat(np.asarray(grid_thw)[:, 2], counts)
    row_taps, row_weights = _axis_taps(row, heights, table_side)
    column_taps, column_weights = _axis_taps(column, widths, table_side)
    indices = row_taps[:, None] * table_side + column_taps[None, :]
    weights = row_weights[:, None] * column_weights[None, :]
    return indices.reshape(4, -1), weights.reshape(4, -1)


def _axis_taps(index: Int64, size: Int64, table_side: int) -> tuple[Int64, Float32]:
    """(2, N) neighbours along one axis of the table and their weights."""
    # index 0 lands on table entry 0 and index size-1 on the last; a grid of one lands on 0.
    span = np.maximum(size - 1, 1).astype(np.float32)
    source = index.astype(np.float32) * np.float32(table_side - 1) / span
    floor = np.floor(source)
    offsets = np.array([[0.0], [1.0]], np.float32)
    # Written as transformers writes it (1 - |distance| for both taps), for equal bits.
    weights = np.float32(1) - np.abs(source - floor - offsets)
    taps = np.minimum(floor.astype(np.int64) + np.array([[0], [1]]), table_side - 1)
    return taps, weights


def vision_rotary(grid_thw: Int64, *, head_dim: int, merge_size: int) -> tuple[Float32, Float32]:
    """cos and sin, (N, head_dim/2) float32: row angles in the first half, column in the second.

    Coordinates are of patches at full resolution; time turns nothing.
    """
    row, column = patch_coordinates(grid_thw, merge_size=merge_size)
    frequencies = _inverse_frequencies(VISION_ROPE_THETA, head_dim // 2)
    coordinates = np.stack([row, column], axis=1).astype(np.float32)
    angles = (coordinates[:, :, None] * frequencies).reshape(len(row), -1)
    return np.cos(angles), np.sin(angles)


def text_positions(input_ids: Int64, grids: Int64, config: ModelConfig) -> tuple[Int64, int]:
    """M-RoPE positions of a prompt, and the shift that generated tokens carry on with.

    A run of text counts up on all three axes. A picture of `hh` x `ww` tokens that starts at
    position p has T = p, H = p + row, W = p + column, and the text after it starts at
    p + max(hh, ww). A video is one picture per temporal patch (timestamps, which are text,
    stand between them).

    Args:
        input_ids: (T,) int64.
        grids: (G, 3) int64, in the order in which the pictures appear; (0, 3) for text alone.

    Returns:
        position_ids: (3, T) int64, axes T, H, W.
        rope_delta: the token at cache index n has position n + rope_delta on every axis.

    Raises:
        QueryError: the visual tokens of the prompt are not those of the grids.
    """
    merge_size = config.vision.spatial_merge_size
    pictures = [
        (h // merge_size, w // merge_size)
        for t, h, w in np.asarray(grids, np.int64).reshape(-1, 3).tolist()
        for _ in range(t)
    ]
    is_visual = np.isin(input_ids, (config.image_token_id, config.video_token_id))
    position_ids = np.zeros((3, len(input_ids)), np.int64)
    start = 0  # index into input_ids
    position = 0
    taken = 0
    while start < len(input_ids):
        if not is_visual[start]:
            stop = _run_end(is_visual, start)
            position_ids[:, start:stop] = position + np.arange(stop - start)
            position += stop - start
            start = stop
            continue
        hh, ww = pictures[taken] if taken < len(pictures) else (0, 0)
        stop = _run_end(is_visual, start)
        if stop - start != hh * ww or not hh:
            raise QueryError(
                f"picture {taken + 1} of the prompt has {stop - start} visual tokens, expected "
                f"{hh * ww} for the {len(pictures)} pictures given; build the prompt from the "
                "same grids"
            )
        row, column = np.divmod(np.arange(hh * ww), ww)
        position_ids[:, start:stop] = position + np.stack([np.zeros_like(row), row, column])
        position += max(hh, ww)
        taken += 1
        start = stop
    if taken != len(pictures):
        raise QueryError(
            f"the prompt shows {taken} pictures, expected {len(pictures)}; build the prompt from "
            "the same grids"
        )
    return position_ids, position - len(input_ids)


def _run_end(is_visual: npt.NDArray[np.bool_], start: int) -> int:
    """Index after the run of equal flags that begins at `start`."""
    other = np.flatnonzero(is_visual[start:] != is_visual[start])
    return start + int(other[0]) if len(other) else len(is_visual)


def text_rotary(position_ids: Int64, text: TextConfig) -> tuple[Float32, Float32]:
    """cos and sin, (T, head_dim/2) float32, of M-RoPE positions (3, T), axes interleaved.

    Frequency j turns with H where j % 3 == 1, with W where j % 3 == 2 (as long as those axes
    have frequencies left: `mrope_section`), and with T elsewhere: THW THW ... TTTT.
    """
    half = text.head_dim // 2
    axis = np.zeros(half, np.int64)
    for a in (1, 2):
        axis[a : 3 * text.mrope_section[a] : 3] = a
    frequencies = _inverse_frequencies(text.rope_theta, text.head_dim)
    angles = position_ids.T[:, axis].astype(np.float32) * frequencies
    return np.cos(angles), np.sin(angles)


def _inverse_frequencies(theta: float, dim: int) -> Float32:
    """(dim/2,) float32: theta ** (-2k / dim)."""
    # Exponent, power and quotient are each rounded to float32, as in transformers: at position
    # 5000 a frequency that differs in its last bit already moves a cosine by 5e-4.
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    powers = (theta ** exponents.astype(np.float64)).astype(np.float32)
    return np.asarray(np.float32(1) / powers, np.float32)
