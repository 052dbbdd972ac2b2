# SPDX-License-Identifier: Apache-2.0
"""What `qwen3vl doctor` looks at, in order, and what it finds: one `Finding` for each step.

Knows the steps and no terminal. A step that fails ends the examination: what comes after it would
be of an engine that is not there.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import Qwen3VLError
from ..model.golden_check import check_golden
from ..model.local_model import LocalModel
from ..model.taught_tasks import load_taught_tasks
from ..model_config import load_model_config
from ..runtime.engine_memory import check_memory, memory_needed
from ..runtime.flavours import PLAN_RUNTIMES
from ..runtime.free_memory import free_memory_bytes
from ..runtime.loading import lies_on_host
from ..runtime.machine import driver_version
from ..runtime.manifest import Manifest, verify_engine_dir
from ..runtime.plan_memory import plan_memory_needed

CPU_FILE = Path("/proc/cpuinfo")
# What decides how an engine runs; names as packages have them.
PACKAGES = ("qwen3vl_ros", "numpy", "opencv-python", "tokenizers", "open3d", "tensorrt")
RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu")


class Level(Enum):
    """How bad a finding is, from good to bad."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What one step found.

    Attributes:
        step: its name.
        level: how bad it is.
        text: in words, for a person.
        facts: the same for a machine; plain values.
    """

    step: str
    level: Level
    text: str
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Examination:
    """All that was found about one engine."""

    engine_dir: Path
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Level:
        """The worst of the findings."""
        return max((one.level for one in self.findings), key=list(Level).index)

    def as_json(self) -> dict[str, object]:
        """Plain values, in the order of the steps."""
        return {
            "engine_dir": str(self.engine_dir),
            "verdict": self.verdict.value,
            "findings": [
                {
                    "step": one.step,
                    "level": one.level.value,
                    "text": one.text,
                    "facts": dict(one.facts),
                }
                for one in self.findings
            ],
        }


def examine(
    engine_dir: Path, load: Callable[[], LocalModel], *, providers: Sequence[str] | None
) -> Examination:
    """Look at an engine and at the machine that shall run it.

    Args:
        engine_dir: of the engine.
        load: loads it, as it shall be run.
        providers: that `load` asks for, as `load_engines` takes them.
    """
    findings = [_versions(), _machine()]
    step = "files"
    try:
        started = time.monotonic()
        manifest = verify_engine_dir(engine_dir)
        findings += [_manifest(manifest), _files(manifest, time.monotonic() - started)]
        step = "taught"
        findings.append(_taught(engine_dir))
        step = "runtime"
        on_host = lies_on_host(manifest, providers)
        step = "memory"
        findings.append(_memory(manifest, engine_dir, on_host=on_host))
        step = "runtime"
        started = time.monotonic()
        model = load()
        findings.append(_runtime(model, time.monotonic() - started))
        step = "golden"
        findings.append(_golden(model, engine_dir))
    except Qwen3VLError as error:
        findings.append(Finding(step=step, level=Level.FAIL, text=str(error)))
    return Examination(engine_dir=engine_dir, findings=tuple(findings))


def _versions() -> Finding:
    found = {"python": platform.python_version()}
    found |= {name: v for name in (*PACKAGES, *RUNTIME_PACKAGES) if (v := _version(name))}
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    if not any(name in found for name in RUNTIME_PACKAGES):
        text += "; no ONNX Runtime, which engines of its flavour need"
        return Finding(step="versions", level=Level.WARN, text=text, facts=found)
    # Heavy, and not on a machine that runs plans only.
    from ..runtime.onnxruntime_engine import installed_providers

    providers = installed_providers()
    return Finding(
        step="versions",
        level=Level.OK,
        text=f"{text}, with {', '.join(providers)}",
        facts={**found, "providers": providers},
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _machine() -> Finding:
    cores, driver, free = len(os.sched_getaffinity(0)), driver_version(), free_memory_bytes()
    facts = {
        "architecture": platform.machine(),
        "cpu": _cpu(),
        "cores": cores,
        "free_memory_bytes": free,
        "nvidia_driver": driver,
    }
    text = f"{cores} cores of {_cpu()} ({platform.machine()})"
    text += ", no NVIDIA driver" if driver is None else f", NVIDIA driver {driver}"
    return Finding(step="machine", level=Level.OK, text=text, facts=facts)


def _cpu() -> str:
    try:
        lines = CPU_FILE.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "an unnamed processor"


def _manifest(manifest: Manifest) -> Finding:
    fields = dataclasses.asdict(manifest)
    del fields["files"], fields["profiles"]
    text = (
        f"{manifest.model_id or 'a model without a name'} ({manifest.model_type}), "
        f"{manifest.flavour}, {manifest.precision}, tower {manifest.vision_precision}, cache of "
        f"{manifest.cache_length} tokens, pictures of up to {manifest.max_visual_tokens}, made by "
        + ", ".join(f"{name} {number}" for name, number in manifest.tools.items())
    )
    return Finding(step="manifest", level=Level.OK, text=text, facts=fields)


def _files(manifest: Manifest, seconds: float) -> Finding:
    size = sum(entry.size_bytes for entry in manifest.files.values())
    return Finding(
        step="files",
        level=Level.OK,
        text=f"{len(manifest.files)} files, {size / 1e6:.1f} MB, sizes and sha256 as the manifest "
        f"says ({seconds:.2f} s)",
        facts={"files": len(manifest.files), "bytes": size, "seconds": seconds},
    )


def _taught(engine_dir: Path) -> Finding:
    taught = load_taught_tasks(engine_dir)
    if taught is None:
        text = "not said; released checkpoints know every task"
        return Finding(step="taught", level=Level.OK, text=text, facts={"tasks": None})
    tasks = [task.value for task in taught.tasks]
    facts = {"tasks": tasks, "labels_note": taught.labels_note}
    return Finding(step="taught", level=Level.OK, text=str(taught), facts=facts)


def _memory(manifest: Manifest, engine_dir: Path, *, on_host: bool) -> Finding:
    if manifest.flavour in PLAN_RUNTIMES:
        return _memory_of_plans(manifest, engine_dir)
    if not on_host:
        return Finding(step="memory", level=Level.OK, text="not estimated for what runs on a GPU")
    need, free = memory_needed(manifest, load_model_config(engine_dir)), free_memory_bytes()
    check_memory(need.total, str(need), of="the engine", advice="export it with fewer bits")
    return Finding(
        step="memory",
        level=Level.OK,
        text=f"needs {need} in the host's memory, {_amount(free)} free",
        facts={**dataclasses.asdict(need), "total": need.total, "free": free},
    )


def _memory_of_plans(manifest: Manifest, engine_dir: Path) -> Finding:
    need, free = plan_memory_needed(manifest, load_model_config(engine_dir)), _free_on_gpu()
    # Nobody is refused by an estimate that no GPU has seen.
    is_short = free is not None and need.total > free
    return Finding(
        step="memory",
        level=Level.WARN if is_short else Level.OK,
        text=f"needs {need} on the GPU, {_amount(free)} free",
        facts={**dataclasses.asdict(need), "total": need.total, "free": free},
    )


def _free_on_gpu() -> int | None:
    """None where no device can be asked."""
    try:
        from ..runtime.device_memory import free_device_bytes

        return free_device_bytes()
    except Qwen3VLError:  # no cuda-python, or no GPU
        return None


def _amount(free: int | None) -> str:
    return "an unknown amount is" if free is None else f"{free / 1e9:.2f} GB are"


def _runtime(model: LocalModel, seconds: float) -> Finding:
    running = model.running
    assert running is not None, "it was loaded from a directory"
    missing = f"; {' and '.join(running.missing)} did not start" if running.missing else ""
    return Finding(
        step="runtime",
        level=Level.WARN if missing else Level.OK,
        text=f"{running}{missing} (loaded in {seconds:.2f} s)",
        facts={**dataclasses.asdict(running), "seconds": seconds},
    )


def _golden(model: LocalModel, engine_dir: Path) -> Finding:
    numbers = check_golden(model, engine_dir)
    if numbers is None:
        return Finding(
            step="golden",
            level=Level.WARN,
            text="the engine came without golden outputs, so nobody knows whether it is right; "
            "export it again",
        )
    return Finding(
        step="golden",
        level=Level.OK,
        text=f"{numbers} ({numbers.seconds:.2f} s)",
        facts=dataclasses.asdict(numbers),
    )
