# SPDX-License-Identifier: Apache-2.0
"""The command that makes an engine anew, as every refusal prints it.

Knows how engines are made, not what is wrong with one. The only place that spells it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from .flavours import PLAN_RUNTIMES
from .manifest_fields import Manifest

# `qwen3vl export` names the directories below its --output so, and by their precision.
EXPORTED = "onnxruntime-"


def rebuild_advice(directory: Path, manifest: Manifest | None = None) -> str:
    """Words that end a message: how to make the engine of `directory` again.

    Args:
        directory: of the engine, wherever it is or should be.
        manifest: what is there now, where it can be read; decides the command.
    """
    if manifest is None:
        return f"build it again with: {export_command(directory)}{_where(directory, None)}"
    if manifest.flavour != "onnxruntime":
        # A plan is made on, or for, the machine that runs it; the recipe says for which.
        graphs_only = "" if manifest.flavour in PLAN_RUNTIMES else " --graphs-only"
        return (
            "build it again with: qwen3vl build --recipe <recipe> --checkpoint "
            f"<checkpoint> --output {shlex.quote(str(directory.parent))}{graphs_only}"
        )
    command = f"{export_command(directory)} --precision {manifest.precision}"
    return f"build it again with: {command}{_where(directory, manifest.precision)}"


def _where(directory: Path, precision: str | None) -> str:
    """Where that command writes, if not to this directory: engines are renamed, and mistyped."""
    name = directory.name
    is_its_own = name.startswith(EXPORTED) if precision is None else name == EXPORTED + precision
    if is_its_own:
        return ""
    written = directory.parent / f"{EXPORTED}{precision or '<precision>'}"
    return f" (which writes {written}; name that one, or rename it to {name})"


def export_command(directory: Path) -> str:
    """`qwen3vl export` for the place of an engine directory."""
    return (
        f"qwen3vl export --checkpoint <checkpoint> --output {shlex.quote(str(directory.parent))}"
    )
