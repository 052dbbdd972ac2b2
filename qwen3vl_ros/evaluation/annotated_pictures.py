# SPDX-License-Identifier: Apache-2.0
"""Pictures, categories and annotations in one JSON object, as COCO, LVIS and Omni3D lay them out.

`images` (id, width, height), `categories` (id, name) and `annotations` (image_id, category_id).
Knows no box and no file name: in these the formats differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .annotation_file import Entry, file_sha256, json_file
from .asked_categories import Asked
from .pictures_on_disk import PictureFile, found_files, sampled


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotatedPictures:
    """Such an object, read.

    Attributes:
        root: the whole of it.
        names: of categories, by id.
        pictures: entries of `images`, by id.
    """

    root: Entry
    names: Mapping[int, str]
    pictures: Mapping[str, Entry]

    @property
    def distinct_names(self) -> Sequence[str]:
        """Of categories, in the order of the file."""
        return list(dict.fromkeys(self.names.values()))

    def annotations(self) -> Iterator[tuple[Entry, str, str | None]]:
        """Each with the id of its picture and the name of its category, None for an unknown one.

        Raises:
            DatasetError: its picture is not in the file.
        """
        for entry in self.root.entries("annotations"):
            picture_id, category_id = str(entry.whole("image_id")), entry.whole("category_id")
            if picture_id not in self.pictures:
                raise entry.wrong("image_id", "the id of one of 'images'")
            yield entry, picture_id, self.names.get(category_id)

    def sampled_files(
        self,
        folder: Path,
        *,
        limit: int | None,
        name: Callable[[Entry], str],
        is_calibrated: bool = False,
    ) -> Iterator[tuple[str, Entry, PictureFile]]:
        """Pictures with their ids and files; `name` says where one lies below `folder`.

        Raises:
            DatasetError: some are missing, or an entry is not as it should be.
        """
        chosen = sampled(self.pictures, limit)
        files = found_files({i: name(self.pictures[i]) for i in chosen}, folder)
        for picture_id in chosen:
            entry = self.pictures[picture_id]
            file = PictureFile(
                path=files[picture_id],
                width=entry.whole("width"),
                height=entry.whole("height"),
                K=entry.numbers("K", 3, 3) if is_calibrated else None,
            )
            yield picture_id, entry, file

    def identity(self, kind: str, asked: Asked, **more: str) -> Mapping[str, str]:
        """What stands beside numbers about them."""
        return {
            "kind": kind,
            "annotations": self.root.file.name,
            "annotations_sha256": file_sha256(self.root.file),
            "asked": asked.value,
            **more,
        }


def annotated_pictures(file: Path, *, spelled: Callable[[str], str]) -> AnnotatedPictures:
    """What a file holds, with its categories spelled as they are called here.

    Raises:
        DatasetError: it cannot be read.
    """
    root = json_file(file)
    return AnnotatedPictures(
        root=root,
        names={e.whole("id"): spelled(e.text("name")) for e in root.entries("categories")},
        pictures={str(entry.whole("id")): entry for entry in root.entries("images")},
    )
