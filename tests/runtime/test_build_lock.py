# SPDX-License-Identifier: Apache-2.0
"""One writer at a time, and a dead one stands in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.build_lock import build_lock

ROOT = Path(__file__).resolve().parents[2]
# Takes the lock as soon as it can, counts up in a file that nothing else protects, and lets go.
COUNTER = """
import sys, time
from pathlib import Path
from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.build_lock import build_lock
lock, total = Path(sys.argv[1]), Path(sys.argv[2])
done = 0
while done < 25:
    try:
        with build_lock(lock, of=lock):
            number = int(total.read_text())
            time.sleep(0.001)
            total.write_text(str(number + 1))
            done += 1
    except EngineError:
        time.sleep(0.001)
"""


def test_a_second_holder_is_told_who_the_first_is(tmp_path):
    with (
        build_lock(tmp_path / "lock", of=tmp_path / "engine"),
        pytest.raises(EngineError, match=r"process \d+ on .* has written for 0 s .*/engine"),
        build_lock(tmp_path / "lock", of=tmp_path / "engine"),
    ):
        raise AssertionError("both have it")
    assert not (tmp_path / "lock").exists()


def test_whoever_waits_gets_it_and_nobody_has_it_at_once(tmp_path):
    """Its file comes and goes under their hands: who locked one that is gone must try again."""
    (tmp_path / "total").write_text("0")
    command = [sys.executable, "-c", COUNTER, str(tmp_path / "lock"), str(tmp_path / "total")]
    counters = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [counter.wait(timeout=120) for counter in counters] == [0, 0, 0]
    assert (tmp_path / "total").read_text() == "75"


@pytest.mark.parametrize("left", ["", "{", '{"pid": 1}', '{"pid": 4, "host": "a", "since": 0}'])
def test_what_a_killed_holder_left_is_taken_over(tmp_path, left):
    (tmp_path / "lock").write_text(left)
    with build_lock(tmp_path / "lock", of=tmp_path):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_note_nobody_can_read_is_a_holder_all_the_same(tmp_path):
    with build_lock(tmp_path / "lock", of=tmp_path):
        (tmp_path / "lock").write_text("nonsense")
        with (
            pytest.raises(EngineError, match="another process is writing"),
            build_lock(tmp_path / "lock", of=tmp_path),
        ):
            raise AssertionError("both have it")


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with (
        pytest.raises(EngineError, match="it is a link"),
        build_lock(tmp_path / "lock", of=tmp_path),
    ):
        raise AssertionError("it was followed")
    assert (tmp_path / "precious").read_text() == "years of work"


def test_a_lock_that_cannot_be_made_says_where(tmp_path):
    with (
        pytest.raises(EngineError, match=r"cannot open .*/missing/lock"),
        build_lock(tmp_path / "missing" / "lock", of=tmp_path),
    ):
        raise AssertionError("it was made")
