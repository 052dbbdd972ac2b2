# SPDX-License-Identifier: Apache-2.0
"""`make setup` when something is wrong: it says which step failed and why, never a traceback."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "set_up.py"
ACTIONS = (
    "check_tools",
    "install_debian_libraries",
    "create_venv",
    "install_wheels_to_run",
    "patch_cmake_exports",
    "build_interfaces",
    "install_editable",
    "check_imports",
    "install_wheels_to_work",
)


@pytest.fixture
def set_up(tmp_path, monkeypatch):
    """The script as a module, for a `.venv` in a temporary directory; no step does anything."""
    spec = importlib.util.spec_from_file_location("set_up", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    venv = tmp_path / ".venv"
    venv.mkdir()
    for name, value in (("VENV", venv), ("STAMPS", venv / ".setup"), ("PYTHON", venv / "python")):
        monkeypatch.setattr(module, name, value)
    for action in ACTIONS:
        monkeypatch.setattr(module, action, lambda *args: None)
    monkeypatch.setattr("sys.argv", ["set_up.py"])
    return module


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(OSError(28, "No space left on device"), "No space left", id="disk full"),
        pytest.param(
            subprocess.CalledProcessError(1, ["python"]), "exit status 1", id="a command failed"
        ),
        pytest.param(FileNotFoundError(2, "No such file", "sudo"), "sudo", id="no such program"),
    ],
)
def test_a_failed_step_says_which_and_why(set_up, monkeypatch, capsys, fault, words):
    def build():
        raise fault

    monkeypatch.setattr(set_up, "build_interfaces", build)
    assert set_up.main() == 1
    said = capsys.readouterr().err
    assert "[6/10] interfaces: FAILED" in said
    assert words in said


def test_a_command_that_fails_shows_the_end_of_its_output_and_what_to_do(set_up):
    with pytest.raises(set_up.SetupError, match=r"(?s)the reason.*exit code: 3\ntry again"):
        set_up.run(["sh", "-c", "echo the reason; exit 3"], advice="try again")


def test_a_second_run_does_nothing_also_from_another_shell(set_up, monkeypatch, capsys):
    """PATH differs between a terminal, an IDE and an activated .venv; the compilers do not."""
    monkeypatch.setattr(set_up.shutil, "which", {"cc": "/cc", "c++": "/c++"}.get)
    assert set_up.main() == 0
    capsys.readouterr()
    monkeypatch.setenv("PATH", "/usr/bin:/somewhere/else")
    assert set_up.main() == 0
    assert capsys.readouterr().out.count("unchanged") == 10


def test_another_compiler_sets_everything_up_anew(set_up, monkeypatch, capsys):
    monkeypatch.setattr(set_up.shutil, "which", {"cc": "/cc", "c++": "/c++"}.get)
    assert set_up.main() == 0
    capsys.readouterr()
    monkeypatch.setattr(set_up.shutil, "which", {"cc": "/cc", "c++": "/other/c++"}.get)
    assert set_up.main() == 0
    assert "unchanged" not in capsys.readouterr().out


def test_a_system_without_ldconfig_is_told_what_to_install(monkeypatch):
    spec = importlib.util.spec_from_file_location("set_up", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.shutil, "which", lambda *args, **kwargs: None)
    with pytest.raises(module.SetupError, match=r"(?s)libgl1.*this is no Debian or Ubuntu"):
        module.install_debian_libraries()
