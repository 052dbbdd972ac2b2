# SPDX-License-Identifier: Apache-2.0
"""Detection in COCO's and LVIS's format, and every way in which files of it can be wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from qwen3vl_ros.errors import DatasetError
from qwen3vl_ros.evaluation.asked_categories import Asked
from qwen3vl_ros.evaluation.coco_data import coco_data
from qwen3vl_ros.scene.detections import Task
from tests.evaluation.conftest import DATA


def read(data, **options):
    values = {"asked": Asked.PRESENT, "categories_per_question": 80, "max_objects": 100}
    return coco_data(data / "instances.json", data / "images", **{**values, **options})


def test_each_picture_is_asked_for_the_categories_it_holds():
    cases = read(DATA).cases
    assert [case.picture_id for case in cases] == ["20000000", "20000001", "20000002"]
    for case in cases:
        assert case.query.task is Task.DETECT
        assert {box.label for box in case.truth.boxes} == set(case.query.categories)


def test_boxes_are_turned_from_corner_and_size_into_corners():
    written = json.loads((DATA / "instances.json").read_text())["annotations"][0]
    x, y, width, height = written["bbox"]
    box = read(DATA).cases[0].truth.boxes[0]
    np.testing.assert_array_equal(box.xyxy_px, [x, y, x + width, y + height])
    assert box.area_px == written["area"]


def test_a_picture_is_the_frame_it_was_rendered_as():
    (frame,) = read(DATA).cases[0].views()
    assert frame.image.shape == (240, 320, 3)
    assert frame.intrinsics is None


def test_all_categories_may_be_asked_a_few_at_a_time():
    cases = read(DATA, asked=Asked.ALL, categories_per_question=10).cases
    assert [len(case.query.categories) for case in cases[:3]] == [10, 10, 4]
    assert len({case.case_id for case in cases}) == len(cases) == 9
    assert any(case.is_about_nothing for case in cases)


def test_categories_may_be_chosen(data):
    present = read(DATA).cases[0].query.categories
    chosen = read(DATA, categories=present[1])
    assert chosen.cases[0].query.categories == (present[1],)
    assert {box.label for case in chosen.cases for box in case.truth.boxes} == {present[1]}
    with pytest.raises(DatasetError, match="--categories names unicorn, expected names in"):
        read(DATA, categories="unicorn")


def test_a_sample_is_the_same_in_every_run_and_part_of_a_larger_one():
    ids = [{case.picture_id for case in read(DATA, limit=limit).cases} for limit in (1, 2, 3)]
    assert ids[0] < ids[1] < ids[2]
    assert read(DATA, limit=1).cases[0].case_id == read(DATA, limit=1).cases[0].case_id


def test_a_crowd_does_not_count(data, change):
    change("instances.json", lambda values: values["annotations"][0].update(iscrowd=1))
    assert [box.counts for box in read(data).cases[0].truth.boxes].count(False) == 1


def test_a_picture_without_annotations_is_not_asked_about_and_said_to_be_left_out(data, change):
    def empty(values):
        first = values["images"][0]["id"]
        values["annotations"] = [a for a in values["annotations"] if a["image_id"] != first]

    change("instances.json", empty)
    result = read(data)
    assert len(result.cases) == 2
    assert "1 pictures hold nothing" in result.remarks[0]


def test_lvis_is_asked_for_what_a_picture_is_known_not_to_hold(data, change):
    def as_lvis(values):
        for image in values["images"]:
            name = image.pop("file_name")
            image["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
            held = {
                a["category_id"] for a in values["annotations"] if a["image_id"] == image["id"]
            }
            image["neg_category_ids"] = [i for i in range(1, 25) if i not in held][:2]
            image["not_exhaustive_category_ids"] = sorted(held)[:1]
        for category in values["categories"]:
            category["name"] = category["name"].replace(" ", "_")

    change("instances.json", as_lvis)
    (data / "images").rename(data / "val2017")
    (data / "images").mkdir()
    (data / "val2017").rename(data / "images" / "val2017")
    case = read(data).cases[0]
    present = {box.label for box in case.truth.boxes}
    assert len(set(case.query.categories) - present) == 2
    assert case.truth.is_federated
    assert set(case.truth.not_exhaustive) <= present
    assert all("_" not in name for name in case.query.categories)


def set_in(part, index=0, **values):
    return lambda content: content[part][index].update(values)


def drop(part, name):
    return lambda content: content[part][0].pop(name) and None


@pytest.mark.parametrize(
    ("how", "words"),
    [
        pytest.param(lambda c: c.pop("images") and None, "'images' is missing", id="no images"),
        pytest.param(lambda c: [c], "expected an object with 'images'", id="a list"),
        pytest.param(
            lambda c: c.update(annotations={}), "'annotations' is dict", id="no list of boxes"
        ),
        pytest.param(
            lambda c: c["annotations"].insert(0, 3), r"annotations\[0\] is 3", id="a number"
        ),
        pytest.param(
            set_in("images", id="one"), r"images\[0\].id is 'one', expected a whole", id="id"
        ),
        pytest.param(
            drop("images", "file_name"), r"images\[0\].file_name is missing", id="no file name"
        ),
        pytest.param(drop("images", "width"), r"images\[0\].width is missing", id="no width"),
        pytest.param(
            set_in("annotations", image_id=7), "expected the id of one of 'images'", id="picture"
        ),
        pytest.param(set_in("annotations", category_id=99), "one of 'categories'", id="category"),
        pytest.param(
            set_in("annotations", bbox=[1, 2, 3]), "expected 4 finite numbers", id="three numbers"
        ),
        pytest.param(
            set_in("annotations", bbox=[1, 2, -3, 4]), "not negative", id="negative width"
        ),
        pytest.param(
            set_in("annotations", bbox=[1, 2, "3", float("nan")]), "4 finite numbers", id="NaN"
        ),
        pytest.param(
            set_in("annotations", iscrowd="yes"), "expected true or false", id="crowd in words"
        ),
        pytest.param(
            set_in("categories", name=" "), "expected a string that is not empty", id="no name"
        ),
    ],
)
def test_a_wrong_file_is_refused_by_the_place_of_what_is_wrong(data, change, how, words):
    file = change("instances.json", how)
    with pytest.raises(DatasetError, match=words) as refusal:
        read(data)
    assert str(file) in str(refusal.value)


def test_a_file_that_is_cut_off_is_refused(data):
    file = data / "instances.json"
    file.write_text(file.read_text()[:500])
    with pytest.raises(DatasetError, match="not JSON that can be read"):
        read(data)


def test_missing_files_are_refused_with_how_many_and_where_to_look(data):
    with pytest.raises(DatasetError, match=r"cannot read the annotations \(No such file"):
        coco_data(
            data / "none.json",
            data / "images",
            asked=Asked.ALL,
            categories_per_question=1,
            max_objects=1,
        )
    next((data / "images").iterdir()).unlink()
    with pytest.raises(DatasetError, match="1 of 3 pictures are missing, the first is"):
        read(data)
    with pytest.raises(DatasetError, match="no folder of pictures"):
        coco_data(
            data / "instances.json",
            data / "nowhere",
            asked=Asked.ALL,
            categories_per_question=1,
            max_objects=1,
        )


def test_a_picture_of_another_size_than_its_boxes_is_refused(data, change):
    """An EXIF mark that turns a picture would otherwise turn every box into a wrong one."""
    change("instances.json", set_in("images", width=240, height=320))
    with pytest.raises(DatasetError, match="the picture is 320 x 240 pixels, expected 240 x 320"):
        read(data).cases[0].views()
