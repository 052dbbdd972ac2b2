# SPDX-License-Identifier: Apache-2.0
"""Which of the pictures kept are shown when several are asked for."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.ros.shown import evenly
from qwen3vl_ros.scene.camera import Frame


@pytest.mark.parametrize(
    ("times_s", "count", "chosen_s"),
    [
        pytest.param((0, 1, 2, 3, 4), 3, (0, 2, 4), id="even"),
        pytest.param((0, 1, 2, 3, 4), 2, (0, 4), id="first and last"),
        pytest.param((0, 1), 2, (0, 1), id="all there are"),
        pytest.param((0, 1.0, 1.3, 2.0, 2.6, 4.0), 3, (0, 2.0, 4.0), id="nearest in time"),
        pytest.param((0, 0.1, 0.2, 0.3, 10), 4, (0, 0.2, 0.3, 10), id="late gap: none twice"),
        pytest.param((0, 9.7, 9.8, 9.9, 10), 4, (0, 9.7, 9.8, 10), id="early gap: none twice"),
    ],
)
def test_pictures_are_evenly_spread_in_time_and_none_is_shown_twice(times_s, count, chosen_s):
    pixels = np.zeros((1, 1, 3), np.uint8)
    stamps = [1_700_000_000_000_000_000 + round(s * 1e9) for s in times_s]
    frames = [Frame(image=pixels, stamp_ns=stamp, frame_id="camera") for stamp in stamps]
    chosen = evenly(frames, count)
    assert [frame.stamp_ns - stamps[0] for frame in chosen] == [round(s * 1e9) for s in chosen_s]
