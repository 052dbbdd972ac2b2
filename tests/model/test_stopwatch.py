# SPDX-License-Identifier: Apache-2.0
"""Durations by stage, on the clock it is given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qwen3vl_ros.model.stopwatch import Stopwatch


def ticks(*seconds: float) -> Iterator[float]:
    return iter(seconds)


def test_each_stage_has_its_time_and_one_not_reached_has_none():
    times = ticks(0, 1, 3, 3, 4, 4, 9, 10)
    watch = Stopwatch(clock=lambda: next(times))
    with watch.stage("preprocess"):
        pass
    with watch.stage("prefill"):
        watch.enter("decode")
    stats = watch.stats()
    assert (stats.preprocess_s, stats.prefill_s, stats.decode_s) == (2, 1, 5)
    assert (stats.vision_s, stats.lift_s, stats.total_s) == (None, None, 10)


def test_a_stage_entered_twice_is_summed_and_so_are_two_answers():
    times = ticks(0, 0, 1, 5, 8, 9)
    watch = Stopwatch(clock=lambda: next(times))
    for tokens in (10, 20):
        with watch.stage("lift"):
            watch.heard(prompt_tokens=100, answer_tokens=tokens, passes=tokens - 1)
    watch.saw(image_tokens=70)
    stats = watch.stats()
    assert stats.lift_s == 4
    assert (stats.answer_tokens, stats.passes, stats.prompt_tokens) == (30, 28, 200)
    assert stats.image_tokens == 70


def test_a_stage_that_raises_is_over():
    def stage_that_raises(watch: Stopwatch) -> None:
        with watch.stage("vision"):
            raise RuntimeError("broken")

    times = ticks(0, 1, 3, 10)
    watch = Stopwatch(clock=lambda: next(times))
    with pytest.raises(RuntimeError, match="broken"):
        stage_that_raises(watch)
    assert watch.stats().vision_s == 2


def test_whoever_listens_hears_each_stage_begin():
    heard: list[str] = []
    watch = Stopwatch(on_stage=heard.append)
    with watch.stage("prefill"):
        assert heard == ["prefill"]
        watch.enter("decode")
    assert heard == ["prefill", "decode"]
