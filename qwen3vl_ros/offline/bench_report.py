# SPDX-License-Identifier: Apache-2.0
"""What `bench.py` measured, as a table for people.

Knows the values of a report, not how they came about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def table(report: Mapping[str, Any]) -> str:
    """The report of `bench`, a stage a line, and what it was measured on."""
    return "\n".join([*_circumstances(report), "", *_lines(report["stages"])])


def _circumstances(report: Mapping[str, Any]) -> Iterator[str]:
    cpu, engine, load = report["cpu"], report["engine"], report["load_average"]
    yield (
        f"{cpu['name']} (family {cpu['family']}, model {cpu['model']}; "
        f"{' '.join(cpu['instructions'])}), {report['cores']} cores, {report['memory_gb']} GB"
    )
    yield f"{report['running']}; {engine['precision']}, cache of {engine['cache_length']}"
    yield (
        f"{report['date']}, commit {report['commit']}, load average "
        f"{load['before'][0]} before, {load['after'][0]} after"
    )
    yield (
        f"memory is read at {report['read_bandwidth_gb_s']} GB/s; medians of "
        f"{report['plan']['rounds']} rounds in turns, ratios by the clock (in CPU time)"
    )


def _lines(stages: list[Mapping[str, Any]]) -> Iterator[str]:
    yield f"{'stage':44} {'wall':>10} {'CPU time':>10}"
    for stage in stages:
        times = f"{_seconds(stage['wall_s'])} {_seconds(stage['cpu_s'])}"
        yield f"{_named(stage):44} {times}  {_remark(stage)}".rstrip()


def _named(stage: Mapping[str, Any]) -> str:
    if stage["stage"] != "decode":
        return f"{stage['stage']}, {stage['image_tokens']} image tokens"
    rows = "1 row" if stage["rows"] == 1 else f"{stage['rows']} rows"
    return f"decode {rows} behind {stage['cached_tokens']}, cache {stage['cache_length']}"


def _remark(stage: Mapping[str, Any]) -> str:
    if "over_one_row" in stage:
        return f"{_both(stage, 'over_one_row', '.2f')} x one row"
    remarks = []
    if "over_smaller_cache" in stage:
        remarks.append(f"{_both(stage, 'over_smaller_cache', '.2f')} x the smaller cache")
    if "share_of_floor" in stage:
        remarks.append(f"{1 / stage['wall_s']:.1f} tokens/s")
        remarks.append(f"{_both(stage, 'share_of_floor', '.0%')} of the memory floor")
    return ", ".join(remarks)


def _both(stage: Mapping[str, Any], field: str, form: str) -> str:
    """By the clock, and in CPU time."""
    return f"{stage[field]:{form}} ({stage[field + '_cpu']:{form}})"


def _seconds(value: float) -> str:
    return f"{value:8.2f} s" if value >= 1 else f"{value * 1000:7.1f} ms"
