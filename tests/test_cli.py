# SPDX-License-Identifier: Apache-2.0
"""The `qwen3vl` command: what it prints, and how it ends when something is wrong.

Right or wrong, one of two things happens: exit code 0, or one line on stderr that says why.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from qwen3vl_ros import cli
from qwen3vl_ros.commands import ground as ground_command
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.scene.answers import (
    Count,
    Moment,
    Response,
    ResponseValue,
    Step,
    TextSpan,
    TimedBox,
    Zoom,
    ZoomedAnswer,
)
from qwen3vl_ros.scene.as_json import grounding_as_json
from qwen3vl_ros.scene.camera import Frame
from qwen3vl_ros.scene.clip import Clip
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
from qwen3vl_ros.scene.tools import ToolCall
from tests.rehashed import with_hashes_made_to_fit

SCENE = Path(__file__).resolve().parents[1] / "docs" / "scene.jpg"


class Scripted:
    """A perception that finds one red box, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Frame, Query]] = []
        self.views: list[Sequence[Frame | Clip]] = []

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

    def ask(self, views: Sequence[Frame | Clip], query: Query) -> Response:
        self.views.append(views)
        corner = np.array([4.0, 5.0, 20, 21])
        value: ResponseValue = {
            Task.SPOT_TEXT: (TextSpan(text="EXIT", xyxy_px=corner, score=0.5),),
            Task.COUNT: Count(uv_px=np.array([[4.0, 5.0], [20.0, 21.0]]), scores=(0.5, 0.25)),
            Task.LOCATE_MOMENT: (Moment(start_s=1.0, end_s=2.5),),
            Task.TRACK: (TimedBox(time_s=1.0, xyxy_px=corner, label="cup"),),
            Task.ZOOM: ZoomedAnswer(
                words="EXIT", zooms=(Zoom(picture=0, xyxy_px=corner, label="sign"),)
            ),
            Task.ACT: Step(words="", calls=(ToolCall(name="grasp", arguments={"what": "cup"}),)),
        }.get(query.task, "A red box.")
        return Response(
            stamp_ns=0,
            frame_id="camera",
            query=query,
            value=value,
            complete=query.task is not Task.COUNT,
            answer_text="...",
        )


@pytest.fixture
def scripted(monkeypatch) -> Scripted:
    perception = Scripted()
    monkeypatch.setattr(ground_command, "perception_asked", lambda options: perception)
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
    assert cli.main(ground(picture, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "refer"
    assert said["detections_2d"] == [{"label": "red box", "score": 0.5, "xyxy_px": [8, 8, 24, 24]}]
    frame, query = scripted.asked[0]
    assert frame.image[0, 0].tolist() == [0, 0, 255], "blue, in RGB"
    assert (query.task, query.text) == (Task.REFER, "red box")


def test_without_the_flag_it_prints_a_line_for_each_thing(scripted, picture, capsys):
    assert cli.main(ground(picture)) == 0
    assert capsys.readouterr().out == "red box 0.50: box 8 8 24 24 px\n"


@pytest.fixture
def stamped_folder(tmp_path) -> Path:
    """Pictures as a bag is unpacked: the names are stamps in nanoseconds."""
    folder = tmp_path / "video"
    folder.mkdir()
    for after_s in (0.0, 0.5, 2.0):
        stamp_ns = 1_700_000_000_000_000_000 + round(after_s * 1e9)
        assert cv2.imwrite(str(folder / f"{stamp_ns}.png"), np.zeros((32, 48, 3), np.uint8))
    return folder


TOOLS = [{"type": "function", "function": {"name": "grasp", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize(
    ("arguments", "key", "line"),
    [
        pytest.param("--task ocr", "texts", "EXIT 0.50: box 4 5 20 21 px", id="read"),
        pytest.param("--task count --query mugs", "points", "2", id="count"),
        pytest.param("--task ask --query what?", "words", "A red box.", id="ask"),
        pytest.param("--task zoom --query what?", "zooms", "EXIT", id="zoom"),
        pytest.param(
            "--task act --query go --tools TOOLS", "calls", 'calls grasp {"what": "cup"}', id="act"
        ),
        pytest.param(
            "--video VIDEO --task locate_moment --query it",
            "moments",
            "1.0 to 2.5 s",
            id="moment",
        ),
        pytest.param(
            "--video VIDEO --task track --query cup",
            "boxes",
            "1.0 s cup: box 4 5 20 21 px",
            id="track",
        ),
    ],
)
def test_every_other_task_is_asked_printed_and_drawn(
    scripted, picture, stamped_folder, tmp_path, capsys, arguments, key, line
):
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    words = arguments.replace("TOOLS", str(tmp_path / "tools.json")).split()
    words = [str(stamped_folder) if word == "VIDEO" else word for word in words]
    shown = [] if "--video" in words else ["--image", str(picture)]
    assert cli.main(["ground", *shown, *words]) == 0
    assert capsys.readouterr().out.splitlines()[0] == line
    drawn = tmp_path / "drawn.png"
    assert cli.main(["ground", *shown, *words, "--json", "--draw", str(drawn)]) == 0
    assert key in json.loads(capsys.readouterr().out)
    assert cv2.imread(str(drawn)).shape[0] == 32


def test_several_pictures_are_for_comparing_and_not_for_boxes(scripted, picture, capsys):
    two = ["--image", str(picture), str(picture)]
    assert cli.main(["ground", *two, "--task", "compare", "--query", "What moved?"]) == 0
    assert len(scripted.views[0]) == 2
    assert capsys.readouterr().out == "A red box.\n"
    said = ends_with_one_line(capsys, ["ground", *two, "--query", "red box"])
    assert "about one picture" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--server", "http://localhost:1/v1"], "without --model", id="no model"),
        pytest.param(["--model", "qwen"], "expected --server URL", id="no server"),
        pytest.param(["--server", "localhost", "--model", "qwen"], "http://", id="no address"),
        pytest.param(
            ["--server", "http://localhost:1/v1", "--model", "qwen", "--retries", "0"],
            "localhost",
            id="nobody there",
        ),
    ],
)
def test_a_server_that_cannot_be_asked_is_named(capsys, picture, arguments, words):
    assert words in ends_with_one_line(capsys, ground(picture, *arguments))


@pytest.mark.parametrize(
    ("written", "words"),
    [
        pytest.param('[{"name": "grasp"}]', "KeyError: 'parameters'", id="half a tool"),
        pytest.param(
            '[{"name": "\\ud800", "parameters": {}}]', "surrogates", id="half a character"
        ),
        pytest.param(
            '[{"name": "go", "parameters": [1]}]', "expected a JSON list", id="no schema"
        ),
        pytest.param("[" * 100_000, "nested", id="nested without end"),
    ],
)
def test_tools_that_cannot_be_read_are_named(scripted, picture, tmp_path, capsys, written, words):
    (tmp_path / "tools.json").write_text(written)
    arguments = ["ground", "--image", str(picture), "--task", "act", "--query", "go"]
    said = ends_with_one_line(capsys, [*arguments, "--tools", str(tmp_path / "tools.json")])
    assert "tools.json" in said
    assert words in said


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
    said = grounding_as_json(
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


def test_a_task_that_the_engine_was_not_taught_is_a_line_on_stderr(capsys, tmp_path):
    """Such an engine says noise or nothing, and both look like answers."""
    engine = Path(shutil.copytree(tiny_engine_directory(), tmp_path / "engine"))
    (engine / "grounding.json").write_text('{"tasks": ["detect"]}')
    with_hashes_made_to_fit(engine)
    scene = ["ground", "--image", str(SCENE), "--engines", str(engine), "--threads", "1", "--json"]
    assert cli.main([*scene, "--query", "blue cylinder"]) == 0
    captured = capsys.readouterr()
    warning = "this engine was not taught 'refer'; its answer may be noise; taught: detect"
    assert warning in json.loads(captured.out)["notes"]
    assert captured.err.splitlines()[0] == f"qwen3vl ground: {warning}"
    assert cli.main([*scene, "--query", "blue cylinder", "--task", "detect"]) == 0
    assert "not taught 'detect'" not in capsys.readouterr().err


def test_a_picture_that_is_not_there_is_named(capsys, tmp_path):
    said = ends_with_one_line(capsys, ground(tmp_path / "none.png"))
    assert said.endswith(
        f"the picture does not exist, expected a PNG or JPEG file: {tmp_path / 'none.png'}\n"
    )


def test_a_folder_in_place_of_a_picture_is_named(capsys, tmp_path):
    assert "is a folder, expected a PNG or JPEG" in ends_with_one_line(capsys, ground(tmp_path))


def test_a_file_that_is_no_picture_is_named(capsys, tmp_path):
    (tmp_path / "words.png").write_text("no picture")
    assert "cannot be read as a picture" in ends_with_one_line(
        capsys, ground(tmp_path / "words.png")
    )


def test_a_question_without_words_is_refused(capsys, picture):
    said = ends_with_one_line(capsys, ["ground", "--image", str(picture), "--query", " "])
    assert "has no text" in said


def test_an_engine_that_is_not_there_is_named_with_the_command_that_makes_one(
    capsys, picture, tmp_path
):
    said = ends_with_one_line(capsys, ground(picture, "--engines", str(tmp_path / "none")))
    assert "qwen3vl export" in said


@pytest.mark.parametrize("name", ["ground", "serve", "doctor"])
def test_a_provider_that_is_not_installed_is_named_by_every_command_that_runs_an_engine(
    name, picture, capsys
):
    asked = ground(picture) if name == "ground" else [name]
    asked += ["--port", "0"] if name == "serve" else []
    assert cli.main([*asked, "--providers", "cuda", "cpu", "--spinning"]) == 1
    said = capsys.readouterr()
    assert "execution providers ['CUDAExecutionProvider'] are not in" in said.out + said.err


@pytest.mark.parametrize("path", ["a folder.png", "picture.png/found.png"])
def test_a_drawn_picture_that_cannot_be_written_is_a_failure(
    scripted, capsys, picture, tmp_path, path
):
    (tmp_path / "a folder.png").mkdir()
    assert cli.main(ground(picture, "--draw", str(tmp_path / path))) == 1
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
        pytest.param(
            ["ground", "--image", "a.png", "--query", "mug", "--task", "guess"],
            "invalid choice",
            id="unknown task",
        ),
        pytest.param(["ground", "--query", "mug"], "--image --video", id="nothing to look at"),
        pytest.param(
            ["ground", "--image", "a.png", "--video", "b", "--query", "mug"],
            "not allowed with",
            id="a picture and a video",
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
