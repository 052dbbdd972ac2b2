# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl serve` as a process: one line when it is ready, exit code 0 when it is told to stop."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from qwen3vl_ros import cli

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that end with the test."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def run(started, *arguments: str, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """A server and its first line."""
    command = [sys.executable, "-m", "qwen3vl_ros.cli", "serve", "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, *arguments], cwd=ROOT, env={"PATH": "/usr/bin:/bin", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    started.append(process)
    return process, process.stdout.readline()


def url_in(line: str) -> str:
    return re.search(r"http://\S+", line)[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_it_says_where_it_is_and_ends_cleanly(started, number):
    process, line = run(started)
    assert re.fullmatch(
        r"serving 'qwen3vl-tiny' at http://127\.0\.0\.1:\d+/v1 \(Ctrl-C ends\)\n", line
    )
    with httpx.Client() as client:
        models = client.get(f"{url_in(line)}/models").json()
        assert [model["id"] for model in models["data"]] == ["qwen3vl-tiny"]
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "", "")


def test_open_to_others_without_a_key_it_warns_and_with_one_it_asks_for_it(started):
    process, line = run(started, "--host", "0.0.0.0", "--served-name", "robot")
    assert "'robot' at http://0.0.0.0:" in line
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert err.count("\n") == 1
    assert "--api-key-env" in err

    how = ("--host", "0.0.0.0", "--api-key-env", "ROBOT_KEY")
    process, line = run(started, *how, ROBOT_KEY="a secret")
    url = url_in(line).replace("0.0.0.0", "127.0.0.1")
    assert httpx.get(f"{url}/models").status_code == 401
    right = {"Authorization": "Bearer a secret"}
    assert httpx.get(f"{url}/models", headers=right).status_code == 200
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "", "")


def test_a_port_that_is_taken_is_named(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"qwen3vl serve: cannot listen at 127.0.0.1 port {port} (")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("value", "why"), [(None, "not set"), ("", "empty"), ("zwölf", "no ASCII"), ("a\nb", "lines")]
)
def test_a_key_that_is_none_is_refused_and_not_repeated(capsys, monkeypatch, value, why):
    monkeypatch.delenv("ROBOT_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("ROBOT_KEY", value)
    assert cli.main(["serve", "--port", "0", "--api-key-env", "ROBOT_KEY"]) == 1, why
    said = capsys.readouterr().err
    assert "'ROBOT_KEY' holds no key" in said
    assert not value or value not in said


def test_without_the_libraries_it_says_how_to_install_them(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("qwen3vl_ros.serving.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    assert cli.main(["serve"]) == 1
    assert "pip install -e '.[serve]'" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_cannot_be_is_refused_before_anything_runs(capsys, port):
    with pytest.raises(SystemExit):
        cli.main(["serve", "--port", port])
    assert "--port" in capsys.readouterr().err
