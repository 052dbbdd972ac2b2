# SPDX-License-Identifier: Apache-2.0
"""An engine directory that was changed, under a manifest that says nothing of it."""

from __future__ import annotations

from pathlib import Path

from qwen3vl_ros.runtime.manifest import MANIFEST_FILE, read_manifest, write_manifest


def with_hashes_made_to_fit(directory: Path) -> None:
    """A manifest that fits the files as they are now, whatever was done to them."""
    manifest = read_manifest(directory)
    (directory / MANIFEST_FILE).unlink()
    write_manifest(
        directory,
        flavour=manifest.flavour,
        precision=manifest.precision,
        vision_precision=manifest.vision_precision,
        model_type=manifest.model_type,
        weights_sha256=manifest.weights_sha256,
        cache_length=manifest.cache_length,
        max_visual_tokens=manifest.max_visual_tokens,
        tools=manifest.tools,
    )
