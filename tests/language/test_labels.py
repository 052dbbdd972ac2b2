# SPDX-License-Identifier: Apache-2.0
"""Which labels of an answer are among what was asked for."""

from __future__ import annotations

import pytest

from qwen3vl_ros.language.labels import MAX_LABEL_CHARACTERS, unasked_warning


@pytest.mark.parametrize(
    ("label", "category"),
    [
        pytest.param("mug", "mug", id="the same"),
        pytest.param("Mug", "mug", id="case"),
        pytest.param("alarm clock", " alarm_clock", id="underscores and spaces"),
        pytest.param("Fuß", "FUSS", id="sharp s"),
        pytest.param("m" * MAX_LABEL_CHARACTERS, "m" * 100, id="cut where labels are cut"),
    ],
)
def test_a_label_is_what_was_asked_for_however_it_is_spelled(label, category):
    assert unasked_warning([label], [category]) == ()


@pytest.mark.parametrize("label", ["mugs", "coffee mug", "mu", ""])
def test_any_other_word_is_not(label):
    (warning,) = unasked_warning([label], ["mug"])
    assert f"('mug'): '{label}', 1 of 1 objects" in warning


def test_many_are_counted_and_some_of_them_named():
    labels = ["mug", *(f"thing {i % 7}" for i in range(14))]
    (warning,) = unasked_warning(labels, ["mug"])
    assert warning == (
        "named otherwise than asked ('mug'): 'thing 0', 'thing 1', 'thing 2', 'thing 3', "
        "'thing 4', ..., 14 of 15 objects; they keep the model's names"
    )


def test_nothing_found_is_nothing_to_tell():
    assert unasked_warning([], ["mug"]) == ()
