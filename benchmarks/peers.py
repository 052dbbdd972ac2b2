# SPDX-License-Identifier: Apache-2.0
"""The same passes by several engines in one run, taking turns.

    python -m benchmarks.peers --peer 'ours=python -m benchmarks.with_qwen3vl_ros DIR' \
        --peer 'other=...' --json out/peers.json

The first peer is held against each of the others. benchmarks/README.md says how to set them up.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from qwen3vl_ros.commands.command import positive
from qwen3vl_ros.offline.computer import computer_facts, load_average
from qwen3vl_ros.offline.taking_turns import in_turns, median_ratio

from .worker import PeerFailed, Took, Worker


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A stage of every peer.

    Attributes:
        stage: a method of `Peer`.
        sizes: its arguments.
    """

    stage: str
    sizes: Mapping[str, int]

    def __str__(self) -> str:
        return " ".join([self.stage, *map(str, self.sizes.values())])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write JSON."""
    options = parsed(arguments)
    commands = dict(text.split("=", 1) for text in options.peer)
    load_before = load_average()
    workers: list[Worker] = []
    try:
        for name, command in commands.items():
            print(f"loading {name}", file=sys.stderr)
            workers.append(Worker(name, shlex.split(command), threads=options.threads))
        facts = {worker.name: worker.facts for worker in workers}
        stages = [measured(asked, workers, options.rounds) for asked in stages_of(options)]
    except PeerFailed as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 1
    finally:
        for worker in workers:
            worker.end()
    report = {
        **computer_facts(()),
        "load_average": {"before": load_before, "after": load_average()},
        "threads": options.threads,
        "rounds": options.rounds,
        "peers": facts,
        "stages": stages,
    }
    print("\n".join(table(report, tuple(commands))))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--peer", action="append", required=True, metavar="NAME=COMMAND", help="ours first"
    )
    parser.add_argument("--image-tokens", type=positive, nargs="+", default=[300, 1024])
    parser.add_argument("--text-tokens", type=positive, default=32)
    parser.add_argument("--cached-tokens", type=positive, nargs="+", default=[512, 4096])
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--passes", type=positive, default=8, help="of decoding, in one turn")
    parser.add_argument("--threads", type=positive, default=2, help="of every peer")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def stages_of(options: argparse.Namespace) -> list[Asked]:
    """In the order of a frame: pictures first, since a prompt takes what the tower gave."""
    pictures = [
        asked
        for tokens in options.image_tokens
        for asked in (
            Asked(stage="encode", sizes={"image_tokens": tokens}),
            Asked(
                stage="prefill",
                sizes={"image_tokens": tokens, "text_tokens": options.text_tokens},
            ),
        )
    ]
    return pictures + [
        Asked(stage="decode", sizes={"cached_tokens": tokens, "passes": options.passes})
        for tokens in options.cached_tokens
    ]


def measured(asked: Asked, workers: Sequence[Worker], rounds: int) -> Mapping[str, object]:
    """One stage of all peers, turn by turn; before that each runs it once for itself."""
    for worker in workers:
        if asked.stage == "decode":
            worker.took("fill", cached_tokens=asked.sizes["cached_tokens"])
        worker.took(asked.stage, **asked.sizes)
    tasks = {worker.name: partial(worker.took, asked.stage, **asked.sizes) for worker in workers}
    turns: dict[str, tuple[Took, ...]] = in_turns(
        tasks,
        rounds=rounds,
        on_turn=lambda name, over: print(f"{asked}: {name}, turn {over + 1}", file=sys.stderr),
    )
    ours = workers[0].name
    return {
        "stage": asked.stage,
        **asked.sizes,
        "peers": {name: spoken_times(efforts) for name, efforts in turns.items()},
        "as_fast": {
            name: median_ratio(walls(efforts), walls(turns[ours]))
            for name, efforts in turns.items()
            if name != ours
        },
    }


def spoken_times(efforts: Sequence[Took]) -> Mapping[str, object]:
    """Medians, and each round."""
    cpu = [effort.cpu_s for effort in efforts if effort.cpu_s is not None]
    return {
        "wall_s": statistics.median(walls(efforts)),
        "cpu_s": statistics.median(cpu) if cpu else None,
        "wall_s_by_round": [round(effort.wall_s, 6) for effort in efforts],
    }


def walls(efforts: Sequence[Took]) -> list[float]:
    """Seconds by the clock, round by round."""
    return [effort.wall_s for effort in efforts]


def table(report: Mapping[str, object], names: Sequence[str]) -> list[str]:
    """A line a stage: seconds (CPU seconds) of each, and how many times as long others take."""
    stages = report["stages"]
    assert isinstance(stages, list)
    lines = [" " * 20 + "".join(f"{name:>26}" for name in names)]
    for stage in stages:
        sizes = stage.get("image_tokens", stage.get("cached_tokens"))
        line = f"{stage['stage'] + ' ' + str(sizes):20}"
        for name in names:
            times = stage["peers"][name]
            ratio = f" {stage['as_fast'][name]:5.2f} x" if name in stage["as_fast"] else ""
            cpu = "-" if times["cpu_s"] is None else f"{times['cpu_s']:.3f}"
            line += f"{times['wall_s']:8.3f} ({cpu}){ratio}".rjust(26)
        lines.append(line)
    return [*lines, f"load average {report['load_average']}, {report['cpu']}"]


if __name__ == "__main__":
    sys.exit(main())
