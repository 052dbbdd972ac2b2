# SPDX-License-Identifier: Apache-2.0
"""The one door to TensorRT and TensorRT-RTX, which are two modules of one shape.

Knows how they are installed and where what they say of faults goes; knows no plan.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections import deque
from types import ModuleType
from typing import Any

from ..errors import MissingDependency

_LOG = logging.getLogger(__name__)

# By flavour: what is imported, what is installed for it.
_MODULES = {
    "tensorrt": ("tensorrt", "pip install -e '.[tensorrt]' (on a Jetson it comes with JetPack)"),
    "tensorrt-rtx": ("tensorrt_rtx_bindings", "pip install -e '.[rtx]'"),
}
_FAULTS_KEPT = 4


def tensorrt_library(flavour: str) -> ModuleType:
    """The module that builds and runs plans of a flavour.

    Raises:
        MissingDependency: it is not installed.
    """
    name, install = _MODULES[flavour]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingDependency(flavour, needed_for="TensorRT plans", install=install) from error


@functools.cache  # TensorRT keeps the first logger that it is given
def logger_of(trt: ModuleType) -> Any:
    """A logger of this module that passes everything on to Python's and remembers faults."""

    listener: Any = trt.ILogger

    class Listener(listener):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.faults = deque[str](maxlen=_FAULTS_KEPT)

        def log(self, severity: Any, message: str) -> None:
            if severity in (listener.INTERNAL_ERROR, listener.ERROR):
                self.faults.append(message)
            _LOG.debug("%s: %s", severity, message)

    return Listener()


def faults_of(trt: ModuleType) -> str:
    """What it said of faults since it was last asked, for the end of a message."""
    faults = logger_of(trt).faults
    said = " | ".join(faults) or "it did not say why"
    faults.clear()
    return said
