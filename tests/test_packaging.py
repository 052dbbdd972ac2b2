# SPDX-License-Identifier: Apache-2.0
"""What the package says of itself, in every place that says it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import qwen3vl_ros

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [ROOT, ROOT / "overlay" / "vision_msgs", ROOT / "overlay" / "tf2_msgs"]


def requirements() -> list[tuple[str, str]]:
    """File and line of every requirement: requirements/, and what setup.py writes out itself."""
    found = [
        (path.name, line)
        for path in sorted((ROOT / "requirements").glob("*.txt"))
        for line in path.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    written_out = re.findall(r'"([a-z0-9][a-z0-9-]*[<>=][^"]*)"', (ROOT / "setup.py").read_text())
    return [*found, *(("setup.py", line) for line in written_out)]


def test_the_version_is_the_same_everywhere():
    package_xml = ElementTree.parse(ROOT / "package.xml").getroot()
    setup_version = re.search(r'version="(.*?)"', (ROOT / "setup.py").read_text())
    assert package_xml.findtext("version") == setup_version[1] == qwen3vl_ros.__version__


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_package_xml_is_valid(folder):
    catkin_package = pytest.importorskip("catkin_pkg.package")
    warnings: list[str] = []
    package = catkin_package.parse_package(str(folder / "package.xml"), warnings=warnings)
    assert not warnings
    assert package.get_build_type() == "ament_cmake"
    assert "rosidl_interface_packages" in {group.name for group in package.member_of_groups}


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda folder: folder.name)
def test_every_interface_file_is_generated(folder):
    listed = set(
        re.findall(r'"((?:msg|srv|action)/\w+\.\w+)"', (folder / "CMakeLists.txt").read_text())
    )
    there = {
        f"{kind}/{path.name}"
        for kind in ("msg", "srv", "action")
        for path in (folder / kind).glob(f"*.{kind}")
    }
    assert listed == there


@pytest.mark.parametrize(
    "requirement", [found for found in requirements() if not found[0].startswith("lock")], ids=str
)
def test_a_requirement_has_an_upper_bound(requirement):
    """A release of tomorrow must not break the install of today."""
    _, line = requirement
    operators = {specifier.operator for specifier in Requirement(line).specifier}
    assert operators & {"<", "<=", "=="}, f"{line}: no upper bound"


def test_a_locked_version_lies_within_the_bounds():
    bounds, locked = {}, []
    for file, line in requirements():
        requirement = Requirement(line)
        name = requirement.name.lower().replace("_", "-")
        if file.startswith("lock"):
            locked.append((name, line.split("==")[1]))
        else:
            bounds[name] = requirement.specifier
    assert not [
        (name, version)
        for name, version in locked
        if name in bounds and version not in bounds[name]
    ]
    assert set(bounds) & {name for name, _ in locked}, "the lock files name nothing we require"


@pytest.mark.parametrize("path", sorted((ROOT / "qwen3vl_ros").rglob("*.py")), ids=str)
def test_advice_to_install_names_a_list_and_no_version_of_its_own(path):
    """Bounds stand in requirements/ only; a message once named others."""
    advice = re.findall(r"pip install (?!-r requirements/|-e ')[^\"]*", path.read_text())
    assert not advice


def test_the_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
