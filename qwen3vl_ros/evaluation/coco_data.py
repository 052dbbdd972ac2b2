# SPDX-License-Identifier: Apache-2.0
"""Detection in COCO's format becomes DETECT questions; LVIS is read likewise.

A JSON object of `images` (id, width, height, and file_name or LVIS's coco_url), `categories` (id,
name) and `annotations` (id, image_id, category_id, bbox as x, y, width, height in pixels, and
optionally area and iscrowd). LVIS adds to an image `neg_category_ids`, which it is known not to
hold, and `not_exhaustive_category_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from ..scene.detections import Query, Task
from .annotated_pictures import AnnotatedPictures, annotated_pictures
from .annotation_file import Entry
from .asked_categories import Asked, chosen_categories, questions_of, spoken
from .case import Boxes, Case, DataSet, TrueBox

GROUP = "detect"
_BOX = "x, y, width and height, not negative, pixels"


def coco_data(
    annotations: Path,
    images: Path,
    *,
    asked: Asked,
    categories_per_question: int,
    max_objects: int,
    categories: str | None = None,
    limit: int | None = None,
) -> DataSet:
    """Every picture's questions.

    Args:
        annotations: the JSON file.
        images: folder that the file names start from.
        asked: which categories each picture is asked for.
        categories_per_question: so many at most in one question.
        max_objects: of one answer.
        categories: names apart by commas; nothing is known of others. None takes all.
        limit: pictures, fairly sampled; None takes all.

    Raises:
        DatasetError: a file is missing or not what it should be; names the entry.
    """
    pictures = annotated_pictures(annotations, spelled=spoken)
    names, taken = pictures.names, pictures.distinct_names
    if categories is not None:
        taken = chosen_categories(categories, taken)
    truths = _truths(pictures)
    cases: list[Case] = []
    empty = 0
    for picture_id, entry, file in pictures.sampled_files(images, limit=limit, name=_file_name):
        boxes = truths.get(picture_id, [])
        wanted = _wanted(entry, boxes, names, taken, asked)
        empty += not wanted
        for number, group in enumerate(questions_of(wanted, most=categories_per_question)):
            cases.append(
                Case(
                    case_id=f"{picture_id}/{number}",
                    picture_id=picture_id,
                    group=GROUP,
                    views=file.views,
                    query=Query(task=Task.DETECT, categories=group, max_objects=max_objects),
                    truth=Boxes(
                        boxes=tuple(box for box in boxes if box.label in group),
                        not_exhaustive=tuple(
                            names[i]
                            for i in entry.wholes("not_exhaustive_category_ids")
                            if names.get(i) in group
                        ),
                        is_federated=entry.has("neg_category_ids"),
                    ),
                )
            )
    remarks = [f"{empty} pictures hold nothing to ask for and were not asked about"] * bool(empty)
    return DataSet(
        cases=tuple(cases),
        identity=pictures.identity(
            "coco",
            asked,
            categories="all" if categories is None else ", ".join(taken),
            categories_per_question=str(categories_per_question),
            max_objects=str(max_objects),
        ),
        remarks=tuple(remarks),
    )


def _truths(pictures: AnnotatedPictures) -> Mapping[str, list[TrueBox]]:
    truths: dict[str, list[TrueBox]] = {}
    for entry, picture_id, category in pictures.annotations():
        if category is None:
            raise entry.wrong("category_id", "the id of one of 'categories'")
        left, top, width, height = entry.numbers("bbox", 4)
        if width < 0 or height < 0:
            raise entry.wrong("bbox", _BOX)
        box = TrueBox(
            label=category,
            xyxy_px=np.array([left, top, left + width, top + height]),
            area_px=entry.number("area", default=float(width * height)),
            counts=not entry.flag("iscrowd", default=False),
        )
        truths.setdefault(picture_id, []).append(box)
    return truths


def _file_name(entry: Entry) -> str:
    if entry.has("file_name") or not entry.has("coco_url"):
        return entry.text("file_name")
    # LVIS: http://images.cocodataset.org/train2017/000000391895.jpg
    return str(PurePosixPath(*PurePosixPath(entry.text("coco_url")).parts[-2:]))


def _wanted(
    entry: Entry,
    boxes: Sequence[TrueBox],
    names: Mapping[int, str],
    taken: Sequence[str],
    asked: Asked,
) -> Sequence[str]:
    """Of those that are taken, in their order."""
    if asked is Asked.ALL:
        return taken
    present = {box.label for box in boxes}
    absent = {names.get(i) for i in entry.wholes("neg_category_ids")}
    return [name for name in taken if name in present | absent]
