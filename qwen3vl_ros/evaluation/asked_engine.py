# SPDX-License-Identifier: Apache-2.0
"""Which engine was asked, in words that stand beside every number about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ..runtime.manifest import MANIFEST_FILE, read_manifest


def engine_identity(directory: Path) -> Mapping[str, str]:
    """An engine's manifest in short; its sha256 stands for everything in the directory.

    Raises:
        EngineError: it cannot be read.
    """
    manifest = read_manifest(directory)
    digest = hashlib.sha256((directory / MANIFEST_FILE).read_bytes()).hexdigest()
    return {
        "kind": "engine",
        "model_id": manifest.model_id,
        "model_type": manifest.model_type,
        "flavour": manifest.flavour,
        "precision": manifest.precision,
        "weights_sha256": manifest.weights_sha256,
        "manifest_sha256": digest,
    }
