# SPDX-License-Identifier: Apache-2.0
"""Which of ONNX Runtime's execution providers shall run a graph: asked for, or what is installed.

Knows names, no session: `onnxruntime_engine.py` starts them, and holds what it got against what
was chosen, since ONNX Runtime says nothing when a provider does not start.

Run on the CPU so far. What is known of the others for graphs of the `onnxruntime` flavour, none of
it run on hardware here:

- `cuda` has MatMulNBits, and GroupQueryAttention in half precision only: export `float16` or
  `int4-a16` for it. In other precisions attention would go to the CPU in every layer.
- `tensorrt` and `nv-tensorrt-rtx` know neither of the two: they cut the graph around them, and the
  pieces between run on the next provider in the list. Whoever wants TensorRT exports the other
  flavour (`qwen3vl build`). So they are used when they are asked for, never by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from ..errors import EngineError

CPU = "CPUExecutionProvider"
# The words of options and parameters, and ONNX Runtime's own names, which may be given as well.
PROVIDERS: Mapping[str, str] = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "nv-tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
}
# Where nothing is asked for: the first of these that is installed.
AUTOMATIC = ("cuda", "cpu")
INSTALLED_BY: Mapping[str, str] = {
    PROVIDERS["cuda"]: "onnxruntime-gpu in place of onnxruntime (pip install -e '.[gpu]')",
    PROVIDERS["tensorrt"]: "onnxruntime-gpu in place of onnxruntime, and TensorRT",
    PROVIDERS["nv-tensorrt-rtx"]: "onnxruntime-ep-nv-tensorrt-rtx beside onnxruntime",
}
# A provider that is a wheel of its own, and registered with ONNX Runtime before it is used.
PLUGINS: Mapping[str, str] = {PROVIDERS["nv-tensorrt-rtx"]: "onnxruntime_ep_nv_tensorrt_rtx"}
# Where resident tensors live for a provider; for any other in the host's memory (a plugin brings
# its own allocator, which an ONNX Runtime for the CPU does not know).
DEVICES: Mapping[str, str] = {PROVIDERS[name]: "cuda" for name in ("cuda", "tensorrt")}


def chosen_providers(asked: Sequence[str] | None, installed: Collection[str]) -> tuple[str, ...]:
    """ONNX Runtime's names of the providers to start, in order.

    >>> chosen_providers(None, ["AzureExecutionProvider", "CPUExecutionProvider"])
    ('CPUExecutionProvider',)
    >>> chosen_providers(["cuda", "cpu"], ["CUDAExecutionProvider", "CPUExecutionProvider"])
    ('CUDAExecutionProvider', 'CPUExecutionProvider')

    Args:
        asked: words of `PROVIDERS` or ONNX Runtime's names; None takes the first of `AUTOMATIC`.
        installed: ONNX Runtime's names of those that it has.

    Raises:
        EngineError: one that is asked for is not installed, or none is.
    """
    if asked is None:
        usable = [PROVIDERS[word] for word in AUTOMATIC if PROVIDERS[word] in installed]
        return tuple(usable[:1])
    names = tuple(dict.fromkeys(PROVIDERS.get(word.lower(), word) for word in asked))
    missing = [name for name in names if name not in installed]
    if missing or not names:
        words = {name: word for word, name in PROVIDERS.items()}
        have = [words.get(name, name) for name in installed]
        advice = "".join(
            f"; for {words[name]} install {INSTALLED_BY[name]}"
            for name in missing
            if name in INSTALLED_BY
        )
        raise EngineError(
            f"execution providers {missing or 'of an empty list'} are not in this ONNX Runtime, "
            f"expected some of {', '.join(have)}{advice}"
        )
    return names
