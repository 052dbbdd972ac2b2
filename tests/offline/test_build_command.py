# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl build` from the command line: what it says, and how it ends."""

from __future__ import annotations

import re

from qwen3vl_ros import cli
from qwen3vl_ros.offline.recipes import load_recipe
from qwen3vl_ros.runtime import engine_memory, free_memory
from qwen3vl_ros.runtime.manifest import verify_engine_dir
from tests.offline.conftest import TINY

ADA = load_recipe("rtx-ada")


def test_too_little_memory_is_said_before_a_build_begins(
    tiny_graphs, tmp_path, monkeypatch, capsys
):
    source = ["--graphs", str(tiny_graphs(ADA)), "--output", str(tmp_path / "engines")]
    monkeypatch.setattr(engine_memory, "free_memory_bytes", lambda: 500_000_000)
    monkeypatch.setattr(free_memory, "free_memory_bytes", lambda: 500_000_000)
    assert cli.main(["build", "--recipe", ADA.name, *source]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("memory: about 0.5")
    assert out.endswith(" GB needed, 0.50 GB are free\n")
    assert re.search(r"building these plans needs about 0\.\d GB of memory and 0\.50 GB are", err)
    assert not (tmp_path / "engines" / ADA.name).exists()


def test_the_command_that_a_refusal_prints_builds_an_engine(tmp_path, capsys):
    """Graphs first, for a robot to build from; then plans, of the graphs that are there."""
    build = ["build", "--recipe", "rtx-ampere", "--checkpoint", str(TINY)]
    build += ["--output", str(tmp_path)]
    assert cli.main([*build, "--graphs-only"]) == 0
    assert "chosen for 2B, and this checkpoint is of another shape" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["rtx-ampere-graphs"]
    assert cli.main(build) == 0
    out, err = capsys.readouterr()
    assert f"graphs: {tmp_path / 'rtx-ampere-graphs'}, there already" in out
    assert f"rtx-ampere: {tmp_path / 'rtx-ampere'}" in out
    assert re.search(r"on the GPU it needs about 0\.\d\d GB \(.*not yet run on hardware\)", out)
    assert "decoder.plan: " in err
    verify_engine_dir(tmp_path / "rtx-ampere", flavour="tensorrt-rtx")


def test_graphs_that_are_not_there_end_with_one_line(tmp_path, capsys):
    nowhere = ["--graphs", str(tmp_path / "none"), "--output", str(tmp_path)]
    assert cli.main(["build", "--recipe", "rtx-ada", *nowhere]) == 1
    assert "no engine directory" in capsys.readouterr().err.splitlines()[-1]


def test_a_recipe_that_is_not_there_ends_with_one_line(tmp_path, capsys):
    assert cli.main(["build", "--recipe", "orin", "--output", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("qwen3vl build: recipe is 'orin', expected one of")
    assert said.count("\n") == 1
