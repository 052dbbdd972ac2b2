# SPDX-License-Identifier: Apache-2.0
"""Rows that nobody asked for: where they go, and when a pass cannot have them."""

from __future__ import annotations

import numpy as np
import pytest

from qwen3vl_ros.runtime.decode_window import filled_up, wanted_rows

D, ROTARY = 4, 2


def decoder_pass(rows: int, *, start: int = 10, wanted: int | None = None, visuals: int = 1):
    return {
        "token_embeds": np.ones((1, rows, D), np.float32),
        "rope_cos": np.ones((1, rows, ROTARY), np.float32),
        "rope_sin": np.ones((1, rows, ROTARY), np.float32),
        "visual_rows": np.zeros((1, rows), np.int64),
        "visual_embeds": np.ones((visuals, D), np.float32),
        "deepstack_embeds": np.ones((3, visuals, D), np.float32),
        "cached_tokens": np.array([start], np.int32),
        "output_rows": np.arange(rows if wanted is None else wanted),
    }


def test_rows_are_added_behind_those_asked_for_and_show_nothing():
    filled = filled_up(decoder_pass(2), window=4, cache_rows=64)
    assert filled["token_embeds"][0, :, 0].tolist() == [1, 1, 0, 0]
    assert filled["rope_cos"][0, :, 0].tolist() == [1, 1, 0, 0]
    assert filled["rope_sin"][0, :, 0].tolist() == [1, 1, 0, 0]
    assert filled["visual_rows"][0].tolist() == [0, 0, -1, -1]
    assert filled["output_rows"].tolist() == [0, 1, 1, 1]
    assert filled["cached_tokens"].tolist() == [10]
    assert {name: array.dtype for name, array in filled.items()} == {
        name: array.dtype for name, array in decoder_pass(2).items()
    }


def test_a_pass_as_wide_as_the_window_stays_as_it_is():
    given = decoder_pass(4)
    filled = filled_up(given, window=4, cache_rows=64)
    assert all((filled[name] == array).all() for name, array in given.items())


@pytest.mark.parametrize(
    ("feeds", "fits"),
    [
        pytest.param(decoder_pass(5), False, id="more-rows-than-the-window"),
        pytest.param(decoder_pass(2, visuals=6), False, id="a-picture"),
        pytest.param(decoder_pass(1, start=60), True, id="the-window-ends-with-the-cache"),
        pytest.param(decoder_pass(1, start=61), False, id="the-window-reaches-beyond-the-cache"),
        pytest.param(decoder_pass(3, wanted=1), True, id="one-of-three-is-wanted"),
    ],
)
def test_a_pass_that_cannot_have_that_shape_is_left_alone(feeds, fits):
    assert (filled_up(feeds, window=4, cache_rows=64) is not None) == fits


def test_what_the_added_rows_gave_is_dropped():
    results = {"hidden_states": np.arange(4.0).reshape(1, 4, 1)}
    assert wanted_rows(results, decoder_pass(2))["hidden_states"].ravel().tolist() == [0, 1]
