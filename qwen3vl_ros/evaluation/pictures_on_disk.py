# SPDX-License-Identifier: Apache-2.0
"""The pictures of a data set: which are taken, where they lie, and whether they are right.

A sample is the pictures whose ids come first by a hash: fair whatever the order of the file, the
same in every run, and a larger sample holds every smaller one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DatasetError
from ..image.picture_file import pixels_of_file
from ..model.vision_language_model import View
from ..scene.camera import Frame, Intrinsics

FRAME_ID = "camera"  # files name no frame


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureFile:
    """A picture on disk.

    Attributes:
        path: of the file.
        width: as the annotations have it, pixels; None where they do not say.
        height: likewise.
        K: (3, 3) float64, pixels; None where the camera is not known.
    """

    path: Path
    width: int | None = None
    height: int | None = None
    K: npt.NDArray[np.float64] | None = None

    def views(self) -> tuple[View, ...]:
        """The picture as the frame that is asked about.

        Raises:
            FrameError: it cannot be read.
            DatasetError: it is of another size than its annotations.
        """
        image = pixels_of_file(self.path)
        height, width = image.shape[:2]
        if self.width is not None and (self.width, self.height) != (width, height):
            raise DatasetError(
                f"the picture is {width} x {height} pixels, expected {self.width} x {self.height} "
                "as its annotations say; boxes would be in the wrong place. Get the picture anew, "
                f"or take off an EXIF mark that turns it: {self.path}"
            )
        intrinsics = None if self.K is None else Intrinsics(K=self.K, width=width, height=height)
        frame = Frame(image=image, stamp_ns=0, frame_id=FRAME_ID, intrinsics=intrinsics)
        return (frame,)


def sampled(picture_ids: Iterable[str], limit: int | None) -> Sequence[str]:
    """All, or a fair sample of `limit`, in their own order.

    >>> sampled(["1", "2", "3", "4"], 2), sampled(["4", "3", "2", "1"], 3)
    (['3', '4'], ['4', '3', '1'])
    """
    ids = list(picture_ids)
    if limit is None or limit >= len(ids):
        return ids
    chosen = set(sorted(ids, key=_hash)[:limit])
    return [picture_id for picture_id in ids if picture_id in chosen]


def found_files(
    names: Mapping[str, str],
    folder: Path,
    *,
    other_names: Callable[[str], Sequence[str]] = lambda name: (),
) -> Mapping[str, Path]:
    """Where each picture lies.

    Args:
        names: of the files, relative to `folder`, by picture.
        folder: that holds them.
        other_names: under which a file may also lie.

    Raises:
        DatasetError: some are missing; says how many, and the first.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"there is no folder of pictures, expected --images to name one: {folder}"
        )
    found: dict[str, Path] = {}
    missing = []
    for picture_id, name in names.items():
        candidates = [folder / one for one in (name, *other_names(name))]
        path = next((one for one in candidates if one.is_file()), None)
        if path is None:
            missing.append(candidates[0])
        else:
            found[picture_id] = path
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(names)} pictures are missing, the first is "
            f"'{missing[0].relative_to(folder)}'; expected --images to be the folder that the "
            f"names in the annotations start from: {folder}"
        )
    return found


def _hash(picture_id: str) -> bytes:
    return hashlib.sha256(picture_id.encode()).digest()
