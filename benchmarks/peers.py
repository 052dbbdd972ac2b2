# SPDX-License-Identifier: Apache-2.0
"""The same passes by several engines in one run, taking turns.

    python -m benchmarks.peers --peer 'ours=python -m benchmarks.with_qwen3vl_ros DIR' \
        --peer 'other=...' --json out/peers.json

The first peer is held against each of the others. One that fails is named, and left out from
then on; what it and the others had said before is told all the same. benchmarks/README.md says how
to set them up.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """Measure, print a table, write JSON; 1 where a peer failed."""
    options = parsed(arguments)
    load_before = load_average()
    failed: dict[str, str] = {}
    workers: list[Worker] = []
    facts: dict[str, Mapping[str, object]] = {}
    try:
        for name, command in options.peer:
            print(f"loading {name}", file=sys.stderr)
            with told(failed):
                workers.append(Worker(name, command, threads=options.threads))
        for worker in workers:
            with told(failed):
                facts[worker.name] = worker.facts
        ours = options.peer[0][0]
        stages = [
            measured(asked, workers, options.rounds, failed, ours=ours)
            for asked in stages_of(options)
        ]
    finally:
        for worker in workers:
            worker.end()
    report = {
        **computer_facts(()),
        "load_average": {"before": load_before, "after": load_average()},
        "threads": options.threads,
        "rounds": options.rounds,
        "peers": facts,
        "failed": failed,
        "stages": stages,
    }
    if any(stage["peers"] for stage in stages):
        print("\n".join(table(report, [name for name, _ in options.peer])))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 1 if failed else 0


@contextmanager
def told(failed: dict[str, str]) -> Iterator[None]:
    """A peer's failure is said once and remembered by its name; the run goes on."""
    try:
        yield
    except PeerFailed as error:
        failed[error.peer] = str(error)
        print(f"benchmarks.peers: {error}", file=sys.stderr)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument(
        "--peer",
        action="append",
        required=True,
        type=named_command,
        metavar="NAME=COMMAND",
        help="ours first",
    )
    parser.add_argument("--image-tokens", type=positive, nargs="+", default=[300, 1024])
    parser.add_argument("--text-tokens", type=positive, default=32)
    parser.add_argument("--cached-tokens", type=positive, nargs="+", default=[512, 4096])
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--passes", type=positive, default=8, help="of decoding, in one turn")
    parser.add_argument("--threads", type=positive, default=2, help="of every peer")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    names = [name for name, _ in options.peer]
    if len({*names}) < len(names):
        parser.error(f"peers are named {', '.join(names)}, expected a name of its own for each")
    return options


def named_command(text: str) -> tuple[str, list[str]]:
    """A peer as the command line has it.

    >>> named_command("ours=python -m benchmarks.with_qwen3vl_ros 'my engine'")
    ('ours', ['python', '-m', 'benchmarks.with_qwen3vl_ros', 'my engine'])
    """
    name, _, line = text.partition("=")
    try:
        command = shlex.split(line)
    except ValueError as error:  # a quote that is not closed
        raise argparse.ArgumentTypeError(f"{text!r} is no command: {error}") from error
    if not name or not command:
        raise argparse.ArgumentTypeError(f"{text!r} is no peer, expected NAME=COMMAND")
    return name, command


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


def measured(
    asked: Asked, workers: Sequence[Worker], rounds: int, failed: dict[str, str], *, ours: str
) -> Mapping[str, object]:
    """One stage of all peers, turn by turn; before that each runs it once for itself.

    Who fails is put into `failed`, and has no times of this stage; `ours` is held against others.
    """

    def turn(worker: Worker, stage: str, sizes: Mapping[str, int]) -> Took | None:
        if worker.name not in failed:
            with told(failed):
                return worker.took(stage, **sizes)
        return None

    for worker in workers:
        if asked.stage == "decode":
            turn(worker, "fill", {"cached_tokens": asked.sizes["cached_tokens"]})
        turn(worker, asked.stage, asked.sizes)
    tasks = {
        worker.name: partial(turn, worker, asked.stage, asked.sizes)
        for worker in workers
        if worker.name not in failed
    }
    given = in_turns(
        tasks,
        rounds=rounds if tasks else 0,
        on_turn=lambda name, over: print(f"{asked}: {name}, turn {over + 1}", file=sys.stderr),
    )
    turns = {
        name: [effort for effort in efforts if effort is not None]
        for name, efforts in given.items()
        if name not in failed
    }
    return {
        "stage": asked.stage,
        **asked.sizes,
        "peers": {name: spoken_times(efforts) for name, efforts in turns.items()},
        "as_fast": as_fast(turns, ours=ours),
    }


def as_fast(turns: Mapping[str, Sequence[Took]], *, ours: str) -> Mapping[str, float]:
    """How many times as long as ours each of the others takes; of nobody where ours failed."""
    if ours not in turns:
        return {}
    return {
        name: median_ratio(walls(efforts), walls(turns[ours]))
        for name, efforts in turns.items()
        if name != ours
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
            if name not in stage["peers"]:
                line += "failed".rjust(26)
                continue
            times = stage["peers"][name]
            ratio = f" {stage['as_fast'][name]:5.2f} x" if name in stage["as_fast"] else ""
            cpu = "-" if times["cpu_s"] is None else f"{times['cpu_s']:.3f}"
            line += f"{times['wall_s']:8.3f} ({cpu}){ratio}".rjust(26)
        lines.append(line)
    return [*lines, f"load average {report['load_average']}, {report['cpu']}"]


if __name__ == "__main__":
    sys.exit(main())
