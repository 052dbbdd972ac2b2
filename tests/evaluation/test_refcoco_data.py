# SPDX-License-Identifier: Apache-2.0
"""Referring expressions in the three layouts they are found in, and what is refused."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from qwen3vl_ros.errors import DatasetError
from qwen3vl_ros.evaluation.refcoco_data import refcoco_data
from qwen3vl_ros.scene.detections import Task
from tests.evaluation.conftest import DATA

REFERENCES = json.loads((DATA / "refs.json").read_text())
INSTANCES = json.loads((DATA / "instances.json").read_text())
BOXES = {a["id"]: a["bbox"] for a in INSTANCES["annotations"]}
NAMES = {image["id"]: image["file_name"] for image in INSTANCES["images"]}


def questions(result):
    return [(case.query.text, case.truth.boxes[0].xyxy_px.tolist()) for case in result.cases]


EXPECTED = questions(refcoco_data(DATA / "refs.json", DATA / "images"))


def lines(data, name, make):
    file = data / name
    made = [make(reference) for reference in REFERENCES]
    file.write_text("\n".join(json.dumps(line) for line in made) + "\n")
    return file


def as_qwen(reference):
    x, y, width, height = BOXES[reference["ann_id"]]
    return {
        "image": f"data/coco/train2014/{NAMES[reference['image_id']]}",
        "sent": reference["sentences"][0]["sent"],
        "bbox": [x, y, x + width, y + height],
        "width": 320,
        "height": 240,
    }


def as_lmms(reference):
    return {
        "file_name": NAMES[reference["image_id"]],
        "question": "Please carefully observe the area circled in the image ...",
        "answer": [reference["sentences"][0]["sent"]],
        "bbox": BOXES[reference["ann_id"]],
        "iscrowd": 0,
    }


def test_a_sentence_is_a_question_and_its_annotation_the_box_that_is_right():
    reference = REFERENCES[0]
    x, y, width, height = BOXES[reference["ann_id"]]
    result = refcoco_data(DATA / "refs.json", DATA / "images")
    case = result.cases[0]
    assert case.query.task is Task.REFER
    assert case.query.text == reference["sentences"][0]["sent"]
    np.testing.assert_array_equal(case.truth.boxes[0].xyxy_px, [x, y, x + width, y + height])
    assert len(result.cases) == len(REFERENCES)
    assert result.identity["split"] == "all"


def test_every_layout_asks_the_same(data):
    plain = data / "refs(unc).p"
    plain.write_bytes(pickle.dumps(REFERENCES, protocol=0))
    for file in (
        plain,
        lines(data, "refcoco_val.jsonl", as_qwen),
        lines(data, "metadata.jsonl", as_lmms),
    ):
        assert questions(refcoco_data(file, data / "images")) == EXPECTED, file.name


def test_pictures_are_found_under_the_names_that_refcoco_gives_them(data):
    """COCO_train2014_000000581857_16.jpg is COCO's picture, seen from its annotation 16."""
    for number, picture in enumerate(sorted((data / "images").iterdir())):
        picture.rename(picture.with_name(f"COCO_train2014_{number:012d}.jpg"))
    order = sorted(NAMES)

    def as_refcoco(reference):
        number = order.index(reference["image_id"])
        return {**as_lmms(reference), "file_name": f"COCO_train2014_{number:012d}_16.jpg"}

    file = lines(data, "metadata.jsonl", as_refcoco)
    assert questions(refcoco_data(file, data / "images")) == EXPECTED


def test_a_split_is_chosen_where_there_are_several(data, change):
    file = change("refs.json", lambda values: values[0].update(split="testA"))
    with pytest.raises(DatasetError, match="expected --split to name one of testA, val"):
        refcoco_data(file, data / "images")
    assert len(refcoco_data(file, data / "images", split="testA").cases) == 1
    with pytest.raises(DatasetError, match="no reference is of the split 'test'"):
        refcoco_data(file, data / "images", split="test")


class _Opener:
    def __reduce__(self):
        return (open, ("never_opened", "w"))


def test_a_pickle_that_would_run_something_is_refused_before_it_runs(data, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = data / "refs(unc).p"
    file.write_bytes(pickle.dumps([_Opener()]))
    with pytest.raises(DatasetError, match="plain values name nothing"):
        refcoco_data(file, data / "images")
    assert not (tmp_path / "never_opened").exists()


@pytest.mark.parametrize("damaged", [b"", b"\x80\x02]q\x00", b"not a pickle"])
def test_a_damaged_pickle_is_refused(data, damaged):
    file = data / "refs(unc).p"
    file.write_bytes(damaged)
    with pytest.raises(DatasetError, match="the pickle cannot be read"):
        refcoco_data(file, data / "images")


def set_first(**values):
    return lambda content: content[0].update(values)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param(lambda c: {"refs": c}, "'refs' is dict, expected a list", id="an object"),
        pytest.param(set_first(ann_id=999), r"refs\[0\].ann_id is 999, expected", id="no box"),
        pytest.param(set_first(image_id=1), r"refs\[0\].image_id is 1, expected", id="no picture"),
        pytest.param(set_first(split=None), r"refs\[0\].split is missing", id="no split"),
        pytest.param(
            set_first(sentences="red"), r"'refs\[0\].sentences' is str", id="no sentences"
        ),
        pytest.param(
            set_first(sentences=[{"sent_id": 1, "sent": ""}]),
            r"refs\[0\].sentences\[0\].sent is ''",
            id="an empty sentence",
        ),
    ],
)
def test_wrong_references_are_refused_by_their_place(data, change, how, words):
    file = change("refs.json", how)
    with pytest.raises(DatasetError, match=words):
        refcoco_data(file, data / "images")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param({"image": "a.jpg"}, r"line\[0\].sent is missing", id="no sentence"),
        pytest.param(
            {"image": "a.jpg", "sent": "cat", "bbox": [5, 5, 4, 9]},
            "expected left, top, right and bottom",
            id="corners in the wrong order",
        ),
        pytest.param(
            {"file_name": "a.jpg", "answer": ["cat"], "bbox": [5, 5, 0, 9]},
            "expected x, y, width and height",
            id="no width",
        ),
        pytest.param(
            {"file_name": "a.jpg", "answer": "cat", "bbox": [5, 5, 1, 9]},
            "expected a list of strings",
            id="one answer",
        ),
    ],
)
def test_wrong_lines_are_refused(data, line, words):
    file = data / "refcoco_val.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(DatasetError, match=words):
        refcoco_data(file, data / "images")
    with pytest.raises(DatasetError, match="holds one split"):
        refcoco_data(file, data / "images", split="val")
