# SPDX-License-Identifier: Apache-2.0
"""The comparison's driver, with peers that take as long as they are told.

Each peer is a real process that speaks the protocol of `benchmarks/peer.py`; what it says it took
is made up, so that ratios can be counted on one's fingers.
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from benchmarks import peers
from benchmarks.peer import picture_size

SIZES = ("--image-tokens", "4", "--cached-tokens", "8", "--text-tokens", "2")

SCRIPT = """
import json, os, sys
print(json.dumps({"threads": os.environ["BENCHMARK_THREADS"]}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    with open(sys.argv[2], "a") as log:
        log.write(" ".join([sys.argv[1], asked["stage"]]) + chr(10))
    wall = float(sys.argv[3])
    cpu = None if sys.argv[1] == "silent" else 2 * wall
    print(json.dumps({"wall_s": wall, "cpu_s": cpu}), flush=True)
"""


def peer(name: str, log: Path, *, wall_s: float) -> str:
    command = [sys.executable, "-c", SCRIPT, name, str(log), str(wall_s)]
    return f"{name}={shlex.join(command)}"


def test_every_stage_is_told_with_how_many_times_as_long_others_take(tmp_path, capsys):
    log, file = tmp_path / "log", tmp_path / "peers.json"
    ours, theirs = peer("ours", log, wall_s=0.5), peer("theirs", log, wall_s=1.5)
    command = ["--peer", ours, "--peer", theirs, *SIZES, "--rounds", "2", "--threads", "1"]
    assert peers.main([*command, "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert [stage["stage"] for stage in report["stages"]] == ["encode", "prefill", "decode"]
    for stage in report["stages"]:
        assert stage["as_fast"] == {"theirs": 3.0}
        assert stage["peers"]["ours"] == {
            "wall_s": 0.5,
            "cpu_s": 1.0,
            "wall_s_by_round": [0.5, 0.5],
        }
    assert report["peers"]["theirs"] == {"threads": "1"}
    assert report["load_average"].keys() == {"before", "after"}
    assert report["cpu"]["name"]
    assert "3.00 x" in capsys.readouterr().out


def test_who_cannot_tell_its_cpu_time_has_none(tmp_path, capsys):
    file = tmp_path / "peers.json"
    silent = peer("silent", tmp_path / "log", wall_s=1.5)
    assert peers.main(["--peer", silent, *SIZES, "--rounds", "1", "--json", str(file)]) == 0
    report = json.loads(file.read_text())
    assert {stage["peers"]["silent"]["cpu_s"] for stage in report["stages"]} == {None}
    assert "1.500 (-)" in capsys.readouterr().out


def test_peers_take_turns_within_a_stage_and_change_who_begins(tmp_path):
    log = tmp_path / "log"
    both = ("--peer", peer("a", log, wall_s=1), "--peer", peer("b", log, wall_s=1))
    assert peers.main([*both, *SIZES, "--rounds", "2"]) == 0
    encodes = [line.split()[0] for line in log.read_text().splitlines() if "encode" in line]
    assert encodes == ["a", "b", "a", "b", "b", "a"]  # once to warm up, then two rounds


def test_a_cache_is_filled_before_anybody_decodes_behind_it(tmp_path):
    log = tmp_path / "log"
    assert peers.main(["--peer", peer("a", log, wall_s=1), *SIZES, "--rounds", "1"]) == 0
    stages = [line.split()[1] for line in log.read_text().splitlines()]
    assert stages[-3:] == ["fill", "decode", "decode"]


def test_a_peer_that_dies_ends_the_run_and_is_named(tmp_path, capsys):
    dead = f"dead={shlex.join([sys.executable, '-c', 'raise SystemExit(3)'])}"
    assert peers.main(["--peer", dead, *SIZES]) == 1
    assert "dead answered ''" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "rows_and_columns"),
    [
        pytest.param(300, (15, 20), id="640x480"),
        pytest.param(1024, (32, 32), id="1024x1024"),
        pytest.param(7, (1, 7), id="a prime: one row"),
    ],
)
def test_pictures_are_as_square_as_their_tokens_allow(tokens, rows_and_columns):
    assert picture_size(tokens) == rows_and_columns
