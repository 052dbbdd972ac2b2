# SPDX-License-Identifier: Apache-2.0
"""3D detection in Omni3D's format (SUN RGB-D, ARKitScenes, Hypersim) becomes DETECT_3D questions.

One category per question, as the technical report asks. The format is facebookresearch/omni3d
DATA.md: `images` (id, width, height, file_path, K), `categories` (id, name) and `annotations` with
`bbox3D_cam`, eight corners in the camera optical frame, metres. What is held against answers is
those corners, as in Omni3D's own evaluation; `center_cam`, `dimensions` and `R_cam` say the same.

Which annotations do not count is Omni3D's own rule, with the thresholds of its evaluation
(cubercnn/data/datasets.py is_ignore, tools/train_net.py do_test, configs/Base.yaml). Fields that
say -1, or no finite number, are not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..scene.detections import Query, Task
from ..scene.geometry import OrientedBox, transform_from_rotation
from .annotated_pictures import AnnotatedPictures, annotated_pictures
from .annotation_file import Entry
from .asked_categories import Asked, chosen_categories, spoken
from .case import Case, DataSet, Solids, TrueSolid
from .omni3d_categories import CATEGORIES

GROUP = "detect_3d"
MOST_TRUNCATION, LEAST_VISIBILITY = 1 / 3, 1 / 3
LEAST_HEIGHT, MOST_HEIGHT = 0.0625, 1.5  # of the 2D box, as shares of the picture's
MOST_DEPTH_ERROR = 0.5
# Corners that stray from a box's by more than this share of its diagonal are no box.
_MOST_STRAY = 0.02
# Omni3D's corners: v0 ... v7, x from v0 to v1, y from v0 to v3, z from v0 to v4.
_ALONG = (((1, 0), (2, 3), (5, 4), (6, 7)), ((3, 0), (2, 1), (7, 4), (6, 5)))
_FACE = ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))
_SIGNS = np.array([(x, y, z) for z in (-0.5, 0.5) for x, y in _FACE])


def omni3d_data(
    annotations: Path,
    images: Path,
    *,
    asked: Asked,
    max_objects: int,
    categories: str | None = None,
    limit: int | None = None,
) -> DataSet:
    """Every picture's questions, one for each category.

    Args:
        annotations: the JSON file, for example SUNRGBD_test.json.
        images: folder that `file_path` starts from (Omni3D's `datasets`).
        asked: which categories each picture is asked for.
        max_objects: of one answer.
        categories: a key of `omni3d_categories.CATEGORIES`, or names apart by commas; None takes
            those of which any annotation counts.
        limit: pictures, fairly sampled; None takes all.

    Raises:
        DatasetError: a file is missing or not what it should be; names the entry.
    """
    pictures = annotated_pictures(annotations, spelled=str)
    truths, left_out = _truths(pictures)
    taken = _taken(categories, pictures.distinct_names, truths)
    cases = []
    for picture_id, _, file in pictures.sampled_files(
        images, limit=limit, name=lambda entry: entry.text("file_path"), is_calibrated=True
    ):
        solids = truths.get(picture_id, [])
        present = {solid.label for solid in solids if solid.counts}
        for name in taken if asked is Asked.ALL else [name for name in taken if name in present]:
            cases.append(
                Case(
                    case_id=f"{picture_id}/{name}",
                    picture_id=picture_id,
                    group=GROUP,
                    views=file.views,
                    query=Query(task=Task.DETECT_3D, text=spoken(name), max_objects=max_objects),
                    truth=Solids(solids=tuple(solid for solid in solids if solid.label == name)),
                )
            )
    counted = [solid.counts for solids in truths.values() for solid in solids]
    ignored = counted.count(False)
    remarks = [f"{ignored} of {len(counted)} annotations do not count, by Omni3D's rule"]
    remarks += [f"{number} annotations were left out: {why}" for why, number in left_out.items()]
    return DataSet(
        cases=tuple(cases),
        identity=pictures.identity(
            "omni3d", asked, categories=", ".join(taken), max_objects=str(max_objects)
        ),
        remarks=tuple(remarks),
    )


def box_of_corners(corners: npt.NDArray[np.float64]) -> OrientedBox | None:
    """The box of Omni3D's eight corners (8, 3), metres; None where they are none.

    The box's own axes: x from v0 to v1, y from v0 to v3, z completes them.
    """
    if not np.isfinite(corners).all():
        return None
    centre = corners.mean(axis=0)
    x, y = (np.mean([corners[i] - corners[j] for i, j in pairs], axis=0) for pairs in _ALONG)
    z = np.mean(corners[4:] - corners[:4], axis=0)
    size = np.array([np.linalg.norm(axis) for axis in (x, y, z)])
    if (size <= 0).any():
        return None
    R = np.stack([x, y, z], axis=1) / size
    if np.linalg.det(R) < 0:  # corners in mirrored order: the same body, its z axis turned round
        R[:, 2] *= -1
    # The nearest rotation; one that is far away shows in the corners.
    U, _, V = np.linalg.svd(R)
    R = U @ V
    straight = (_SIGNS * size) @ R.T + centre
    mirrored = (_SIGNS * size * [1, 1, -1]) @ R.T + centre
    stray = min(float(np.abs(one - corners).max()) for one in (straight, mirrored))
    if stray > _MOST_STRAY * float(np.linalg.norm(size)):
        return None
    return OrientedBox(T_frame_box=transform_from_rotation(R, centre), size_m=size)


def corners_of_box(box: OrientedBox) -> npt.NDArray[np.float64]:
    """(8, 3) in Omni3D's order, the inverse of `box_of_corners`."""
    return (_SIGNS * box.size_m) @ box.T_frame_box[:3, :3].T + box.center_m


def _truths(
    pictures: AnnotatedPictures,
) -> tuple[Mapping[str, list[TrueSolid]], Mapping[str, int]]:
    """By picture; and how many were left out, by why."""
    truths: dict[str, list[TrueSolid]] = {}
    left_out: dict[str, int] = {}
    for entry, picture_id, category in pictures.annotations():
        if category is None:
            why = "the file does not list their category"
            left_out[why] = left_out.get(why, 0) + 1
            continue
        xyxy_px = _known_box(entry, "bbox2D_trunc", "bbox2D_proj")
        if xyxy_px is None and _known_box(entry, "bbox2D_tight") is None:
            continue  # without any 2D box Omni3D leaves an annotation out altogether
        counts = _counts(entry, xyxy_px, pictures.pictures[picture_id].whole("height"))
        # What does not count still keeps answers on it from being wrong, where it has a box.
        box = box_of_corners(entry.numbers("bbox3D_cam", 8, 3, finite=False))
        if box is not None:
            solid = TrueSolid(label=category, box=box, counts=counts)
            truths.setdefault(picture_id, []).append(solid)
        elif counts:
            why = "their eight corners are no box"
            left_out[why] = left_out.get(why, 0) + 1
    return truths, left_out


def _known_box(entry: Entry, *names: str) -> npt.NDArray[np.float64] | None:
    """The first of these 2D boxes (4,) that is known, pixels."""
    for name in names:
        if entry.has(name):
            xyxy_px = entry.numbers(name, 4, finite=False)
            # What is behind the camera may be projected to anywhere, or nowhere.
            if np.isfinite(xyxy_px).all() and not (xyxy_px == -1).all():
                return xyxy_px
    return None


def _counts(entry: Entry, xyxy_px: npt.NDArray[np.float64] | None, picture_height: int) -> bool:
    if xyxy_px is None or entry.flag("behind_camera", default=False):
        return False
    if not entry.flag("valid3D", default=True):
        return False
    height = float(xyxy_px[3] - xyxy_px[1]) / picture_height
    return bool(
        (entry.numbers("dimensions", 3) > 0).all()
        and _number(entry, "lidar_pts") != 0
        and _number(entry, "segmentation_pts") != 0
        and _number(entry, "depth_error") <= MOST_DEPTH_ERROR
        and _number(entry, "truncation") < MOST_TRUNCATION
        and not 0 <= _number(entry, "visibility") <= LEAST_VISIBILITY
        and LEAST_HEIGHT < height < MOST_HEIGHT
    )


def _number(entry: Entry, name: str) -> float:
    """-1 where it is not known."""
    if not entry.has(name) or entry.values[name] != entry.values[name]:  # NaN
        return -1.0
    return entry.number(name)


def _taken(
    categories: str | None, known: Sequence[str], truths: Mapping[str, list[TrueSolid]]
) -> Sequence[str]:
    """Names of categories, in the order of `known`."""
    if categories is None:
        counted = {s.label for solids in truths.values() for s in solids if s.counts}
        return [name for name in known if name in counted]
    if categories in CATEGORIES:
        return [name for name in known if name in CATEGORIES[categories]]
    return chosen_categories(categories, known)
