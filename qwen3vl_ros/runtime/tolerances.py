# SPDX-License-Identifier: Apache-2.0
"""How far an engine of a precision may be from the float32 reference before it counts as broken.

Knows names of precisions and numbers, no engine. `make engines-check` holds every exported
precision against these, and the doctor the engine that a robot is about to run; what is measured
is in docs/precisions.md. The numbers are two to five times what was measured on the committed
checkpoint and on random ones: a wrong layout, a lost layer or a swapped scale is off by far more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..errors import EngineError


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """What is allowed.

    Attributes:
        image_cosine: at least, of a picture's image rows and the reference's, as vectors.
        mean_rel: at most, distance of the logits of many tokens as one vector, in parts of the
            reference's.
        max_rel: at most, the same of the logits before any one token, the first of an answer too.
        top1: at least, share of tokens before which both find the same one likeliest; of many.
        box_iou: at least, of the boxes that both answer with to a question that both get right.
    """

    image_cosine: float
    mean_rel: float
    max_rel: float
    top1: float
    box_iou: float


FLOAT32_TOWER, NARROW_TOWER = 0.99999, 0.999
TOLERANCES: Mapping[str, Tolerance] = {
    "float32": Tolerance(
        image_cosine=FLOAT32_TOWER, mean_rel=1e-4, max_rel=1e-3, top1=0.999, box_iou=0.98
    ),
    "bfloat16": Tolerance(
        image_cosine=NARROW_TOWER, mean_rel=0.02, max_rel=0.15, top1=0.98, box_iou=0.9
    ),
    "float16": Tolerance(
        image_cosine=NARROW_TOWER, mean_rel=0.01, max_rel=0.05, top1=0.99, box_iou=0.9
    ),
    "int8": Tolerance(
        image_cosine=FLOAT32_TOWER, mean_rel=0.03, max_rel=0.2, top1=0.97, box_iou=0.85
    ),
    "int4": Tolerance(
        image_cosine=FLOAT32_TOWER, mean_rel=0.15, max_rel=0.6, top1=0.9, box_iou=0.6
    ),
    "int4-128": Tolerance(
        image_cosine=FLOAT32_TOWER, mean_rel=0.2, max_rel=0.8, top1=0.85, box_iou=0.5
    ),
    "int4-a16": Tolerance(
        image_cosine=FLOAT32_TOWER, mean_rel=0.15, max_rel=0.6, top1=0.9, box_iou=0.6
    ),
}
# A manifest's precision ends so where the tower's is another than usual.
TOWERS: Mapping[str, float] = {"-tower16": NARROW_TOWER, "-tower32": FLOAT32_TOWER}


def tolerance_of(precision: str, *, vision_precision: str | None = None) -> Tolerance:
    """What is allowed to an engine of a precision.

    >>> tolerance_of("int4-tower16").image_cosine, tolerance_of("int4").image_cosine
    (0.999, 0.99999)

    Args:
        precision: as a manifest names it.
        vision_precision: of the tower, where a manifest names it apart from the rest.

    Raises:
        EngineError: nothing is known of this precision.
    """
    name, cosine = precision, None
    for suffix, allowed in TOWERS.items():
        if precision.endswith(suffix):
            name, cosine = precision.removesuffix(suffix), allowed
    if name not in TOLERANCES:
        raise EngineError(
            f"nothing is known of how exact precision '{precision}' has to be, expected one of "
            f"{', '.join(TOLERANCES)}; export one of those",
            field="precision",
        )
    if vision_precision in ("float16", "bfloat16"):
        cosine = NARROW_TOWER
    tolerance = TOLERANCES[name]
    return tolerance if cosine is None else replace(tolerance, image_cosine=cosine)
