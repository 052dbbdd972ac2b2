# SPDX-License-Identifier: Apache-2.0
"""The command that makes an engine anew, as every refusal prints it.

Knows how engines are made, not what is wrong with one. The only place that spells it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from .flavours import PLAN_RUNTIMES
from .manifest_fields import Manifest


def rebuild_advice(directory: Path, manifest: Manifest | None = None) -> str:
    """Words that end a message: how to make the engine of `directory` again.

    Args:
        directory: of the engine, wherever it is or should be.
        manifest: what is there now, where it can be read; decides the command.
    """
    if manifest is None:
        return f"build it again with: {export_command(directory)}"
    if manifest.flavour != "onnxruntime":
        # A plan is made on, or for, the machine that runs it; the recipe says for which.
        graphs_only = "" if manifest.flavour in PLAN_RUNTIMES else " --graphs-only"
        return (
            "build it again with: qwen3vl build --recipe <recipe> --checkpoint "
            f"<checkpoint> --output {shlex.quote(str(directory.parent))}{graphs_only}"
        )
    return f"build it again with: {export_command(directory)} --precision {manifest.precision}"


def export_command(directory: Path) -> str:
    """`qwen3vl export` for the place of an engine directory."""
    return (
        f"qwen3vl export --checkpoint <checkpoint> --output {shlex.quote(str(directory.parent))}"
    )
