# SPDX-License-Identifier: Apache-2.0
"""What of a machine decides whether it can run an engine.

Knows fields of a manifest and values of a machine, no GPU: the values are read from a real one in
`tensorrt_engine.py`. TensorRT would refuse most of this itself, but only after it has begun to
read the plan, and without saying how to build another.

The rules: a plan runs on exactly the TensorRT version and the GPU architecture it was built for. A
driver may be newer than the one a plan was built with (drivers stay compatible), not older. An
ONNX graph runs on any ONNX Runtime that loads it; another major version is noted, because it may
compute an operator in another way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError
from .flavours import PLAN_RUNTIMES
from .manifest_fields import Manifest
from .rebuild import rebuild_advice

ONNX_RUNTIME = "onnxruntime"
DRIVER_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The machine that shall run a plan.

    Attributes:
        tensorrt_version: of the runtime of the plan's flavour.
        gpu_architecture: of the GPU that is used, for example "sm_87".
        driver: version of NVIDIA's driver; None where it cannot be read.
    """

    tensorrt_version: str
    gpu_architecture: str
    driver: str | None


def check_machine(manifest: Manifest, machine: Machine, directory: Path) -> None:
    """Raise unless this machine can run the plans of an engine, of which nothing was read yet.

    Args:
        manifest: of a plan flavour.
        machine: where it shall run.
        directory: the engine's, for the message.

    Raises:
        EngineError: with the field that differs and the command that builds for this machine.
    """
    runtime = PLAN_RUNTIMES[manifest.flavour]
    built_with = manifest.tools[runtime]
    for field, what, built, here in (
        (f"tools.{runtime}", runtime, built_with, machine.tensorrt_version),
        (
            "gpu_architecture",
            "GPU architecture",
            manifest.gpu_architecture,
            machine.gpu_architecture,
        ),
    ):
        if built != here:
            raise EngineError(
                f"the plans were built for {what} {built}, this machine has {here}, and a plan "
                f"runs on no other; {rebuild_advice(directory, manifest)}",
                field=field,
            )
    if manifest.driver is None or machine.driver is None:
        return
    if _numbers(machine.driver) < _numbers(manifest.driver):
        raise EngineError(
            f"the plans were built with NVIDIA driver {manifest.driver}, this machine has the "
            f"older {machine.driver}; update the driver, or {rebuild_advice(directory, manifest)}",
            field="driver",
        )


def onnxruntime_notes(manifest: Manifest, running: str) -> tuple[str, ...]:
    """What to say about an ONNX engine and the ONNX Runtime that runs it.

    Args:
        manifest: of an ONNX engine.
        running: version of the runtime, for example "1.31.0".
    """
    recorded = manifest.tools.get(ONNX_RUNTIME)
    if recorded is None:
        return ()
    if _numbers(recorded)[:1] == _numbers(running)[:1]:
        return ()
    return (
        f"exported beside ONNX Runtime {recorded}, runs on another major version, {running}; if "
        "answers look wrong, export again",
    )


def onnxruntime_version() -> str | None:
    """Of the ONNX Runtime of this Python; None where there is none."""
    try:
        # Asked of the library: its package has another name for every kind of GPU.
        import onnxruntime
    except ModuleNotFoundError:
        return None
    return str(onnxruntime.__version__)


def driver_version(file: Path = DRIVER_FILE) -> str | None:
    """Of NVIDIA's kernel driver, as it says itself; None where there is none."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return found.group(1) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    """Its leading numbers, to compare by: (1, 31) of "1.31.0+cpu", as of "1.31"."""
    leading = re.match(r"\d+(\.\d+)*?(?=(\.0+)*(?![.\d]))", version)
    return tuple(map(int, leading.group().split("."))) if leading else ()
