# SPDX-License-Identifier: Apache-2.0
"""Questions of every kind about rooms nobody trained on, as cases.

Knows rooms, what can be asked about them, and no model. Everything is drawn from a room's seed:
the same seeds are asked the same. A room is drawn again when its turn to be asked about comes, so
that many rooms need no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..evaluation.case import Boxes, Case, DataSet, Place, Solids, TrueBox, TrueSolid, Truth
from ..evaluation.told_truth import truth_of_answer
from ..model.vision_language_model import View
from ..scene.camera import Frame
from ..scene.clip import Clip
from ..scene.detections import Task, TextLevel
from .changes import question_what_moved, question_when
from .dataset import HELD_OUT_SEED, room_from_seed
from .known_objects import KnownObject
from .lenses import Lens
from .motion import MovingRoom, moving_room_from_seed
from .phrases import Phrase, relation_phrases, superlative_phrases
from .questions import (
    ROOM_NAMES,
    Question,
    question_about,
    question_about_absent,
    question_about_any_group,
    question_about_phrase,
    question_about_several,
    question_about_words,
)
from .room_rendering import RoomPicture, render_room
from .shards import known_objects
from .small_talk import question_in_words

FRAME_ID = "camera_color_optical_frame"
ASKED = 3  # the stream that these questions are drawn from
CLIP_FRAMES = 8
GROUPS = (
    *("refer", "relations", "superlatives", "absent", "several", "point", "count", "kind"),
    *("detect_3d", "spot_text", "words", "moved", "moment"),
)


def room_data(rooms: int, *, first_seed: int = HELD_OUT_SEED) -> DataSet:
    """Cases about so many rooms, and about as many clips and pairs of pictures."""
    seeds = range(first_seed, first_seed + rooms)
    return DataSet(
        cases=tuple(case for seed in seeds for case in _room(seed)),
        identity={
            "kind": "rooms",
            "first_seed": str(first_seed),
            "questions": "2",  # another number, other questions
        },
    )


def _room(seed: int) -> Iterator[Case]:
    _, lens, picture = room_from_seed(seed)
    present = [(i, one) for i, one in enumerate(known_objects(picture)) if one is not None]
    objects = [known for _, known in present]
    solids = [i for i, _ in present]
    number: dict[str, int] = {}
    rng = np.random.default_rng([ASKED, seed])
    for group, question in _questions(objects, rng):
        number[group] = number.get(group, -1) + 1
        targets = [solids[i] for i in question.targets]
        yield Case(
            case_id=f"{seed}/{group}/{number[group]}",
            picture_id=f"{seed}",
            group=group,
            views=lambda: (_frame(*room_from_seed(seed)[1:]),),
            query=question.query,
            truth=_truth(question, picture, lens, targets),
        )
    yield from _moving(seed)


def _questions(
    objects: Sequence[KnownObject], rng: np.random.Generator
) -> Iterator[tuple[str, Question]]:
    """One or two of each kind, where there is anything to ask."""
    askable = [
        i
        for i, known in enumerate(objects)
        if known.askable and sum(known.name == other.name for other in objects) == 1
    ]
    for i in rng.permutation(askable)[:2].tolist():
        yield "refer", question_about(objects, i, Task.REFER)
    for i in rng.permutation(askable)[:2].tolist():
        yield "detect_3d", question_about(objects, i, Task.DETECT_3D)
    for i in rng.permutation(askable)[:1].tolist():
        yield "point", question_about(objects, i, Task.POINT)
    for group, phrases in (
        ("relations", list(relation_phrases(objects))),
        ("superlatives", list(superlative_phrases(objects))),
    ):
        if phrases:
            phrase: Phrase = phrases[rng.integers(len(phrases))]
            yield group, question_about_phrase(objects, phrase, Task.REFER)
    yield "absent", question_about_absent(objects, Task.REFER, rng, names=ROOM_NAMES)
    yield "several", question_about_several(objects, rng, names=ROOM_NAMES)
    for group, question in (
        ("count", question_about_any_group(objects, rng, Task.COUNT)),
        ("kind", question_about_any_group(objects, rng, Task.REFER)),
        ("words", question_in_words(objects, rng)),
    ):
        if question is not None:
            yield group, question
    if any(known.word for known in objects):
        yield "spot_text", question_about_words(objects, TextLevel.WORD)


def _truth(question: Question, picture: RoomPicture, lens: Lens, targets: Sequence[int]) -> Truth:
    """Exact where the true answer's own numbers are rounded."""
    query = question.query
    height, width = picture.image.shape[:2]
    seen = [picture.seen[i] for i in targets]
    if query.task is Task.DETECT_3D:
        return Solids(solids=tuple(TrueSolid(label=query.text, box=one.box) for one in seen))
    if query.task is Task.REFER:
        has_depth = not lens.distortion.any()
        return Boxes(
            boxes=tuple(
                TrueBox(
                    label=query.text,
                    xyxy_px=one.xyxy_px,
                    area_px=float(one.visible_px),
                    solid=one.box if has_depth else None,
                )
                for one in seen
            )
        )
    places = [
        Place(xyxy_px=one.xyxy_px, mask=picture.solid_ids == i)
        for i, one in zip(targets, seen, strict=True)
    ]
    takes_places = query.task in (Task.POINT, Task.DETECT)
    return truth_of_answer(
        query,
        question.answer,
        width=width,
        height=height,
        places=places if takes_places else (),
    )


def _moving(seed: int) -> Iterator[Case]:
    """What moved between the first and the last frame of a clip, and when."""
    moving = moving_room_from_seed(seed, frames=CLIP_FRAMES, moves=seed % 4 != 0)
    pictures = [_picture(moving, index) for index in (0, CLIP_FRAMES - 1)]
    before, after = (known_objects(picture) for picture in pictures)
    moved = moving.moves[0].index if moving.moves else None
    height, width = pictures[0].image.shape[:2]
    for group, question in (
        ("moved", question_what_moved(before, after, moved)),
        ("moment", question_when(moving, before)),
    ):
        if question is not None:
            yield Case(
                case_id=f"{seed}/{group}/0",
                picture_id=f"{seed}/{group}",
                group=group,
                views=(
                    (lambda: _two_frames(seed)) if group == "moved" else (lambda: (_clip(seed),))
                ),
                query=question.query,
                truth=truth_of_answer(
                    question.query,
                    question.answer,
                    width=width,
                    height=height,
                    duration_s=moving.times_s[-1],
                ),
            )


def _two_frames(seed: int) -> tuple[View, ...]:
    frames = _clip(seed).frames
    return frames[0], frames[-1]


def _clip(seed: int) -> Clip:
    moving = moving_room_from_seed(seed, frames=CLIP_FRAMES, moves=seed % 4 != 0)
    return Clip(
        frames=tuple(
            Frame(
                image=_picture(moving, index).image,
                stamp_ns=round(time_s * 1e9),
                frame_id=FRAME_ID,
            )
            for index, time_s in enumerate(moving.times_s)
        )
    )


def _picture(moving: MovingRoom, index: int) -> RoomPicture:
    return render_room(moving.room_at(moving.times_s[index]), moving.lens_at(index))


def _frame(lens: Lens, picture: RoomPicture) -> Frame:
    """With depth where the lens is straight: what bends is rectified before it is lifted."""
    return Frame(
        image=picture.image,
        stamp_ns=0,
        frame_id=FRAME_ID,
        intrinsics=lens.intrinsics,
        depth_m=None if lens.distortion.any() else picture.depth_m,
    )
