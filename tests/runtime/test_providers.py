# SPDX-License-Identifier: Apache-2.0
"""Which providers are started: those asked for, or the first that may be taken unasked."""

from __future__ import annotations

import pytest

from qwen3vl_ros.errors import EngineError
from qwen3vl_ros.runtime.providers import chosen_providers

EVERY_ONE = [
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "AzureExecutionProvider",
    "CPUExecutionProvider",
]


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        pytest.param(None, ("CUDAExecutionProvider",), id="nothing: CUDA before the CPU"),
        pytest.param(["cpu"], ("CPUExecutionProvider",), id="one"),
        pytest.param(["CUDA"], ("CUDAExecutionProvider",), id="in capitals"),
        pytest.param(
            ["tensorrt", "cuda"],
            ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
            id="two, in their order",
        ),
        pytest.param(
            ["AzureExecutionProvider", "cpu"],
            ("AzureExecutionProvider", "CPUExecutionProvider"),
            id="by ONNX Runtime's own name",
        ),
        pytest.param(
            ["nv-tensorrt-rtx"], ("NvTensorRTRTXExecutionProvider",), id="only where asked for"
        ),
        pytest.param(["cpu", "CPUExecutionProvider"], ("CPUExecutionProvider",), id="named twice"),
    ],
)
def test_what_is_asked_for_is_chosen_in_its_order(asked, chosen):
    assert chosen_providers(asked, EVERY_ONE) == chosen


def test_without_a_gpu_the_cpu_is_taken_unasked():
    assert chosen_providers(None, ["AzureExecutionProvider", "CPUExecutionProvider"]) == (
        "CPUExecutionProvider",
    )


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        pytest.param(["cuda"], r"CUDAExecutionProvider.*pip install -e '\.\[gpu\]'", id="cuda"),
        pytest.param(
            ["nv-tensorrt-rtx"], "install onnxruntime-ep-nv-tensorrt-rtx", id="nv-tensorrt-rtx"
        ),
        pytest.param(["gpu", "cpu"], r"\['gpu'\] are not in this.*expected some of", id="a guess"),
        pytest.param([], "of an empty list", id="none"),
    ],
)
def test_what_is_not_installed_is_refused_with_what_installs_it(asked, message):
    with pytest.raises(EngineError, match=message):
        chosen_providers(asked, ["CPUExecutionProvider"])
