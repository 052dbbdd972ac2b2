# SPDX-License-Identifier: Apache-2.0
"""Which machine runs which engine, decided from values: no GPU is needed to be refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnxruntime
import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.machine import (
    Machine,
    check_machine,
    driver_version,
    onnxruntime_notes,
    onnxruntime_version,
)
from qwen3vl_ros.runtime.manifest_fields import Manifest

DIRECTORY = Path("/opt/engines/orin")
PLANS = Manifest(
    format_version=2,
    flavour="tensorrt",
    precision="int4",
    vision_precision="float16",
    model_id="",
    model_type="qwen3_vl",
    config_sha256="c" * 64,
    weights_sha256="0" * 64,
    cache_length=1024,
    max_visual_tokens=75,
    profiles={"vision.plan": (), "decoder.plan": (), "lm_head.plan": ()},
    tools={"torch": "2.13.0", "tensorrt": "10.3.0.30", "onnxruntime": "1.32.0"},
    gpu_architecture="sm_87",
    driver="540.4.0",
    files={},
)
ORIN = Machine(tensorrt_version="10.3.0.30", gpu_architecture="sm_87", driver="540.4.0")


@pytest.mark.parametrize(
    ("machine", "plans"),
    [
        pytest.param(ORIN, PLANS, id="the-same"),
        pytest.param(dataclasses.replace(ORIN, driver="540.10.0"), PLANS, id="newer-driver"),
        pytest.param(
            dataclasses.replace(ORIN, driver="540.4"), PLANS, id="the-same-written-short"
        ),
        pytest.param(dataclasses.replace(ORIN, driver=None), PLANS, id="driver-says-nothing"),
        pytest.param(
            dataclasses.replace(ORIN, driver="1.0"),
            dataclasses.replace(PLANS, driver=None),
            id="built-without-a-driver",
        ),
        pytest.param(
            dataclasses.replace(ORIN, tensorrt_version="1.7.1.116"),
            dataclasses.replace(
                PLANS, flavour="tensorrt-rtx", tools={"tensorrt-rtx": "1.7.1.116"}
            ),
            id="rtx-has-versions-of-its-own",
        ),
    ],
)
def test_a_machine_like_the_one_plans_were_built_for_runs_them(machine, plans):
    check_machine(plans, machine, DIRECTORY)


@pytest.mark.parametrize(
    ("machine", "field", "message"),
    [
        pytest.param(
            dataclasses.replace(ORIN, tensorrt_version="10.3.0.26"),
            "tools.tensorrt",
            "built for tensorrt 10.3.0.30, this machine has 10.3.0.26",
            id="tensorrt",
        ),
        pytest.param(
            dataclasses.replace(ORIN, gpu_architecture="sm_110"),
            "gpu_architecture",
            "built for GPU architecture sm_87, this machine has sm_110",
            id="gpu",
        ),
        pytest.param(
            dataclasses.replace(ORIN, driver="540.3.9"),
            "driver",
            "built with NVIDIA driver 540.4.0, this machine has the older 540.3.9; update the",
            id="driver",
        ),
    ],
)
def test_another_machine_is_refused_with_what_differs_and_the_command(machine, field, message):
    with pytest.raises(EngineError, match=message) as refusal:
        check_machine(PLANS, machine, DIRECTORY)
    assert refusal.value.field == field
    assert str(refusal.value).endswith(
        "qwen3vl build --recipe <recipe> --checkpoint <checkpoint> --output /opt/engines"
    )


@pytest.mark.parametrize(
    ("running", "noted"),
    [
        pytest.param("1.32.0", False, id="the-same"),
        pytest.param("1.40.1", False, id="newer"),
        pytest.param("1.24.0", False, id="older-that-loads-it"),
        pytest.param("2.0.0", True, id="another-major"),
    ],
)
def test_another_major_version_of_onnx_runtime_is_noted(running, noted):
    notes = onnxruntime_notes(PLANS, running)
    assert notes == (
        (
            f"exported beside ONNX Runtime 1.32.0, runs on another major version, {running}; if "
            "answers look wrong, export again",
        )
        if noted
        else ()
    )


def test_an_engine_that_does_not_say_its_onnx_runtime_gets_no_note():
    assert onnxruntime_notes(dataclasses.replace(PLANS, tools={}), "2.0.0") == ()


def test_the_onnx_runtime_of_this_python_says_its_version():
    assert onnxruntime_version() == onnxruntime.__version__


# First lines of /proc/driver/nvidia/version, as drivers of several kinds write it.
DRIVER_LINES = [
    pytest.param(
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 2024\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n",
        "535.183.01",
        id="desktop",
    ),
    pytest.param(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n",
        "570.86.10",
        id="open-modules",
    ),
    pytest.param(
        "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build\n",
        "540.4.0",
        id="jetson",
    ),
    pytest.param("GCC version:  gcc version 12.3.0 (Ubuntu)\n", None, id="not-said"),
    pytest.param("", None, id="empty"),
]


@pytest.mark.parametrize(("text", "version"), DRIVER_LINES)
def test_the_driver_says_its_version_in_a_file(tmp_path, text, version):
    file = tmp_path / "version"
    file.write_text(text)
    assert driver_version(file) == version


def test_a_machine_without_a_driver_has_no_version_of_one(tmp_path):
    assert driver_version(tmp_path / "version") is None
