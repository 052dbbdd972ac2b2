# SPDX-License-Identifier: Apache-2.0
"""`qwen3vl evaluate` on data sets: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from qwen3vl_ros import cli
from qwen3vl_ros.model.local_model import LocalModel
from qwen3vl_ros.runtime.loading import tiny_engine_directory
from qwen3vl_ros.serving.app import chat_app
from qwen3vl_ros.serving.model_thread import ModelThread
from qwen3vl_ros.serving.server import HttpServer, bound_socket, url_of
from qwen3vl_ros.synthetic.scene_data import RenderedScene
from qwen3vl_ros.synthetic.scene_files import write_scene_data
from tests.evaluation.conftest import DATA

FILES = {"coco": "instances.json", "refcoco": "refs.json", "omni3d": "omni3d.json"}


def arguments(kind, output, *more, data=DATA):
    return [
        "evaluate",
        *("--data", kind),
        *("--annotations", str(data / FILES[kind])),
        *("--images", str(data / "images")),
        *("--output", str(output)),
        *("--threads", "1"),
        *more,
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("coco", ["detect:", "ap50_own", "COCO AP at an overlap of 0.5"]),
        ("refcoco", ["refer:", "accuracy_50", "iou_mean"]),
        ("omni3d", ["detect_3d:", "ap3d_15", "by Omni3D's rule"]),
    ],
)
def test_numbers_are_printed_with_their_meaning_and_written_with_what_was_asked(
    kind, words, tmp_path, capsys
):
    output = tmp_path / "e.json"
    assert cli.main(arguments(kind, output, "--limit", "2")) == 0
    printed = capsys.readouterr().out
    for word in [*words, str(output), str(output.with_suffix(".html"))]:
        assert word in printed
    report = json.loads(output.read_text())
    assert report["model"]["kind"] == "engine"
    assert report["data"]["kind"] == kind
    assert len({case["picture"] for case in report["cases"]}) == 2


def test_a_room_is_asked_every_kind_of_question(tmp_path, capsys):
    output = tmp_path / "e.json"
    command = ["evaluate", "--data", "rooms", "--scenes", "1", "--output", str(output)]
    assert cli.main([*command, "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    for group in ("refer:", "detect_3d:", "count:", "words:", "absent:"):
        assert group in printed
    assert json.loads(output.read_text())["data"]["kind"] == "rooms"
    assert output.with_suffix(".html").read_text().count("<img ") > 0


def test_a_larger_sample_asks_only_what_is_new(tmp_path, capsys, monkeypatch):
    output = tmp_path / "e.json"
    assert cli.main(arguments("refcoco", output, "--limit", "2")) == 0
    kept = output.with_suffix(".answers.jsonl").read_text()
    assert cli.main(arguments("refcoco", output)) == 0
    assert output.with_suffix(".answers.jsonl").read_text().startswith(kept)
    monkeypatch.setattr(LocalModel, "load", None)  # nothing is left to ask
    capsys.readouterr()
    assert cli.main(arguments("refcoco", output)) == 0
    assert "iou_mean" in capsys.readouterr().out


def test_stopped_by_a_person_it_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalModel, "say", interrupted)
    assert cli.main(arguments("coco", tmp_path / "e.json")) == 130
    assert "run the same command to go on" in capsys.readouterr().err


@pytest.fixture
def url() -> Iterator[str]:
    with bound_socket("127.0.0.1", 0) as listening:
        asked = ModelThread(LocalModel.load(tiny_engine_directory(), threads=1), longest_line=2)
        app = chat_app(asked, model_name="tiny", api_key=None, max_body_bytes=2**26)
        ready = threading.Event()
        server = HttpServer(app, listening, on_ready=ready.set, on_stop=asked.close)
        thread = threading.Thread(target=server.run_until_stopped)
        thread.start()
        assert ready.wait(30)
        yield url_of(listening)
        server.stop()
        thread.join()
        asked.join()


def test_a_server_of_an_engine_is_as_right_as_the_engine(url, tmp_path, monkeypatch):
    """Of a picture whose sides are multiples of 32: others are resized before they are sent."""
    write_scene_data(tmp_path, [RenderedScene.of(20_000_000, width=640, height=480)])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    assert cli.main(arguments("refcoco", here, data=tmp_path)) == 0
    asked = ("--server", url, "--model", "tiny")
    assert cli.main(arguments("refcoco", there, *asked, data=tmp_path)) == 0
    reports = [json.loads(file.read_text()) for file in (here, there)]
    assert reports[1]["model"]["kind"] == "server"
    scores = [[case["score"] for case in report["cases"]] for report in reports]
    assert scores[0] == scores[1]


def test_a_server_asked_at_the_same_time_about_several_pictures_says_the_same(
    url, tmp_path, monkeypatch
):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    asked = ("--server", url, "--model", "tiny")
    reports = []
    for name, more in (("one", ()), ("three", ("--parallel", "3"))):
        assert cli.main(arguments("refcoco", tmp_path / f"{name}.json", *asked, *more)) == 0
        reports.append(json.loads((tmp_path / f"{name}.json").read_text()))
    words = [[(case["case"], case["words"]) for case in r["cases"]] for r in reports]
    assert words[0] == words[1]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param(["--data", "coco"], "--annotations FILE and --images DIR", id="no files"),
        pytest.param(
            [*arguments("coco", "e.json")[1:], "--split", "val"],
            "--split was given with --data coco, expected refcoco",
            id="a split of coco",
        ),
        pytest.param(
            [*arguments("refcoco", "e.json")[1:], "--categories", "mug"],
            "expected coco or omni3d",
            id="categories of refcoco",
        ),
        pytest.param(
            [*arguments("omni3d", "e.json")[1:], "--categories", "omni3d-sunrgbd"],
            "there is nothing to ask in this data",
            id="none of the categories",
        ),
        pytest.param(
            ["--annotations", "instances.json", "--images", "."],
            "--annotations was given with --data scenes, expected --data to be one of",
            id="files without their kind",
        ),
        pytest.param(["--data", "rooms", "--limit", "3"], "numbered by --scenes", id="rooms"),
        pytest.param(
            [*arguments("coco", "e.json")[1:], "--parallel", "2"],
            "an engine answers one question at a time",
            id="an engine at once",
        ),
        pytest.param(
            [*arguments("coco", "e.json")[1:], "--model", "tiny"],
            "expected --server URL with it",
            id="a model without a server",
        ),
        pytest.param(
            ["--data", "refcoco", "--annotations", "none.json", "--images", "."],
            "cannot read the annotations",
            id="no such file",
        ),
    ],
)
def test_what_cannot_be_evaluated_ends_in_one_line(more, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["evaluate", *more]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("qwen3vl evaluate: ")
    assert not list(tmp_path.glob("**/*.json"))


@pytest.mark.parametrize("library", ["scipy", "faster_coco_eval"])
def test_without_its_libraries_it_says_what_to_install(library, tmp_path):
    program = (
        f"import sys; sys.modules['{library}'] = None\n"
        "from qwen3vl_ros import cli\n"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, *arguments("coco", tmp_path / "e.json")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "pip install -e '.[evaluate]'" in ended.stderr
    assert library.replace("_", "-") in ended.stderr
