# SPDX-License-Identifier: Apache-2.0
"""What an engine's numbers are: one name for weights, arithmetic and cache, and for the tower's.

Knows no graph. A name is what `--precision` takes, what the manifest holds, and a part of the
directory's name, so that the command in a refusal can be typed as it stands.

Storage and arithmetic are two things. ONNX Runtime's CPU has kernels for float32, for products of
four- and eight-bit weights with float32 or float16 activations, for a float16 cache, and for one
in int8 where activations are float32; it widens what is left of float16 to float32 when it loads
a graph, and has no arithmetic in bfloat16 at all (1.32: not one of MatMul, GroupQueryAttention,
MatMulNBits, RMSNormalization). So "bfloat16" stores weights in bfloat16, as released checkpoints
have them, and computes in float32 everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..errors import ConfigError
from ..runtime.precision_name import precision_name

FLOAT32, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16
INT8 = ir.DataType.INT8
# As a name's last part has them.
TOWERS = {"tower16": FLOAT16, "tower32": FLOAT32, "tower8": INT8}


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
        computed: what products compute in: float32, or float16 with norms, rotation and sums along
            the depth still in float32.
        int8_cache: the cache holds int8 (`integer_cache.py`), not what products compute in.
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
    int8_cache: bool = False
    tower_stored: ir.DataType = FLOAT32
    tower_computed: ir.DataType = FLOAT32

    @property
    def cached(self) -> ir.DataType:
        """What the cache holds."""
        return INT8 if self.int8_cache else self.computed

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
    parts = precision_name(name)
    usual = PRECISIONS.get(parts.weights)
    tower = TOWERS.get(parts.tower)
    if (
        usual is None
        or (parts.is_calibrated and usual.bits != 4)
        or (parts.has_int8_cache and usual.computed != FLOAT32)
        or tower == usual.tower_stored
    ):
        raise ConfigError(
            f"precision is '{name}', expected one of {', '.join(PRECISIONS)}; where four bits are "
            "calibrated followed by -calibrated, where the cache is in int8 (not with float16 or "
            "int4-a16) by -cache8, and where the tower is otherwise by "
            f"{' or '.join(f'-{tower}' for tower in TOWERS)}"
        )
    precision = replace(
        usual, name=name, calibrated=parts.is_calibrated, int8_cache=parts.has_int8_cache
    )
    if tower is None:
        return precision
    computed = FLOAT32 if tower == INT8 else tower
    return replace(precision, tower_stored=tower, tower_computed=computed)


def with_calibration(name: str) -> str:
    """The name of a precision of four bits, calibrated.

    >>> with_calibration("int4"), with_calibration("int4-128-tower16")
    ('int4-calibrated', 'int4-128-calibrated-tower16')

    Raises:
        ConfigError: no such precision, or none of four bits.
    """
    if precision_from_name(name).bits != 4:
        raise ConfigError(
            f"precision is '{name}', expected one of four bits: others lose too little for a "
            "calibration to win it back; leave --calibrate out"
        )
    return str(replace(precision_name(name), is_calibrated=True))


def with_cache(name: str, cache: str | None) -> str:
    """The name of a precision whose cache is "int8"; None leaves it as wide as its products.

    >>> with_cache("int4-tower8", "int8"), with_cache("int4", None)
    ('int4-cache8-tower8', 'int4')

    Raises:
        ConfigError: no such precision, or one that computes in float16.
    """
    computed = precision_from_name(name).computed
    if cache is None:
        return name
    assert cache == INT8.numpy().name
    if computed != FLOAT32:
        raise ConfigError(
            f"precision is '{name}', which computes in float16 and has a cache of float16, for "
            "GPUs; expected one that computes in float32, whose attention on the CPU reads int8: "
            "leave --cache out, or export int4 or int8"
        )
    return str(replace(precision_name(name), has_int8_cache=True))


def with_tower(name: str, tower: str | None) -> str:
    """The name of a precision whose tower is of another kind: "float16", "float32", "int8".

    >>> with_tower("int4", "float16"), with_tower("int4", "float32"), with_tower("int4", None)
    ('int4-tower16', 'int4', 'int4')

    Raises:
        ConfigError: no such precision.
    """
    usual = precision_from_name(name)
    for part, kind in TOWERS.items():
        if kind.numpy().name == tower and kind != usual.tower_stored:
            return str(replace(precision_name(name), tower=part))
    return name
