# SPDX-License-Identifier: Apache-2.0
"""Referring expressions become REFER questions; one box is right.

Three layouts are read, by what the file is:

`refs(unc).p`, `refs(umd).p`, or the same list as `.json`, beside `instances.json` (as UNC has it):
    references of ref_id, image_id, ann_id, split and sentences (sent_id, sent); the boxes are in
    instances.json, x, y, width, height.
`refcoco_val.jsonl` (converted for Qwen-VL's and InternVL's own evaluations), a line each:
    image, sent, bbox as left, top, right, bottom, and optionally width and height.
`metadata.jsonl` of an image folder (lmms-lab/RefCOCO, written out), a line each:
    file_name, answer (a list of sentences), bbox as x, y, width, height.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..scene.detections import Query, Task
from .annotation_file import Entry, file_sha256, json_file, json_lines, json_list, pickled_list
from .case import Boxes, Case, DataSet, TrueBox
from .pictures_on_disk import PictureFile, found_files, sampled

GROUP = "refer"
# refcoco names pictures by their annotation, too: COCO_train2014_000000581857_16.jpg
_ANNOTATION_SUFFIX = re.compile(r"(COCO_\w+_\d{12})_\d+(\.\w+)$")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Expression:
    """One sentence about one box; the picture by the name of its file."""

    case_id: str
    file_name: str
    width: int | None
    height: int | None
    sentence: str
    xyxy_px: npt.NDArray[np.float64]


def refcoco_data(
    annotations: Path,
    images: Path,
    *,
    instances: Path | None = None,
    split: str | None = None,
    max_objects: int = 20,
    limit: int | None = None,
) -> DataSet:
    """Every sentence as a question.

    Args:
        annotations: one of the three layouts.
        images: folder of the pictures (COCO's train2014).
        instances: of the first layout; by default `instances.json` beside `annotations`.
        split: of the first layout: "val", "testA", "testB" or "test".
        max_objects: of one answer.
        limit: pictures, fairly sampled; None takes all.

    Raises:
        DatasetError: a file is missing or not what it should be; names the entry.
    """
    identity = {
        "kind": "refcoco",
        "annotations": annotations.name,
        "annotations_sha256": file_sha256(annotations),
        "max_objects": str(max_objects),
    }
    if annotations.suffix == ".jsonl":
        if split is not None:
            raise DatasetError(
                f"--split {split} was given with a file of JSON lines, which holds one split; "
                f"expected none: {annotations}"
            )
        expressions = list(_from_lines(json_lines(annotations)))
    else:
        instances = instances or annotations.with_name("instances.json")
        is_pickle = annotations.suffix in (".p", ".pkl", ".pickle")
        references = pickled_list(annotations) if is_pickle else json_list(annotations)
        expressions = list(_from_references(_of_split(references, split), json_file(instances)))
        identity |= {"instances_sha256": file_sha256(instances), "split": split or "all"}
    by_picture: dict[str, list[_Expression]] = {}
    for expression in expressions:
        by_picture.setdefault(expression.file_name, []).append(expression)
    chosen = sampled(by_picture, limit)
    files = found_files({name: name for name in chosen}, images, other_names=_other_names)
    return DataSet(
        cases=tuple(
            Case(
                case_id=expression.case_id,
                picture_id=name,
                group=GROUP,
                views=PictureFile(
                    path=files[name], width=expression.width, height=expression.height
                ).views,
                query=Query(task=Task.REFER, text=expression.sentence, max_objects=max_objects),
                truth=Boxes(boxes=(_true_box(expression),)),
            )
            for name in chosen
            for expression in by_picture[name]
        ),
        identity=identity,
    )


def _true_box(expression: _Expression) -> TrueBox:
    sides = expression.xyxy_px[2:] - expression.xyxy_px[:2]
    return TrueBox(
        label=expression.sentence, xyxy_px=expression.xyxy_px, area_px=float(np.prod(sides))
    )


def _of_split(references: Sequence[Entry], split: str | None) -> Sequence[Entry]:
    splits = sorted({entry.text("split") for entry in references})
    if split is None and len(splits) > 1:
        raise DatasetError(
            f"the references are of {len(splits)} splits, expected --split to name one of "
            f"{', '.join(splits)}: {references[0].file}"
        )
    if split is not None and split not in splits:
        raise DatasetError(
            f"no reference is of the split '{split}', expected one of {', '.join(splits)}"
        )
    return [entry for entry in references if split is None or entry.text("split") == split]


def _from_references(references: Sequence[Entry], instances: Entry) -> Iterator[_Expression]:
    pictures = {entry.whole("id"): entry for entry in instances.entries("images")}
    boxes = {entry.whole("id"): entry for entry in instances.entries("annotations")}
    for reference in references:
        box, picture = boxes.get(reference.whole("ann_id")), reference.whole("image_id")
        if box is None:
            raise reference.wrong("ann_id", f"the id of an annotation in {instances.file.name}")
        if picture not in pictures:
            raise reference.wrong("image_id", f"the id of an image in {instances.file.name}")
        for sentence in reference.entries("sentences"):
            yield _Expression(
                case_id=str(sentence.whole("sent_id")),
                file_name=pictures[picture].text("file_name"),
                width=pictures[picture].whole("width"),
                height=pictures[picture].whole("height"),
                sentence=sentence.text("sent"),
                xyxy_px=_from_corner_and_size(box),
            )


def _from_lines(lines: Sequence[Entry]) -> Iterator[_Expression]:
    for number, line in enumerate(lines):
        if line.has("sent"):
            xyxy_px = line.numbers("bbox", 4)
            if (xyxy_px[2:] <= xyxy_px[:2]).any():
                raise line.wrong("bbox", "left, top, right and bottom of a box, pixels")
            sentences: tuple[str, ...] = (line.text("sent"),)
            name = line.text("image")
        elif line.has("answer"):
            xyxy_px = _from_corner_and_size(line)
            sentences, name = line.texts("answer"), line.text("file_name")
        else:
            raise line.wrong("sent", "a sentence (or 'answer', a list of them)")
        is_sized = line.has("width") and line.has("height")
        for i, sentence in enumerate(sentences):
            yield _Expression(
                case_id=f"{number}/{i}",
                file_name=name,
                width=line.whole("width") if is_sized else None,
                height=line.whole("height") if is_sized else None,
                sentence=sentence,
                xyxy_px=xyxy_px,
            )


def _from_corner_and_size(entry: Entry) -> npt.NDArray[np.float64]:
    corner_and_size = entry.numbers("bbox", 4)
    if (corner_and_size[2:] <= 0).any():
        raise entry.wrong("bbox", "x, y, width and height of a box, pixels")
    return np.concatenate([corner_and_size[:2], corner_and_size[:2] + corner_and_size[2:]])


def _other_names(name: str) -> Sequence[str]:
    bare = PurePosixPath(name).name
    return bare, _ANNOTATION_SUFFIX.sub(r"\1\2", bare)
