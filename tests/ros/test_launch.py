# SPDX-License-Identifier: Apache-2.0
"""Launch files, params files and RViz configs name only what there is.

`launch` is not on PyPI, so the launch file itself is read here, not run.
"""

from __future__ import annotations

import ast
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from qwen3vl_ros.ros import topics
from qwen3vl_ros.ros.parameters import NodeParameters
from qwen3vl_ros.ros.subscriptions import LOST
from qwen3vl_ros.synthetic.questions import NAMES

LAUNCH = Path(__file__).resolve().parents[2] / "launch"


@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.launch.py")), ids=lambda path: path.name)
def test_a_launch_file_is_a_declaration_of_one_screen(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 60
    calls = {
        node.func.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert "DeclareLaunchArgument" in calls
    assert not calls & {"eval", "exec", "OpaqueFunction", "ExecuteProcess", "open"}


def test_the_launch_file_remaps_the_topics_the_node_hears():
    tree = ast.parse((LAUNCH / "perception.launch.py").read_text())
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert {topics.IMAGE.name, topics.DEPTH.name, topics.CAMERA_INFO.name} <= words


@pytest.mark.parametrize(
    "path", sorted((LAUNCH / "params").glob("perception*.yaml")), ids=lambda path: path.name
)
def test_a_params_file_sets_parameters_that_exist_to_values_they_allow(path):
    (parameters,) = (
        section["ros__parameters"] for section in yaml.safe_load(path.read_text()).values()
    )
    changed = NodeParameters().changed(parameters)
    for name, value in parameters.items():
        got = getattr(changed, name)
        assert (list(got) if isinstance(got, tuple) else got) == value
        assert got != getattr(NodeParameters(), name), "only what differs"


def test_the_question_asked_at_first_is_in_words_the_tiny_engine_was_taught():
    """It once asked for a "box", when every question it had learnt named a colour and a shape."""
    (section,) = yaml.safe_load((LAUNCH / "params" / "perception.yaml").read_text()).values()
    question = section["ros__parameters"]
    assert (question["task"], question["text"]) in {("refer", name) for name in NAMES}


@pytest.mark.parametrize("name", ["FASTDDS", "FASTRTPS"])
@pytest.mark.parametrize("path", sorted(LAUNCH.glob("*.launch.py")), ids=lambda path: path.name)
def test_every_release_of_fast_dds_finds_its_profile(path, name):
    """Fast DDS 2 (Humble, Jazzy) reads FASTRTPS_..., Fast DDS 3 FASTDDS_...."""
    words = {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert words & {name, f"{name}_DEFAULT_PROFILES_FILE"}
    assert f"{name}_DEFAULT_PROFILES_FILE" in LOST


def test_rviz_shows_topics_that_the_node_publishes():
    config = yaml.safe_load((LAUNCH / "rviz" / "perception.rviz").read_text())
    shown = {
        display["Topic"]["Value"]: display["Topic"]["Reliability Policy"]
        for display in config["Visualization Manager"]["Displays"]
        if "Topic" in display
    }
    assert shown
    for name, reliability in shown.items():
        endpoint = next(e for e in topics.ENDPOINTS if e.name.replace("~", "/qwen3vl") == name)
        assert reliability == ("Reliable" if endpoint.reliable else "Best Effort")


def test_the_profile_that_the_log_recommends_holds_pictures():
    path = LAUNCH / "params" / "fastdds_large_images.xml"
    assert str(path.relative_to(LAUNCH.parent)) in LOST
    size = ElementTree.parse(path).find(".//{*}segment_size")
    full_hd = 1920 * 1080 * 3
    assert int(size.text) > 2 * full_hd
