# SPDX-License-Identifier: Apache-2.0
"""Whoever can write an engine can run code as its reader, so few may."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime import trusted_path
from qwen3vl_ros.runtime.trusted_path import check_spelled_out, check_trusted

STRANGER = 54321


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    directory = tmp_path / "engine"
    (directory / "graphs").mkdir(parents=True)
    (directory / "manifest.json").write_text("{}")
    (directory / "graphs" / "vision.onnx").write_text("graph")
    for place in (directory, *directory.rglob("*")):
        place.chmod(0o755 if place.is_dir() else 0o644)
    return directory


FILES = ("manifest.json", "graphs/vision.onnx")


@pytest.fixture
def belongs_to_a_stranger(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """As chown would make it, which only root may do."""
    strangers: set[Path] = set()
    real = Path.stat

    def stat(path: Path, **kwargs: bool) -> os.stat_result:
        status = real(path, **kwargs)
        if path in strangers:
            fields = list(status)
            fields[4] = STRANGER
            return os.stat_result(fields)
        return status

    monkeypatch.setattr(trusted_path.Path, "stat", stat)
    return strangers.add


def test_files_of_this_user_are_read(engine):
    check_trusted(engine, FILES)


@pytest.mark.parametrize("place", ["", "manifest.json", "graphs", "graphs/vision.onnx"])
def test_what_belongs_to_a_stranger_is_refused_by_its_path(engine, belongs_to_a_stranger, place):
    belongs_to_a_stranger(engine / place)
    with pytest.raises(EngineError) as refusal:
        check_trusted(engine, FILES)
    assert str(refusal.value).startswith(f"{engine / place} belongs to user {STRANGER}")
    assert f"sudo chown -R {os.geteuid()} {engine}" in str(refusal.value)


def test_what_belongs_to_the_owner_of_this_code_is_read(engine, belongs_to_a_stranger):
    """A checkout that is mounted into a container, engines and code alike."""
    belongs_to_a_stranger(engine / "manifest.json")
    belongs_to_a_stranger(Path(trusted_path.__file__))
    check_trusted(engine, FILES)


@pytest.mark.parametrize("place", ["", "manifest.json", "graphs", "graphs/vision.onnx"])
def test_what_everybody_can_write_is_refused_by_its_path(engine, place):
    (engine / place).chmod(0o777)
    with pytest.raises(EngineError) as refusal:
        check_trusted(engine, FILES)
    assert str(refusal.value).startswith(f"{engine / place} can be written by every user")
    assert f"chmod -R o-w {engine}" in str(refusal.value)


def test_a_group_may_write_as_several_distributions_have_it(engine):
    for place in (engine, *engine.rglob("*")):
        place.chmod(0o775)
    check_trusted(engine, FILES)


def test_what_a_link_leads_to_counts_as_well_as_where_it_stands(engine, belongs_to_a_stranger):
    (engine / "weights").write_text("numbers")
    (engine / "graphs" / "vision.onnx.data").symlink_to("../weights")
    check_trusted(engine, (*FILES, "graphs/vision.onnx.data"))
    belongs_to_a_stranger(engine / "weights")
    with pytest.raises(EngineError, match=r"weights belongs to user"):
        check_trusted(engine, (*FILES, "graphs/vision.onnx.data"))


def test_an_engine_that_is_itself_a_link_is_looked_at_where_it_lies(engine, tmp_path):
    (tmp_path / "current").symlink_to(engine)
    check_trusted(tmp_path / "current", FILES)
    engine.chmod(0o757)
    with pytest.raises(EngineError, match="can be written by every user"):
        check_trusted(tmp_path / "current", FILES)


def test_what_lies_beside_and_above_is_not_looked_at(engine, tmp_path):
    (engine / "notes.txt").write_text("")
    (engine / "notes.txt").chmod(0o666)
    tmp_path.chmod(0o777)
    check_trusted(engine, FILES)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("~/engine", "no directory named '~'.*perhaps ", id="tilde"),
        pytest.param("$HOME/engine", r"no directory named '\$HOME'", id="variable"),
        pytest.param("/opt/${ENGINES}/tiny", r"no directory named '\$\{ENGINES\}'", id="braces"),
        pytest.param("/opt/\0tiny", "holds a NUL character", id="nul"),
    ],
)
def test_what_only_a_shell_would_have_expanded_is_said(path, message):
    with pytest.raises(EngineError, match=message):
        check_spelled_out(Path(path))


def test_a_directory_that_has_such_a_name_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("~", "$HOME"):
        Path(name).mkdir()
        check_spelled_out(Path(name) / "engine")
    check_spelled_out(Path("/opt/engines/tiny"))
