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


DYING = """
import json, sys
print(json.dumps({}), flush=True)
for line in sys.stdin:
    if json.loads(line)["stage"] == sys.argv[1]:
        print("this is not said", "it was too much", "of everything", sep=chr(10), file=sys.stderr)
        raise SystemExit("so I end")
    print(json.dumps({"wall_s": 1.5, "cpu_s": None}), flush=True)
"""


def python(name: str, *arguments: str) -> str:
    """A peer that is a few lines of Python."""
    return f"{name}={shlex.join([sys.executable, '-c', *arguments])}"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        pytest.param(
            "ghost=/nowhere/python -m its.adapter model.gguf",
            "peer 'ghost' cannot be started: No such file or directory; it said nothing; its "
            "command: /nowhere/python -m its.adapter model.gguf",
            id="no such program",
        ),
        pytest.param(
            python("ghost", "import sys; sys.exit('no libllama.so')"),
            "peer 'ghost' ended with exit code 1 while it loaded; the last it said: no "
            f"libllama.so; its command: {sys.executable} -c",
            id="ends while it loads",
        ),
        pytest.param(
            python("ghost", "import os; os.kill(os.getpid(), 9)"),
            "peer 'ghost' ended by signal 9 while it loaded; it said nothing",
            id="killed while it loads",
        ),
        pytest.param(
            python("ghost", "print('Loading checkpoint shards')"),
            "peer 'ghost' answered 'Loading checkpoint shards', expected a JSON object, while it",
            id="prints among its replies",
        ),
        pytest.param(
            python("ghost", DYING, "encode"),
            "peer 'ghost' ended with exit code 1 in encode 4; the last it said: it was too much | "
            "of everything | so I end; its command",
            id="ends in a stage",
        ),
        pytest.param(
            python("ghost", "print('{}', flush=True); import sys; sys.stdin.close()"),
            "peer 'ghost' ended with exit code 0 in encode 4",
            id="listens no longer",
        ),
    ],
)
def test_a_peer_that_fails_is_told_in_one_line_and_the_others_are_told_all_the_same(
    tmp_path, capsys, command, words
):
    """It was a FileNotFoundError or a BrokenPipeError, and an hour of the others' turns lost."""
    file = tmp_path / "peers.json"
    ours, theirs = (peer(name, tmp_path / "log", wall_s=1) for name in ("ours", "theirs"))
    peers_asked = ("--peer", ours, "--peer", command, "--peer", theirs)
    assert peers.main([*peers_asked, *SIZES, "--rounds", "2", "--json", str(file)]) == 1
    out, err = capsys.readouterr()
    (said,) = [line for line in err.splitlines() if line.startswith("benchmarks.peers: ")]
    assert words in said
    report = json.loads(file.read_text())
    assert report["failed"] == {"ghost": said.removeprefix("benchmarks.peers: ")}
    for stage in report["stages"]:
        assert stage["as_fast"] == {"theirs": 1.0}
        assert stage["peers"].keys() == {"ours", "theirs"}
    assert out.count("failed") == 3


def test_what_a_peer_said_before_it_failed_is_kept(tmp_path):
    file = tmp_path / "peers.json"
    both = (
        "--peer",
        python("dying", DYING, "decode"),
        "--peer",
        peer("b", tmp_path / "l", wall_s=3),
    )
    assert peers.main([*both, *SIZES, "--rounds", "2", "--json", str(file)]) == 1
    encode, prefill, decode = json.loads(file.read_text())["stages"]
    assert encode["as_fast"] == prefill["as_fast"] == {"b": 2.0}
    assert decode["peers"].keys() == {"b"}
    assert decode["as_fast"] == {}, "ours has nothing that others could be held against"


def test_a_peer_alone_that_fails_leaves_a_report_of_nothing(tmp_path, capsys):
    file = tmp_path / "peers.json"
    assert peers.main(["--peer", "a=/nowhere/a", *SIZES, "--json", str(file)]) == 1
    assert capsys.readouterr().out == ""
    assert [stage["peers"] for stage in json.loads(file.read_text())["stages"]] == [{}, {}, {}]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        pytest.param(
            ["python -m ours"], "'python -m ours' is no peer, expected NAME=COMMAND", id="no name"
        ),
        pytest.param(["ours="], "'ours=' is no peer, expected NAME=COMMAND", id="no command"),
        pytest.param(["ours=python 'x"], "is no command: No closing quotation", id="a quote"),
        pytest.param(
            ["a=x", "a=y"], "peers are named a, a, expected a name of its own", id="twice"
        ),
    ],
)
def test_a_peer_that_is_none_is_refused_before_any_is_started(capsys, asked, words):
    with pytest.raises(SystemExit):
        peers.main([word for each in asked for word in ("--peer", each)])
    assert words in capsys.readouterr().err


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
