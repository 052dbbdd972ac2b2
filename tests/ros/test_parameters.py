# SPDX-License-Identifier: Apache-2.0
"""The one declaration of the parameters, and what a running node refuses."""

from __future__ import annotations

from dataclasses import fields

import pytest
from rclpy.parameter import Parameter

from qwen3vl_ros.errors import ConfigError, QueryError
from qwen3vl_ros.ros import synthetic_topics, topics
from qwen3vl_ros.ros.declared_parameters import PARAMETER_TYPES, declared_limits, parameter_table
from qwen3vl_ros.ros.node import GroundingNode
from qwen3vl_ros.ros.parameters import NodeParameters
from qwen3vl_ros.ros.synthetic_parameters import SyntheticParameters
from qwen3vl_ros.ros.topics import endpoint_table
from qwen3vl_ros.scene.detections import Task


@pytest.mark.parametrize("kind", [NodeParameters, SyntheticParameters])
def test_every_parameter_has_a_type_ros_knows_and_a_description(kind):
    for f in fields(kind):
        assert f.type in PARAMETER_TYPES
        assert declared_limits(kind)[f.name].description.endswith(".")


@pytest.mark.parametrize(
    ("kind", "endpoints"),
    [
        pytest.param(NodeParameters, topics.ENDPOINTS, id="node"),
        pytest.param(SyntheticParameters, synthetic_topics.ENDPOINTS, id="synthetic camera"),
    ],
)
def test_the_tables_of_the_readme_name_every_parameter_and_endpoint(kind, endpoints):
    parameters, names = parameter_table(kind), endpoint_table(endpoints)
    assert all(f"| `{name}` |" in parameters for name in declared_limits(kind))
    assert all(f"`{endpoint.name}`" in names for endpoint in endpoints)
    lines = parameters.splitlines() + names.splitlines()
    assert {line.count("|") for line in lines} == {5}, "a bar in a text would break the table"


def test_the_synthetic_camera_holds_its_parameters_to_their_limits():
    with pytest.raises(ConfigError, match="seed is -1, expected 0 to"):
        SyntheticParameters(seed=-1)
    with pytest.raises(ConfigError, match="expected one of moving, static"):
        SyntheticParameters(motion="flying")
    assert all(limits.read_only for limits in declared_limits(SyntheticParameters).values())


def test_by_default_no_question_is_in_force():
    assert NodeParameters().query() is None


@pytest.mark.parametrize(
    ("changes", "task", "asked"),
    [
        pytest.param({"categories": ["mug"]}, Task.DETECT, ("mug",), id="detect"),
        pytest.param({"task": "refer", "text": "my mug"}, Task.REFER, "my mug", id="refer"),
        pytest.param({"task": "point", "text": "handle"}, Task.POINT, "handle", id="point"),
    ],
)
def test_task_text_and_categories_make_the_question(changes, task, asked):
    query = NodeParameters().changed(changes).query(query_id="query-1")
    assert query is not None
    assert (query.task, query.query_id) == (task, "query-1")
    assert (query.categories if task is Task.DETECT else query.text) == asked


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        pytest.param({"task": "find"}, ConfigError, "expected one of detect", id="unknown task"),
        pytest.param({"tf_fallback": "latest"}, ConfigError, "camera, drop", id="unknown word"),
        pytest.param({"tf_timeout_s": 6.0}, ConfigError, "0.0 to 5.0", id="too long"),
        pytest.param({"depth_slop_s": float("nan")}, ConfigError, "nan", id="not a number"),
        pytest.param({"max_objects": 0}, ConfigError, "1 to 200", id="none at all"),
        pytest.param({"categories": [""]}, QueryError, "none of them empty", id="blank category"),
        pytest.param({"categories": ["x" * 3000]}, QueryError, "3000 characters", id="huge"),
        pytest.param({"categories": []}, QueryError, "needs categories", id="taken back"),
        pytest.param({"task": "refer"}, QueryError, "needs text", id="task without its text"),
        pytest.param({"task": "refer", "text": " "}, QueryError, "no text", id="blank text"),
    ],
)
def test_what_breaks_the_limits_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        NodeParameters(categories=("mug",)).changed(changes)


def test_names_that_are_not_ours_are_passed_over():
    parameters = NodeParameters()
    assert parameters.changed({"use_sim_time": True}) == parameters


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        pytest.param("task", "find", "one of detect", id="unknown word"),
        pytest.param("tf_timeout_s", 6.0, "out of range", id="too large"),
        pytest.param("tf_timeout_s", float("nan"), "out of range", id="not a number"),
        pytest.param("tf_timeout_s", "soon", "type", id="wrong type"),
        pytest.param("max_objects", 0, "out of range", id="too small"),
        pytest.param("engine_dir", "elsewhere", "read-only", id="fixed at start"),
        pytest.param("categories", [""], "none of them empty", id="empty question"),
        pytest.param("task", "refer", "needs text", id="task without its text"),
        pytest.param("text", "x" * 10_000_000, "characters", id="huge"),
    ],
)
def test_a_running_node_refuses_with_a_reason_and_keeps_what_it_had(world, name, value, words):
    node = world.start(listen=False)
    before = node.get_parameter(name).value
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert words in result.reason
    assert node.get_parameter(name).value == before


def test_a_running_node_describes_its_parameters(world):
    node = world.start(listen=False)
    for name, limits in declared_limits(NodeParameters).items():
        descriptor = node.describe_parameter(name)
        assert descriptor.description == limits.description
        assert descriptor.read_only == limits.read_only
    (wait,) = node.describe_parameter("tf_timeout_s").floating_point_range
    assert (wait.from_value, wait.to_value) == (0.0, 5.0)
    (count,) = node.describe_parameter("max_objects").integer_range
    assert (count.from_value, count.to_value) == (1, 200)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"task": "find"}, "one of detect", id="unknown word"),
        pytest.param({"tf_timeout_s": 6.0}, "out of range", id="out of range"),
        pytest.param({"tf_timeout_s": "soon"}, "DOUBLE", id="wrong type"),
        pytest.param({"categories": [""]}, "none of them empty", id="blank category"),
    ],
)
def test_a_node_given_a_broken_parameter_does_not_start_and_says_why(world, given, words):
    overrides = [Parameter(name, value=value) for name, value in given.items()]
    with pytest.raises((ConfigError, QueryError), match=words):
        GroundingNode(parameter_overrides=overrides)
