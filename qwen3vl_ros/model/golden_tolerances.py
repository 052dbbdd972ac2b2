# SPDX-License-Identifier: Apache-2.0
"""How far an engine of each precision may be from the reference on the golden picture.

Data, and how a manifest names it. A limit is a few times what rounding costs the tiny checkpoint
and random ones, and far below what a fault does (docs/adr/0008): rows of a tap that is zero are
off by 1, logits of other weights by about that. What costs a model nothing, no number sees: rows
and columns swapped in the decoder's positions move the tiny checkpoint's logits by 0.01, which
float32 shows and four bits hide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import EngineError
from ..runtime.manifest_fields import Manifest
from ..runtime.precision_name import precision_name


@dataclass(frozen=True, kw_only=True, slots=True)
class TowerTolerance:
    """Of the rows that the tower makes.

    Attributes:
        cosine: smallest between a row and the reference's.
        error: largest distance, in parts of the reference's length.
        passed_on: what that may add to the decoder's errors, however exact the decoder is.
    """

    cosine: float
    error: float
    passed_on: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderTolerance:
    """Of what the decoder says.

    Attributes:
        first_error: largest distance of the logits after the prompt, in parts of the reference's
            length.
        answer_error: the same of the likeliest logits in all places of the reference's answer.
        overlap: smallest intersection over union of a box and the reference's.
    """

    first_error: float
    answer_error: float
    overlap: float


TOWERS: Mapping[str, TowerTolerance] = {
    "float32": TowerTolerance(cosine=0.99999, error=1e-3, passed_on=0.0),
    "float16": TowerTolerance(cosine=0.999, error=0.03, passed_on=0.02),
    "bfloat16": TowerTolerance(cosine=0.99, error=0.1, passed_on=0.05),
    "int8": TowerTolerance(cosine=0.99, error=0.1, passed_on=0.05),
}
NAMED_TOWERS = {"tower16": "float16", "tower32": "float32", "tower8": "int8"}
# By the beginning of a precision's name; the longest that fits.
DECODERS: Mapping[str, DecoderTolerance] = {
    "float32": DecoderTolerance(first_error=1e-3, answer_error=1e-3, overlap=0.99),
    "float16": DecoderTolerance(first_error=0.02, answer_error=0.02, overlap=0.9),
    "bfloat16": DecoderTolerance(first_error=0.02, answer_error=0.02, overlap=0.9),
    "int8": DecoderTolerance(first_error=0.1, answer_error=0.05, overlap=0.9),
    "int4": DecoderTolerance(first_error=0.5, answer_error=0.2, overlap=0.7),
    "int4-128": DecoderTolerance(first_error=0.5, answer_error=0.25, overlap=0.7),
}
# ONNX Runtime stores bfloat16 and computes in float32; a plan computes in it, each operator's
# output rounded to 8 bits. Emulated by torch, not yet run on hardware (docs/LOG.md): the tiny
# checkpoint is off by 0.002 and 0.003, 28 random layers by 0.047 and 0.017.
BFLOAT16_PLANS = DecoderTolerance(first_error=0.1, answer_error=0.05, overlap=0.9)
# What keys and values in int8 may add to the errors, and the least overlap that they leave.
INT8_CACHE = DecoderTolerance(first_error=0.05, answer_error=0.02, overlap=0.9)


def tower_tolerance(manifest: Manifest) -> TowerTolerance:
    """Of an engine's tower.

    Raises:
        EngineError: of no precision that is known.
    """
    kind = manifest.vision_precision or "float32"
    kind = NAMED_TOWERS.get(precision_name(manifest.precision).tower, kind)
    if kind not in TOWERS:
        raise EngineError(
            f"nothing says how right a tower in '{kind}' has to be, expected one of "
            f"{', '.join(TOWERS)}; export the engine again",
            field="vision_precision",
        )
    return TOWERS[kind]


def decoder_tolerance(manifest: Manifest) -> DecoderTolerance:
    """Of an engine's decoder and head, fed by its own tower.

    Raises:
        EngineError: of no precision that is known.
    """
    fitting = [name for name in DECODERS if manifest.precision.startswith(name)]
    if not fitting:
        raise EngineError(
            f"nothing says how right an engine in '{manifest.precision}' has to be, expected one "
            f"that begins with {', '.join(DECODERS)}; export the engine again",
            field="precision",
        )
    name = max(fitting, key=len)
    own, passed_on = DECODERS[name], tower_tolerance(manifest).passed_on
    if name == "bfloat16" and manifest.flavour != "onnxruntime":
        own = BFLOAT16_PLANS
    if precision_name(manifest.precision).has_int8_cache:
        own = DecoderTolerance(
            first_error=own.first_error + INT8_CACHE.first_error,
            answer_error=own.answer_error + INT8_CACHE.answer_error,
            overlap=min(own.overlap, INT8_CACHE.overlap),
        )
    return DecoderTolerance(
        first_error=own.first_error + passed_on,
        answer_error=own.answer_error + passed_on,
        overlap=min(own.overlap, 0.9) if passed_on else own.overlap,
    )
