# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint says it was taught: read strictly, written as it is read, absent for most."""

from __future__ import annotations

import pytest

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.model.taught_tasks import (
    FILE_NAME,
    TaughtTasks,
    load_taught_tasks,
    write_taught_tasks,
)
from qwen3vl_ros.scene.detections import Task


def test_without_the_file_nothing_is_known(tmp_path):
    assert load_taught_tasks(tmp_path) is None


def test_what_is_written_is_read_in_the_order_of_tasks(tmp_path):
    (tmp_path / FILE_NAME).write_text('{"tasks": ["count", "detect"], "labels_note": "solids"}')
    taught = load_taught_tasks(tmp_path)
    assert taught == TaughtTasks(tasks=(Task.DETECT, Task.COUNT), labels_note="solids")
    assert str(taught) == "detect, count (solids)"
    write_taught_tasks(tmp_path, taught)
    assert load_taught_tasks(tmp_path) == taught


@pytest.mark.parametrize(
    ("written", "words"),
    [
        pytest.param("[]", "holds a list", id="no object"),
        pytest.param("{}", "tasks = null", id="no tasks"),
        pytest.param('{"tasks": []}', "at least one of detect, refer", id="not one task"),
        pytest.param('{"tasks": "detect"}', 'tasks = "detect"', id="no list"),
        pytest.param('{"tasks": ["detect", "fly"]}', '"fly"', id="a task that there is not"),
        pytest.param('{"tasks": [1]}', r"tasks = \[1\]", id="a number"),
        pytest.param('{"tasks": ["ask"], "labels_note": 3}', "labels_note = 3", id="no note"),
    ],
)
def test_a_file_that_says_something_else_is_named(tmp_path, written, words):
    (tmp_path / FILE_NAME).write_text(written)
    with pytest.raises(ConfigError, match=words) as error:
        load_taught_tasks(tmp_path)
    assert FILE_NAME in str(error.value)


def test_a_task_that_was_taught_gets_no_warning():
    taught = TaughtTasks(tasks=(Task.REFER,))
    assert taught.warnings([Task.REFER]) == ()
    (warning,) = taught.warnings([Task.REFER, Task.TRACK])
    assert warning == (
        "this engine was not taught 'track'; its answer may be noise; taught: refer"
    )
