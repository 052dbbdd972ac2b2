# SPDX-License-Identifier: Apache-2.0
"""Graphs made for TensorRT, as a directory that ONNX Runtime loads: to be compared, not shipped.

Knows manifests and links, no graph. Graphs of the `fused` set are standard ONNX with the same
inputs and outputs and a cache written in place, so the very loader, decoder and command line of
the other flavour run them on the CPU.
"""

from __future__ import annotations

from pathlib import Path

from ..runtime.manifest import MANIFEST_FILE, Manifest, verify_engine_dir, write_manifest


def cpu_twin(graph_dir: Path, twin_dir: Path) -> Manifest:
    """Link every file of a `tensorrt-onnx` directory into a new one of flavour `onnxruntime`.

    Args:
        graph_dir: written by `export_for_tensorrt`, of the fused operator set.
        twin_dir: does not exist, and is on the same file system.
    """
    manifest = verify_engine_dir(graph_dir, flavour="tensorrt-onnx")
    twin_dir.mkdir()
    for name in manifest.files:
        (twin_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (twin_dir / name).hardlink_to(graph_dir / name)
    assert not (twin_dir / MANIFEST_FILE).exists()
    return write_manifest(
        twin_dir,
        flavour="onnxruntime",
        precision=manifest.precision,
        vision_precision=manifest.vision_precision,
        model_type=manifest.model_type,
        weights_sha256=manifest.weights_sha256,
        cache_length=manifest.cache_length,
        max_visual_tokens=manifest.max_visual_tokens,
        tools=manifest.tools,
    )
