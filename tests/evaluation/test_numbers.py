# SPDX-License-Identifier: Apache-2.0
"""What is told of an evaluation: small ones, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qwen3vl_ros.evaluation.case import (
    Boxes,
    Number,
    Place,
    Places,
    Solids,
    Span,
    Texts,
    TrueSolid,
    TrueText,
    Wording,
)
from qwen3vl_ros.evaluation.given import Fault
from qwen3vl_ros.evaluation.meanings import MEANINGS
from qwen3vl_ros.evaluation.numbers import results_of
from qwen3vl_ros.scene.answers import Moment, TextSpan
from qwen3vl_ros.scene.detections import Point2D, Task
from tests.evaluation.cases import box, case, cube, given, one_box, solid, true_box

NOTHING = Boxes(boxes=())


def told(pairs, group=None):
    """Numbers of the one group of these cases and answers."""
    cases = [one for one, _ in pairs]
    results = results_of(cases, {answer.case_id: answer for _, answer in pairs})
    return results.groups[group or cases[0].group]


def test_a_description_is_answered_by_the_first_box():
    numbers = told(
        [
            (
                case(Task.REFER, one_box(0, 0, 10, 10), case_id="1/0"),
                given("1/0", boxes=(box(0, 0, 10, 10), box(50, 50, 60, 60))),
            ),
            (
                case(Task.REFER, one_box(0, 0, 10, 10), case_id="2/0"),
                given("2/0", boxes=(box(5, 0, 15, 10), box(0, 0, 10, 10))),
            ),
        ]
    )
    assert numbers["iou_mean"] == pytest.approx((1 + 1 / 3) / 2)
    assert numbers["accuracy_50"] == 0.5
    assert (numbers["questions"], numbers["pictures"]) == (2, 2)


def test_a_description_of_several_is_answered_by_as_many():
    """Two of a kind: one box found of two, one found and one beside, both found."""
    both = Boxes(boxes=(true_box(0, 0, 10, 10), true_box(40, 0, 50, 10)))
    answers = [
        (box(40, 0, 50, 10),),
        (box(40, 0, 50, 10), box(60, 0, 70, 10)),
        (box(40, 0, 50, 10), box(0, 0, 10, 10)),
    ]
    for boxes, overlap in zip(answers, (0.5, 0.5, 1.0), strict=True):
        numbers = told([(case(Task.REFER, both), given(boxes=boxes))])
        assert numbers["iou_mean"] == pytest.approx(overlap)


def test_a_box_that_depth_lifts_is_held_against_the_object_itself():
    truth = Boxes(boxes=(replace(true_box(0, 0, 10, 10), solid=cube(0, 0, 2)),))
    found = (box(0, 0, 10, 10),)
    pairs = [
        (case(Task.REFER, truth, case_id="1/0"), given("1/0", boxes=found, solids=())),
        (
            case(Task.REFER, truth, case_id="2/0"),
            given("2/0", boxes=found, solids=(solid(0, 0.3, 2, size_m=1.1),)),
        ),
        (
            case(Task.REFER, truth, case_id="3/0"),
            given("3/0", boxes=found, solids=(solid(0, 0.1, 2),)),
        ),
    ]
    numbers = told(pairs)
    assert numbers["lifted"] == pytest.approx(2 / 3)
    assert numbers["lifted_center_median_m"] == pytest.approx(0.3)
    assert numbers["lifted_size_median_share"] == pytest.approx(0.1)
    assert "lifted" not in told([(case(Task.REFER, one_box(0, 0, 10, 10)), given(boxes=found))])


def test_an_unreadable_answer_is_wrong_is_counted_apart_and_is_never_nothing():
    unreadable = given("2/0", fault=Fault.UNREADABLE, words="I cannot see", remark="no list")
    present = case(Task.REFER, one_box(0, 0, 10, 10), case_id="1/0")
    absent = case(Task.REFER, NOTHING, case_id="2/0")
    numbers = told([(present, given("1/0", boxes=(box(0, 0, 10, 10),))), (absent, unreadable)])
    assert numbers["unreadable"] == 1
    assert numbers["absent_asked"] == 1
    assert numbers["absent_answered_nothing"] == 0.0
    assert numbers["iou_mean"] == 1.0
    numbers = told([(absent, given("2/0"))])
    assert numbers["absent_answered_nothing"] == 1.0
    assert "iou_mean" not in numbers


def test_an_answer_without_room_is_wrong_and_counted_apart():
    numbers = told([(case(Task.COUNT, Number(number=0)), given(fault=Fault.NO_ROOM, words=""))])
    assert numbers["no_room"] == 1
    assert numbers["count_right"] == 0.0
    assert numbers["count_error_mean"] is None


def detected(scores=(0.9, 0.8)):
    """Two mugs of two found, and one bowl that is none, in the words of the model."""
    truth = Boxes(
        boxes=(
            true_box(0, 0, 20, 20),
            true_box(40, 0, 60, 20),
            true_box(0, 40, 20, 60, label="bowl"),
        )
    )
    found = (
        box(0, 0, 20, 20, label="Mug", score=scores[0]),
        box(40, 0, 60, 20, label="mug", score=scores[1]),
        box(50, 40, 70, 60, label="bowl", score=scores[0]),
        box(50, 40, 70, 60, label="elephant", score=scores[0]),
    )
    return [(case(Task.DETECT, truth, categories=("mug", "bowl")), given(boxes=found))]


def test_average_precision_is_a_mean_over_categories_whatever_the_case_of_labels():
    numbers = told(detected())
    assert numbers["ap50"] == pytest.approx(0.5)
    assert numbers["ap50_own"] == pytest.approx(0.5)
    assert numbers["ap"] == pytest.approx(0.5)
    assert numbers["unasked"] == 1  # the elephant


def test_a_model_that_tells_no_scores_has_no_number_by_them():
    numbers = told(detected(scores=(None, None)))
    assert numbers["ap50"] == pytest.approx(0.5)
    assert numbers["ap50_own"] is None


def test_a_crowd_is_neither_right_nor_wrong():
    truth = Boxes(boxes=(true_box(0, 0, 20, 20), true_box(40, 0, 70, 50, counts=False)))
    found = (box(42, 2, 52, 12, score=0.9), box(0, 0, 20, 20, score=0.5))
    numbers = told([(case(Task.DETECT, truth), given(boxes=found))])
    assert numbers["ap50_own"] == pytest.approx(1.0)


def test_what_lvis_does_not_know_of_a_picture_is_neither_right_nor_wrong():
    """More mugs than are annotated, where the annotations say that there may be."""
    found = (box(40, 0, 60, 20, score=0.9), box(0, 0, 20, 20, score=0.5))
    exhaustive = Boxes(boxes=(true_box(0, 0, 20, 20),), is_federated=True)
    more = Boxes(boxes=exhaustive.boxes, is_federated=True, not_exhaustive=("mug",))
    assert told([(case(Task.DETECT, exhaustive), given(boxes=found))])["ap50_own"] < 0.6
    assert told([(case(Task.DETECT, more), given(boxes=found))])["ap50_own"] == pytest.approx(1.0)


def test_scores_rank_answers_and_without_them_their_order_does():
    truth = one_box(0, 0, 20, 20)
    found = (box(40, 0, 60, 20, score=0.2), box(0, 0, 20, 20, score=0.9))
    numbers = told([(case(Task.DETECT, truth), given(boxes=found))])
    assert numbers["ap50_own"] == pytest.approx(1.0)
    assert numbers["ap50"] == pytest.approx(0.5)


def test_3d_boxes_are_right_from_an_overlap_of_volumes_of_15_percent():
    """Cubes of 1 m, 0.7 m apart along one axis, overlap by 0.3 / 1.7 = 0.176."""
    truth = Solids(solids=(TrueSolid(label="mug", box=cube(0, 0, 2)),))
    numbers = told([(case(Task.DETECT_3D, truth), given(solids=(solid(0.7, 0, 2),)))])
    assert numbers["ap3d_15"] == pytest.approx(1.0)
    assert numbers["ap3d_25"] == 0.0
    assert numbers["center_median_m"] == pytest.approx(0.7)
    assert numbers["size_median_share"] == pytest.approx(0.0)
    assert numbers["turn_median_deg"] == pytest.approx(0.0, abs=1e-4)


def test_a_3d_box_that_does_not_count_and_one_behind_the_camera_change_nothing():
    truth = Solids(
        solids=(
            TrueSolid(label="mug", box=cube(0, 0, 2)),
            TrueSolid(label="mug", box=cube(5, 0, 2), counts=False),
        )
    )
    found = (solid(5, 0, 2, score=0.9), solid(0, 0, -3, score=0.8), solid(0, 0, 2, score=0.1))
    numbers = told([(case(Task.DETECT_3D, truth), given(solids=found))])
    assert numbers["ap3d_50_own"] == pytest.approx(1.0)
    assert numbers["objects"] == 1


def test_an_object_without_an_answer_is_infinitely_far_from_one():
    truth = Solids(solids=tuple(TrueSolid(label="mug", box=cube(x, 0, 2)) for x in (0, 3, 6)))
    numbers = told([(case(Task.DETECT_3D, truth), given(solids=(solid(0.1, 0, 2),)))])
    assert numbers["objects_given"] == pytest.approx(1 / 3)
    assert numbers["center_median_m"] is None


def test_a_point_is_on_an_object_where_its_mask_is():
    mask = np.zeros((60, 80), bool)
    mask[:, :10] = True
    places = Places(
        places=(
            Place(xyxy_px=np.array([0.0, 0, 20, 20]), mask=mask),
            Place(xyxy_px=np.array([40.0, 0, 60, 20])),
        )
    )
    points = tuple(
        Point2D(label="", uv_px=np.array(uv, float), score=None)
        for uv in ([5, 5], [15, 5], [50, 10], [70, 50])
    )
    numbers = told([(case(Task.POINT, places), given(points=points))])
    assert numbers["points_inside"] == 0.5
    assert numbers["objects_pointed"] == 1.0


def test_counts_are_right_or_wrong_and_wrong_by_so_many():
    pairs = [
        (case(Task.COUNT, Number(number=true), case_id=f"{i}/0"), given(f"{i}/0", number=said))
        for i, (true, said) in enumerate([(3, 3), (2, 5), (0, 0)], start=1)
    ]
    numbers = told(pairs)
    assert numbers["count_right"] == pytest.approx(2 / 3)
    assert numbers["count_error_mean"] == pytest.approx(1.0)
    assert numbers["absent_answered_nothing"] == 1.0


def test_texts_are_read_one_for_one_and_placed_when_boxed_well():
    truth = Texts(
        texts=(
            TrueText(text="EXIT", xyxy_px=np.array([0.0, 0, 20, 10])),
            TrueText(text="Exit", xyxy_px=np.array([40.0, 0, 60, 10])),
            TrueText(text="Lift", xyxy_px=np.array([0.0, 30, 20, 40])),
        )
    )
    spans = (
        TextSpan(text="exit", xyxy_px=np.array([0.0, 0, 20, 10])),
        TextSpan(text="lift", xyxy_px=np.array([60.0, 30, 80, 40])),
        TextSpan(text="left", xyxy_px=np.array([0.0, 30, 20, 40])),
    )
    numbers = told([(case(Task.SPOT_TEXT, truth), given(texts=spans))])
    assert numbers["words_read"] == pytest.approx(2 / 3)
    assert numbers["words_placed"] == pytest.approx(1 / 3)
    assert numbers["words_invented"] == pytest.approx(1 / 3)


def test_words_are_right_whatever_their_case_and_full_stop():
    truth = Wording(accepted=("on the table", "the table"))
    pairs = [
        (case(Task.ASK, truth, case_id=f"{i}/0"), given(f"{i}/0", words=words))
        for i, words in enumerate(["On the table.", "under the table"])
    ]
    assert told(pairs)["answers_right"] == 0.5


@pytest.mark.parametrize(
    ("start_s", "end_s", "overlap"),
    [
        pytest.param(2, 6, 1.0, id="exactly"),
        pytest.param(4, 8, 1 / 3, id="half of each"),
        pytest.param(7, 9, 0.0, id="afterwards"),
    ],
)
def test_moments_overlap_by_time(start_s, end_s, overlap):
    answer = given(moments=(Moment(start_s=start_s, end_s=end_s),))
    numbers = told([(case(Task.LOCATE_MOMENT, Span(start_s=2, end_s=6)), answer)])
    assert numbers["time_iou_mean"] == pytest.approx(overlap)


def test_groups_are_told_apart_and_may_not_mix_kinds_of_questions():
    easy = case(Task.REFER, one_box(0, 0, 10, 10), case_id="1/0", group="easy")
    hard = case(Task.REFER, one_box(0, 0, 10, 10), case_id="1/1", group="hard")
    answers = {"1/0": given("1/0", boxes=(box(0, 0, 10, 10),)), "1/1": given("1/1")}
    results = results_of([easy, hard], answers)
    assert results.groups["easy"]["iou_mean"] == 1.0
    assert results.groups["hard"]["iou_mean"] == 0.0
    assert results.scores == {"1/0": 1.0, "1/1": 0.0}
    mixed = case(Task.COUNT, Number(number=1), case_id="1/1", group="easy")
    with pytest.raises(ValueError, match="mixes"):
        results_of([easy, mixed], answers)


def test_every_number_has_its_meaning():
    pairs = [*detected(), (case(Task.DETECT_3D, Solids(solids=()), case_id="2/0"), given("2/0"))]
    results = results_of([c for c, _ in pairs], {a.case_id: a for _, a in pairs})
    for numbers in results.groups.values():
        assert numbers.keys() <= MEANINGS.keys()
