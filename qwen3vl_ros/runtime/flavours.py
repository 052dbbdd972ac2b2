# SPDX-License-Identifier: Apache-2.0
"""What an engine can be for: the flavours, the files each opens, the fields each must fill.

Knows no directory and no machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import EngineError
from .manifest_fields import Manifest

_GRAPHS = ("vision.onnx", "decoder.onnx", "lm_head.onnx")
_PLANS = ("vision.plan", "decoder.plan", "lm_head.plan")
# What is opened, by flavour; tokenizer and configs are common to all. The graphs that plans are
# built from ("tensorrt-onnx") are a directory of the same kind, which no runtime here loads.
GRAPH_FILES: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": _GRAPHS,
    "tensorrt": _PLANS,
    "tensorrt-rtx": _PLANS,
    "tensorrt-onnx": _GRAPHS,
}
# The runtime that reads a flavour's plans, as it is named among a manifest's tools.
PLAN_RUNTIMES: Mapping[str, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt-rtx"}
LOADED_FLAVOURS = ("onnxruntime", "tensorrt", "tensorrt-rtx")


def check_flavour(manifest: Manifest) -> None:
    """Raise unless a plan says what it was compiled for, and nothing else claims to be compiled.

    Raises:
        EngineError: with the field.
    """
    flavour = manifest.flavour
    if flavour not in GRAPH_FILES:
        raise EngineError(
            f"the engine is of flavour '{flavour}', expected one of {', '.join(GRAPH_FILES)}",
            field="flavour",
        )
    runtime = PLAN_RUNTIMES.get(flavour)
    plans = set(GRAPH_FILES[flavour] if runtime else ())
    if manifest.profiles.keys() != plans:
        raise EngineError(
            f"manifest.json has profiles of {sorted(manifest.profiles)}, and a '{flavour}' engine "
            f"has those of {sorted(plans)}",
            field="profiles",
        )
    if (manifest.gpu_architecture is not None) != bool(runtime):
        raise EngineError(
            f"manifest.json has gpu_architecture {manifest.gpu_architecture!r}, expected "
            f"{'an architecture' if runtime else 'null'} for a '{flavour}' engine",
            field="gpu_architecture",
        )
    if manifest.driver is not None and not runtime:
        raise EngineError(
            f"manifest.json has driver '{manifest.driver}', expected null for a '{flavour}' "
            "engine, which no driver made",
            field="driver",
        )
    if runtime and runtime not in manifest.tools:
        raise EngineError(
            f"manifest.json does not say which {runtime} built its plans, and a plan runs on that "
            "version only",
            field="tools",
        )
