# SPDX-License-Identifier: Apache-2.0
"""What an engine's numbers are: one name for weights, arithmetic and cache, and for the tower's.

Knows no graph. A name is what `--precision` takes, what the manifest holds, and a part of the
directory's name, so that the command in a refusal can be typed as it stands.

Storage and arithmetic are two things. ONNX Runtime's CPU has kernels for float32, for products of
four- and eight-bit weights with float32 or float16 activations and for a float16 cache; it widens
what is left of float16 to float32 when it loads a graph, and has no arithmetic in bfloat16 at all
(1.32: not one of MatMul, GroupQueryAttention, MatMulNBits, RMSNormalization). So "bfloat16" stores
weights in bfloat16, as released checkpoints have them, and computes in float32 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..errors import ConfigError

FLOAT32, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
INT8 = ir.DataType.INT8
CALIBRATED_SUFFIX = "-calibrated"
TOWER_SUFFIXES = {"-tower16": FLOAT16, "-tower32": FLOAT32, "-tower8": INT8}


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """The numbers of an engine.

    Attributes:
        name: as in `PRECISIONS`, with the tower's where that is another than usual.
        bits: of a weight in blocks; None where weights are floating-point numbers.
        block_size: weights that share a scale.
        calibrated: weights of four bits are rounded for the inputs that rendered scenes bring
            about (`calibration.py`), not each to what is nearest.
        stored: how floating-point weights are stored.
        computed: what products compute in and the cache holds: float32, or float16 with norms,
            rotation and sums along the depth still in float32.
        tower_stored, tower_computed: the same of the vision tower, which never has as few bits as
            four: boxes are read from what it sees, and it is small. Stored in int8, its blocks'
            products are of integers (`integer_products.py`) and all else is float32.
    """

    name: str
    bits: int | None = None
    block_size: int = 32
    calibrated: bool = False
    stored: ir.DataType = FLOAT32
    computed: ir.DataType = FLOAT32
    tower_stored: ir.DataType = FLOAT32
    tower_computed: ir.DataType = FLOAT32

    @property
    def table(self) -> npt.DTypeLike:
        """Of the embedding table; NumPy has no bfloat16."""
        return np.float32 if self.name.startswith("float32") else np.float16


PRECISIONS: Mapping[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision(name="float32"),
        Precision(name="bfloat16", stored=BFLOAT16, tower_stored=BFLOAT16),
        Precision(
            name="float16",
            stored=FLOAT16,
            computed=FLOAT16,
            tower_stored=FLOAT16,
            tower_computed=FLOAT16,
        ),
        Precision(name="int8", bits=8, block_size=128),
        Precision(name="int4", bits=4),
        Precision(name="int4-128", bits=4, block_size=128),
        Precision(name="int4-a16", bits=4, stored=FLOAT16, computed=FLOAT16),
    )
}


def precision_from_name(name: str) -> Precision:
    """The precision of a name.

    >>> precision_from_name("int4-tower16").tower_computed.name
    'FLOAT16'
    >>> precision_from_name("int4-128-calibrated").calibrated
    True

    Raises:
        ConfigError: no such precision.
    """
    for suffix, tower in TOWER_SUFFIXES.items():
        usual = _with_usual_tower(name.removesuffix(suffix))
        if name.endswith(suffix) and usual is not None and usual.tower_stored != tower:
            computed = FLOAT32 if tower == INT8 else tower
            return replace(usual, name=name, tower_stored=tower, tower_computed=computed)
    precision = _with_usual_tower(name)
    if precision is None:
        raise ConfigError(
            f"precision is '{name}', expected one of {', '.join(PRECISIONS)}; where four bits are "
            f"calibrated followed by {CALIBRATED_SUFFIX}, and where the tower is otherwise by "
            f"{' or '.join(TOWER_SUFFIXES)}"
        )
    return precision


def _with_usual_tower(name: str) -> Precision | None:
    nearest = PRECISIONS.get(name.removesuffix(CALIBRATED_SUFFIX))
    if nearest is None or not name.endswith(CALIBRATED_SUFFIX):
        return nearest
    return replace(nearest, name=name, calibrated=True) if nearest.bits == 4 else None


def with_calibration(name: str) -> str:
    """The name of a precision of four bits, calibrated.

    >>> with_calibration("int4"), with_calibration("int4-128-tower16")
    ('int4-calibrated', 'int4-128-calibrated-tower16')

    Raises:
        ConfigError: no such precision, or none of four bits.
    """
    precision = precision_from_name(name)
    if precision.bits != 4:
        raise ConfigError(
            f"precision is '{name}', expected one of four bits: others lose too little for a "
            "calibration to win it back; leave --calibrate out"
        )
    if precision.calibrated:
        return name
    tower = next((suffix for suffix in TOWER_SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(tower) + CALIBRATED_SUFFIX + tower


def with_tower(name: str, tower: str | None) -> str:
    """The name of a precision whose tower is of another kind: "float16", "float32", "int8".

    >>> with_tower("int4", "float16"), with_tower("int4", "float32"), with_tower("int4", None)
    ('int4-tower16', 'int4', 'int4')

    Raises:
        ConfigError: no such precision.
    """
    usual = precision_from_name(name)
    for suffix, kind in TOWER_SUFFIXES.items():
        if kind.numpy().name == tower and kind != usual.tower_stored:
            return name + suffix
    return name
