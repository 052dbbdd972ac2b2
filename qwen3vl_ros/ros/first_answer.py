# SPDX-License-Identifier: Apache-2.0
"""The node's first answer, told once in the log: so that whoever starts it sees that it works."""

from __future__ import annotations

from rclpy.impl.rcutils_logger import RcutilsLogger

from ..scene.detections import Task
from .fault_log import MAX_LOG_CHARACTERS
from .messages import printable
from .results import Result


class FirstAnswer:
    """Says what the first answer to a standing question was. Owned by `ResultPublisher`."""

    def __init__(self, logger: RcutilsLogger, *, topics: tuple[str, ...]) -> None:
        """Of the node, and where its answers are published."""
        self._logger = logger
        self._topics = topics
        self._is_told = False

    def tell(self, result: Result, *, seconds: float) -> None:
        """Logs the first that comes; `seconds` is what it took."""
        if self._is_told:
            return
        self._is_told = True
        query = result.grounding.query
        asked = ", ".join(query.categories) if query.task is Task.DETECT else query.text
        in_3d = (
            "none placed in 3D"
            if result.detections_3d is None
            else f"{len(result.detections_3d)} in 3D in '{result.frame_id}'"
        )
        self._logger.info(
            f"first answer, to {query.task.value} "
            f"'{printable(asked, max_characters=MAX_LOG_CHARACTERS)}': "
            f"{len(result.detections_2d)} found in the picture, {in_3d}, after {seconds:.2f} s; "
            f"see {', '.join(self._topics)}"
        )
