# SPDX-License-Identifier: Apache-2.0
"""Turns, and what is made of them."""

from __future__ import annotations

from qwen3vl_ros.offline.taking_turns import (
    Effort,
    effort_of,
    in_turns,
    median_cpu,
    median_ratio,
    median_wall,
)


def test_every_round_has_everybody_and_begins_with_another():
    order: list[str] = []
    tasks = {name: lambda name=name: order.append(name) for name in "abc"}
    in_turns(tasks, rounds=4)
    assert "".join(order) == "abcbcacababc"


def test_values_come_back_by_name_and_in_the_order_of_rounds():
    counts = iter(range(100))
    values = in_turns({"a": lambda: next(counts), "b": lambda: -next(counts)}, rounds=2)
    assert values == {"a": (0, 3), "b": (-1, -2)}


def test_whoever_watches_hears_each_turn():
    heard: list[tuple[str, int]] = []
    in_turns(
        {"a": lambda: None, "b": lambda: None},
        rounds=2,
        on_turn=lambda name, over: heard.append((name, over)),
    )
    assert heard == [("a", 0), ("b", 1), ("b", 2), ("a", 3)]


def test_a_minute_that_slows_both_changes_no_ratio():
    assert median_ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.1]) == 2.0


def test_medians_are_of_wall_and_of_cpu():
    efforts = [Effort(wall_s=wall, cpu_s=2 * wall) for wall in (1.0, 9.0, 3.0)]
    assert (median_wall(efforts), median_cpu(efforts)) == (3.0, 6.0)


def test_an_effort_is_of_one_of_several_runs():
    ran: list[int] = []
    effort = effort_of(lambda: ran.append(1), times=4)
    assert len(ran) == 4
    assert effort.wall_s > 0
