# SPDX-License-Identifier: Apache-2.0
"""The shape of the code: who may import what, and where things may not be put.

The layers are those of the table "Rooms" in docs/architecture.md.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qwen3vl_ros

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "qwen3vl_ros"

# A file imports from its own room and from those below it.
ROOMS = (
    "ros",
    "cli",
    "commands",
    "offline",
    "synthetic",
    "evaluation",
    "serving",
    "perception",
    "remote",
    "model",
    "language",
    "image",
    "runtime",
    "scene",
    "ground",
)
GROUND = {"model_config", "config_fields", "errors"}
# Generated from msg/, srv/ and action/ into the package; above everything, as ROS is.
INTERFACES = {"msg", "srv", "action"}

ROS_PACKAGES = {
    "rclpy",
    "ament_index_python",
    "builtin_interfaces",
    "cv_bridge",
    "message_filters",
    "rcl_interfaces",
    "rosbag2_py",
    "tf2_ros",
}
HOMES = {
    "torch": ("offline/",),
    "transformers": ("offline/",),
    "tensorrt": ("runtime/tensorrt_library.py",),
    "tensorrt_rtx_bindings": ("runtime/tensorrt_library.py",),
    "cuda": ("runtime/device_memory.py",),
    "onnxruntime": ("runtime/",),
    "open3d": ("scene/lifting.py", "synthetic/"),
    "matplotlib": ("ros/demo_",),
    "scipy": ("evaluation/solid_overlap.py",),
    "faster_coco_eval": ("evaluation/coco_ap.py",),
    "openai": ("remote/openai_model.py",),
    "anthropic": ("remote/anthropic_model.py",),
    "httpx2": ("remote/",),
    "starlette": ("serving/",),
    "uvicorn": ("serving/server.py",),
}
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "handler", "base"}
LONGEST_FILE = 400

SOURCES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
CORE = [path for path in SOURCES if path.parts[0] != "ros"]
PYTHON_FILES = sorted(
    path.relative_to(ROOT)
    for folder in ("qwen3vl_ros", "tests", "launch", "scripts", "benchmarks", "engines")
    for path in (ROOT / folder).rglob("*.py")
)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Absolute dotted names imported anywhere in a source file, with their lines."""
    package = ("qwen3vl_ros", *path.parent.parts)
    for node in ast.walk(ast.parse((PACKAGE / path).read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*origin, *filter(None, [node.module])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def room_of(name: str) -> str:
    """Room of a dotted name or a path below the package: its first part, or "ground"."""
    return "ground" if name in GROUND else name


def violations(path: Path) -> list[str]:
    """Imports of a file that point up."""
    room = room_of(path.parts[0].removesuffix(".py"))
    if room == "__init__":
        return []
    found = []
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] != "qwen3vl_ros" or len(parts) < 2 or parts[1].startswith("__"):
            continue
        target = "ros" if parts[1] in INTERFACES else room_of(parts[1])
        if target not in ROOMS or ROOMS.index(target) < ROOMS.index(room):
            found.append(f"{path}:{line} ({room}) imports {name} ({target})")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_imports_point_down(path):
    assert path.parts[0].removesuffix(".py") in {*ROOMS, *GROUND, "__init__"}, "a room of its own?"
    assert not violations(path)


@pytest.mark.parametrize("path", CORE, ids=str)
def test_the_core_does_not_know_ros(path):
    names = {name.split(".")[0] for _, name in imports(path)}
    ros = {name for name in names if name in ROS_PACKAGES or name.endswith("_msgs")}
    assert not ros, f"{path} imports {sorted(ros)}; move it under ros/"


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_heavy_dependencies_have_one_home(path):
    for line, name in imports(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or path.as_posix().startswith(homes), (
            f"{path}:{line} imports {name}; its home is {' or '.join(homes)}"
        )


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_there_are_no_drawers(path):
    assert not DRAWERS & {part.removesuffix(".py") for part in path.parts}


@pytest.mark.parametrize("path", PYTHON_FILES, ids=str)
def test_a_file_names_its_licence_and_can_be_read_at_one_sitting(path):
    lines = (ROOT / path).read_text().splitlines()
    if not lines:
        pytest.skip("an empty __init__.py")
    first = lines[1] if lines[0].startswith("#!") else lines[0]
    assert first == "# SPDX-License-Identifier: Apache-2.0"
    assert len(lines) <= LONGEST_FILE


def test_the_front_door_is_small():
    assert qwen3vl_ros.__all__ == ["__version__"]


def test_importing_the_package_pulls_nothing_heavy():
    code = (
        "import sys, qwen3vl_ros; "
        "print(*{'torch', 'open3d', 'onnxruntime', 'transformers', 'rclpy'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


def test_an_import_that_points_up_is_seen(tmp_path, monkeypatch):
    """The rule itself: a scene file that reaches for a message, and one that reaches for torch."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "box.py").write_text(
        "from ..perception import Perception\nfrom ..msg import Query\nfrom ..errors import X\n"
    )
    assert violations(Path("scene/box.py")) == [
        "scene/box.py:1 (scene) imports qwen3vl_ros.perception.Perception (perception)",
        "scene/box.py:2 (scene) imports qwen3vl_ros.msg.Query (ros)",
    ]
