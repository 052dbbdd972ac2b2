# SPDX-License-Identifier: Apache-2.0
"""What each number of an evaluation says, in a line for people."""

from __future__ import annotations

from collections.abc import Mapping

# By name: what a number says. Shares are 0 to 1.
MEANINGS: Mapping[str, str] = {
    "questions": "questions asked",
    "pictures": "pictures they are about",
    "unreadable": "answers that could not be read; wrong, and never nothing",
    "no_room": "questions that did not fit the model's context",
    "incomplete": "answers whose tail was cut off",
    "mended": "answers of which something was dropped or mended to read them",
    "seconds_median": "from question to answer, median",
    "absent_asked": "questions about what is not there",
    "absent_answered_nothing": "share of them answered with nothing",
    "iou_mean": "overlap of the first box with the true one (of all, where several are), mean",
    "accuracy_50": "share of questions with an overlap of at least 0.5",
    "lifted": "share of first boxes that depth lifted to a 3D box, where there is depth",
    "lifted_center_median_m": "error of their centres, median",
    "lifted_size_median_share": "error of their sides, mean of three, median",
    "ap": "COCO AP, overlaps 0.50 to 0.95, every score 1.0",
    "ap50": "COCO AP at an overlap of 0.5, every score 1.0",
    "ap75": "COCO AP at an overlap of 0.75, every score 1.0",
    "ap_own": "the same, ranked by our scores",
    "ap50_own": "the same, ranked by our scores",
    "ap75_own": "the same, ranked by our scores",
    "unasked": "boxes of no category that was asked for; left out of AP",
    "ap3d_15": "AP at a 3D overlap of 0.15, every score 1.0",
    "ap3d_25": "AP at a 3D overlap of 0.25, every score 1.0",
    "ap3d_50": "AP at a 3D overlap of 0.5, every score 1.0",
    "ap3d_15_own": "the same, ranked by our scores",
    "ap3d_25_own": "the same, ranked by our scores",
    "ap3d_50_own": "the same, ranked by our scores",
    "objects": "objects that count",
    "objects_given": "share of them that have an answer nearest to them",
    "center_median_m": "error of their centres, median",
    "size_median_share": "error of their sides, mean of three, median",
    "turn_median_deg": "turn from the true box, median",
    "points_inside": "share of points given that are on an object",
    "objects_pointed": "share of objects with a point on them",
    "count_right": "share of counts that are right",
    "count_error_mean": "difference from the true count, mean of those that could be read",
    "words_read": "share of texts read right, whatever their case",
    "words_placed": "share of texts read right and boxed with an overlap of at least 0.5",
    "words_invented": "share of texts given that are not there",
    "answers_right": "share of answers in the accepted words",
    "time_iou_mean": "overlap of the first moment with the true one, mean",
    "time_at_50": "share of first moments that overlap by at least 0.5",
}
