# SPDX-License-Identifier: Apache-2.0
"""How much of a GPU's memory an engine of plans needs, from its manifest and config: an estimate.

NOT YET HELD AGAINST HARDWARE. Knows sizes, loads nothing. Weights are the plans' files. Cache and
buffers are what the TensorRT engine asks CUDA for (`tensorrt_engine.py`, `tensorrt_pass.py`),
counted for the largest shapes of every profile; a test counts them beside. What TensorRT itself
works in only a loaded plan tells: here it is the widest layer's rows, as for the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import EngineError
from ..model_config import ModelConfig
from .engine import is_resident
from .engine_memory import memory_needed
from .manifest_fields import Manifest, ShapeRange

_FLOAT_BYTES, _HALF_BYTES = 4, 2
# Of inputs; all others are float32.
_INPUT_BYTES = {"position_indices": 8, "visual_rows": 8, "output_rows": 8, "cached_tokens": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanMemory:
    """In bytes, on the GPU.

    Attributes:
        weights: of the plans.
        cache: of keys and values.
        buffers: that inputs and outputs of the largest passes lie in.
        work: while a pass is computed; a guess.
    """

    weights: int
    cache: int
    buffers: int
    work: int

    @property
    def total(self) -> int:
        """All together."""
        return self.weights + self.cache + self.buffers + self.work

    def __str__(self) -> str:
        return (
            f"about {self.total / 1e9:.2f} GB (weights {self.weights / 1e9:.2f}, cache "
            f"{self.cache / 1e9:.2f}, buffers {self.buffers / 1e9:.2f}, passes "
            f"{self.work / 1e9:.2f}; an estimate, not yet run on hardware)"
        )


def plan_memory_needed(manifest: Manifest, config: ModelConfig) -> PlanMemory:
    """To load an engine's plans and run them.

    Args:
        manifest: of the engine; of a flavour that has profiles.
        config: of the engine.

    Raises:
        EngineError: a profile leaves out what every engine is fed.
    """
    number_bytes = _FLOAT_BYTES if manifest.precision.startswith("float32") else _HALF_BYTES
    try:
        cache = number_bytes * _cached_numbers(manifest)
        buffers = _buffer_bytes(manifest, config, cache)
    except (LookupError, ValueError) as error:
        raise EngineError(
            f"manifest.json has profiles that are no engine's ({error}), expected the inputs that "
            "the graph contracts name; build it again with qwen3vl build",
            field="profiles",
        ) from error
    on_cpu = memory_needed(manifest, config)  # whose passes are in float32
    return PlanMemory(
        weights=sum(manifest.files[plan].size_bytes for plan in manifest.profiles),
        cache=cache,
        buffers=buffers,
        work=on_cpu.passes * number_bytes // _FLOAT_BYTES,
    )


def _cached_numbers(manifest: Manifest) -> int:
    prefill = manifest.profiles["decoder.plan"][0]
    return sum(math.prod(shapes.max) for name, shapes in prefill.items() if is_resident(name))


def _buffer_bytes(manifest: Manifest, config: ModelConfig, cache: int) -> int:
    buffers = sum(
        _input_bytes(profile) + _output_bytes(plan, profile, config)
        for plan, profiles in manifest.profiles.items()
        for profile in profiles
    )
    if manifest.flavour != "tensorrt":
        return buffers
    # Its recipes have the plain operators: a pass gives out its rows, to be put into the cache
    # behind others, and every profile has room for its longest. Too much for a fused one.
    row_bytes = cache // manifest.cache_length
    rows = (profile["token_embeds"].max[1] for profile in manifest.profiles["decoder.plan"])
    return buffers + row_bytes * sum(rows)


def _input_bytes(profile: Mapping[str, ShapeRange]) -> int:
    return sum(
        math.prod(shapes.max) * _INPUT_BYTES.get(name, _FLOAT_BYTES)
        for name, shapes in profile.items()
        if not is_resident(name)
    )


def _output_bytes(plan: str, profile: Mapping[str, ShapeRange], config: ModelConfig) -> int:
    """Of what is returned; the graph contracts say which, in float32."""
    text, vision = config.text, config.vision
    if plan.startswith("vision"):
        pictures, patches, _ = profile["pixel_values"].max
        rows = pictures * patches // vision.spatial_merge_size**2
        kinds = 1 + len(vision.deepstack_visual_indexes)
        return kinds * rows * vision.out_hidden_size * _FLOAT_BYTES
    if plan.startswith("decoder"):
        sequences, rows = profile["token_embeds"].max[0], profile["output_rows"].max[0]
        return sequences * rows * text.hidden_size * _FLOAT_BYTES
    sequences, rows, _ = profile["hidden_states"].max
    return sequences * rows * text.vocab_size * _FLOAT_BYTES
