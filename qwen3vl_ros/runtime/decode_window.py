# SPDX-License-Identifier: Apache-2.0
"""A pass of few rows is filled up to the one window that a decoder plan is compiled for.

Knows the decoder graph's contract, no runtime. One shape means one CUDA graph, replayed for every
token. Rows are added behind those that are asked for: causal attention keeps them out of these,
and what they write into the cache lies beyond what counts, where the next pass writes over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[Any]]

ROWS = "token_embeds"  # (B, T, D): its T is the number of rows of a pass
_ALONG_ROWS = (ROWS, "rope_cos", "rope_sin", "visual_rows")
_NO_VISUAL = -1


def is_decoder_pass(feeds: Arrays) -> bool:
    """Whether these are the inputs of a decoder."""
    return ROWS in feeds


def rows_of(feeds: Arrays) -> int:
    """T of a decoder's pass."""
    return int(feeds[ROWS].shape[1])


def filled_up(feeds: Arrays, *, window: int, cache_rows: int) -> Arrays | None:
    """The inputs of a decoder with `window` rows.

    Args:
        feeds: see `engines/README.md`, "Inputs and outputs"; T rows, of which R are wanted.
        window: rows that there shall be.
        cache_rows: that each buffer of the cache has.

    Returns:
        None where the pass cannot have that shape: it shows a picture, has more rows, or the
        window reaches beyond the cache.
    """
    missing = window - rows_of(feeds)
    wanted = len(feeds["output_rows"])
    last = int(feeds["cached_tokens"].max()) + window
    if missing < 0 or wanted > window or last > cache_rows or len(feeds["visual_embeds"]) > 1:
        return None
    filled = dict(feeds)
    for name in _ALONG_ROWS:
        added = [(0, 0), (0, missing), *[(0, 0)] * (feeds[name].ndim - 2)]
        nothing = _NO_VISUAL if name == "visual_rows" else 0
        filled[name] = np.pad(feeds[name], added, constant_values=nothing)
    filled["output_rows"] = np.pad(feeds["output_rows"], (0, window - wanted), mode="edge")
    return filled


def wanted_rows(results: Arrays, feeds: Arrays) -> dict[str, npt.NDArray[Any]]:
    """What a filled-up pass gave, of the rows that `feeds` asked for."""
    wanted = len(feeds["output_rows"])
    return {name: array[:, :wanted] for name, array in results.items()}
