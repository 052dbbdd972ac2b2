# SPDX-License-Identifier: Apache-2.0
"""What the README says of the code is made from the code."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qwen3vl_ros import cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.ros
def test_the_generated_tables_are_not_old():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "readme.py", "--check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_python_example_runs_as_printed(monkeypatch, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(ROOT)
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out.startswith("(")


def commands_of(section: str) -> list[str]:
    """The `qwen3vl` lines of a section, without the program and with broken lines joined."""
    (text,) = re.findall(rf"^## {section}\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    lines = block.replace("\\\n", " ").splitlines()
    assert all(line.startswith(".venv/bin/qwen3vl ") for line in lines)
    return [line.removeprefix(".venv/bin/qwen3vl ") for line in lines]


def test_the_commands_without_ros_run_as_printed(monkeypatch, capsys, tmp_path):
    draw, as_json = commands_of("Without ROS")
    monkeypatch.chdir(ROOT)
    drawn = tmp_path / "found.png"
    assert cli.main(shlex.split(draw.replace("out/found.png", str(drawn)))) == 0
    assert capsys.readouterr().out.startswith("blue cylinder 0.")
    assert drawn.stat().st_size > 10_000
    assert cli.main(shlex.split(as_json)) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "blue cylinder"


def test_the_commands_of_a_server_run_as_printed(monkeypatch, capsys):
    serve, ask = commands_of("Bigger than the robot")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    words = shlex.split(serve.removesuffix("&").replace("8765", port))
    monkeypatch.chdir(ROOT)
    here = cli.main(shlex.split(commands_of("Without ROS")[0].partition("--draw")[0]))
    said_here = capsys.readouterr().out
    server = subprocess.Popen([sys.executable, "-m", "qwen3vl_ros.cli", *words])
    try:
        wait_for_port(int(port), server)
        assert cli.main(shlex.split(ask.replace("8765", port))) == here == 0
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0
    assert capsys.readouterr().out == said_here


def wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the server does not listen")


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_what_the_readme_links_to_exists(link):
    assert (ROOT / link).exists()
