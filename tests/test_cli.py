# SPDX-License-Identifier: Apache-2.0
"""The `qwen3vl` command: what it prints, and how it ends when something is wrong.

Right or wrong, one of two things happens: exit code 0, or one line on stderr that says why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from qwen3vl_ros import cli
from qwen3vl_ros.commands import ground as ground_command
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.detections import (
    BoxSource,
    Detection2D,
    Detection3D,
    Grounding,
    Point2D,
    Query,
    Task,
)
from qwen3vl_ros.scene.geometry import OrientedBox


class Scripted:
    """A perception that finds one red box, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Frame, Query]] = []

    def ground(self, frame: Frame, query: Query) -> Grounding:
        self.asked.append((frame, query))
        box = Detection2D(label="red box", xyxy_px=np.array([8.0, 8, 24, 24]), score=0.5)
        return Grounding(
            stamp_ns=0,
            frame_id=frame.frame_id,
            query=query,
            detections_2d=(box,),
            answer_text="[...]",
        )


@pytest.fixture
def scripted(monkeypatch) -> Scripted:
    perception = Scripted()
    monkeypatch.setattr(ground_command.Perception, "load", lambda *args, **kwargs: perception)
    return perception


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "picture.png"
    blue_left = np.zeros((32, 48, 3), np.uint8)
    blue_left[:, :24] = (255, 0, 0)  # OpenCV writes BGR
    assert cv2.imwrite(str(path), blue_left)
    return path


def ground(picture: Path, *more: str) -> list[str]:
    return ["ground", "--image", str(picture), "--query", "red box", *more]


def test_ground_asks_in_rgb_and_prints_what_was_found_as_json(scripted, picture, capsys):
    assert cli.main(ground(picture)) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "refer"
    assert said["detections_2d"] == [{"label": "red box", "score": 0.5, "xyxy_px": [8, 8, 24, 24]}]
    frame, query = scripted.asked[0]
    assert frame.image[0, 0].tolist() == [0, 0, 255], "blue, in RGB"
    assert (query.task, query.text) == (Task.REFER, "red box")


def test_categories_are_apart_by_commas(scripted, picture):
    arguments = ["ground", "--image", str(picture), "--task", "detect", "--query", "red box, mug"]
    assert cli.main(arguments) == 0
    assert scripted.asked[0][1].categories == ("red box", "mug")


def test_the_drawn_picture_is_written_where_asked(scripted, picture, tmp_path):
    drawn = tmp_path / "new folder" / "found.png"
    assert cli.main(ground(picture, "--draw", str(drawn))) == 0
    assert cv2.imread(str(drawn)).shape == (32, 48, 3)


def test_every_kind_of_answer_becomes_plain_json():
    T = np.eye(4)
    T[:3, 3] = (1.0, 2.0, 3.0)
    solid = Detection3D(
        label="mug",
        box=OrientedBox(T_frame_box=T, size_m=np.array([0.1, 0.2, 0.3])),
        score=0.25,
        source=BoxSource.DEPTH,
    )
    point = Point2D(label="handle", uv_px=np.array([4.0, 5.0]), score=1.0)
    said = ground_command.grounding_as_json(
        Grounding(
            stamp_ns=0,
            frame_id="camera",
            query=Query(task=Task.POINT, text="handle"),
            points=(point,),
            detections_3d=(solid,),
            notes=("odd",),
        )
    )
    said = json.loads(json.dumps(said, allow_nan=False))
    assert said["points"] == [{"label": "handle", "score": 1.0, "uv_px": [4.0, 5.0]}]
    assert said["detections_3d"][0]["center_m"] == [1.0, 2.0, 3.0]
    assert said["detections_3d"][0]["source"] == "depth"
    assert said["notes"] == ["odd"]


def ends_with_one_line(capsys, arguments: list[str]) -> str:
    """What a command that fails says."""
    assert cli.main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"qwen3vl {arguments[0]}: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_picture_that_is_not_there_is_named(capsys, tmp_path):
    said = ends_with_one_line(capsys, ground(tmp_path / "none.png"))
    assert "cannot read a picture" in said
    assert "none.png" in said


def test_a_file_that_is_no_picture_is_named(capsys, tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    assert "expected a PNG or JPEG" in ends_with_one_line(capsys, ground(tmp_path / "words.png"))


def test_a_question_without_words_is_refused(capsys, picture):
    said = ends_with_one_line(capsys, ["ground", "--image", str(picture), "--query", " "])
    assert "has no text" in said


def test_an_engine_that_is_not_there_is_named_with_the_command_that_makes_one(
    capsys, picture, tmp_path
):
    said = ends_with_one_line(capsys, ground(picture, "--engines", str(tmp_path / "none")))
    assert "qwen3vl export" in said


def test_a_drawn_picture_that_cannot_be_written_is_a_failure(scripted, capsys, picture, tmp_path):
    taken = tmp_path / "found.png"
    taken.mkdir()
    assert cli.main(ground(picture, "--draw", str(taken))) == 1
    assert "cannot write the drawn picture" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export", "train-tiny"])
def test_without_the_workshop_its_commands_say_how_to_install_it(command, capsys, monkeypatch):
    """After `make demo` there is no torch, on purpose; this once ended in a traceback."""
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("qwen3vl_ros.offline.")]:
        monkeypatch.delitem(sys.modules, name)
    assert "make setup" in ends_with_one_line(capsys, [command])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param([], "COMMAND", id="no command"),
        pytest.param(["fly"], "invalid choice", id="unknown command"),
        pytest.param(["ground", "--image", "a.png"], "--query", id="no question"),
        pytest.param(
            ["ground", "--image", "a.png", "--query", "mug", "--task", "ocr"],
            "invalid choice",
            id="a task that gives no places",
        ),
        pytest.param(
            ["ground", "--image", "a.png", "--query", "mug", "--draw", "found.txt"],
            "expected a path that ends in .png",
            id="a picture in a text file",
        ),
        pytest.param(["evaluate", "--scenes", "0"], "expected at least 1", id="no scenes"),
        pytest.param(["export", "--precision", "int2"], "invalid choice", id="precision"),
        pytest.param(["export", "--cache-length", "-1"], "expected at least 1", id="no cache"),
    ],
)
def test_arguments_that_cannot_be_are_refused_before_anything_runs(arguments, words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
