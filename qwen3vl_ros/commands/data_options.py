# SPDX-License-Identifier: Apache-2.0
"""Which data set a command evaluates on."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import ConfigError
from ..evaluation.asked_categories import Asked
from ..evaluation.case import DataSet
from ..evaluation.coco_data import coco_data
from ..evaluation.omni3d_data import omni3d_data
from ..evaluation.refcoco_data import refcoco_data
from .command import positive

DATA = ("coco", "refcoco", "omni3d")


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Annotations, pictures, and what is taken of them."""
    data = parser.add_argument_group("a data set in place of scenes")
    data.add_argument("--annotations", type=Path, metavar="FILE", help="docs/evaluation.md")
    data.add_argument(
        "--images", type=Path, metavar="DIR", help="that the files' names start from"
    )
    data.add_argument(
        "--instances",
        type=Path,
        metavar="FILE",
        help="of refcoco: boxes; by default instances.json beside the annotations",
    )
    data.add_argument("--split", help="of refcoco: val, testA, testB, ...")
    data.add_argument(
        "--ask",
        choices=[asked.value for asked in Asked],
        default=Asked.PRESENT.value,
        help="of coco and omni3d: the categories that a picture holds, or every one",
    )
    data.add_argument(
        "--categories",
        help="of coco and omni3d: names apart by commas, by default all; also omni3d-sunrgbd, "
        "omni3d-arkitscenes, omni3d-hypersim: what Omni3D evaluates",
    )
    data.add_argument(
        "--categories-per-question", type=positive, default=80, metavar="N", help="of coco"
    )
    data.add_argument(
        "--limit", type=positive, metavar="N", help="pictures, fairly sampled; by default all"
    )
    data.add_argument(
        "--max-objects", type=positive, default=100, help="of one answer; more are not read"
    )
    data.add_argument(
        "--parallel",
        type=positive,
        default=1,
        metavar="N",
        help="pictures that a server is asked about at the same time",
    )
    data.add_argument(
        "--restart", action="store_true", help="forget the answers of an earlier run"
    )


def require_no_files(options: argparse.Namespace) -> None:
    """Refuse options of a data set where none is named, rather than to evaluate something else.

    Raises:
        ConfigError: one was given.
    """
    for name in ("annotations", "images", "instances", "split", "categories", "limit"):
        if getattr(options, name) is not None:
            raise ConfigError(
                f"--{name} was given with --data {options.data}, expected --data to be one of "
                f"{', '.join(DATA)}; rendered pictures are numbered by --scenes"
            )


def data_named(options: argparse.Namespace) -> DataSet:
    """The questions of the data set that the options name.

    Raises:
        ConfigError: it is named in part, or an option is not for it.
        DatasetError: it cannot be read.
    """
    kind = options.data
    if options.annotations is None or options.images is None:
        raise ConfigError(
            f"--data {kind} was given without --annotations FILE and --images DIR; "
            "docs/evaluation.md says which files"
        )
    for option, value, its_kinds in (
        ("--split", options.split, ("refcoco",)),
        ("--instances", options.instances, ("refcoco",)),
        ("--categories", options.categories, ("coco", "omni3d")),
    ):
        if value is not None and kind not in its_kinds:
            raise ConfigError(
                f"{option} was given with --data {kind}, expected {' or '.join(its_kinds)}"
            )
    asked = Asked(options.ask)
    if kind == "coco":
        return coco_data(
            options.annotations,
            options.images,
            asked=asked,
            categories_per_question=options.categories_per_question,
            max_objects=options.max_objects,
            categories=options.categories,
            limit=options.limit,
        )
    if kind == "refcoco":
        return refcoco_data(
            options.annotations,
            options.images,
            instances=options.instances,
            split=options.split,
            max_objects=options.max_objects,
            limit=options.limit,
        )
    return omni3d_data(
        options.annotations,
        options.images,
        asked=asked,
        max_objects=options.max_objects,
        categories=options.categories,
        limit=options.limit,
    )
