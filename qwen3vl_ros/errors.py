# SPDX-License-Identifier: Apache-2.0
"""Every error this project raises on purpose.

    Qwen3VLError
    ├── ConfigError         a config file is not of the family or shape we know
    ├── CheckpointError     weights or tokenizer missing, misshapen, or not safetensors
    ├── EngineError         an engine directory is missing, or its manifest does not match
    ├── FrameError          a camera frame (image, depth, calibration) cannot be used
    ├── DatasetError        a data set's annotations or pictures are not what they should be
    ├── QueryError          a question that cannot be asked
    ├── AnswerError         the model answered, and the answer cannot be read
    ├── ContextError        prompt and answer do not fit the cache
    ├── RemoteError         a model server cannot be reached, refuses, or answers nonsense
    ├── TransformError      no transform between two frames at a stamp; below it, by tf2's names
    │   ├── LookupException            a frame was never heard of (ros/transform_buffer.py)
    │   ├── ConnectivityException      nothing connects two frames (ros/transform_buffer.py)
    │   ├── InvalidArgumentException   a name or transform means nothing (ros/transform_buffer.py)
    │   └── ExtrapolationException     the stamp is not held (ros/transform_history.py)
    └── MissingDependency   an optional library is needed and not installed

A message says what was wrong, what was expected and got, and what to do. Two exceptions never
leave their room: NoDepth (scene/depth_patch.py) becomes a note, DemoFailed
(ros/demo_questions.py) the demo's last words. Anything else is a bug, and may end the process.
"""

from __future__ import annotations


class Qwen3VLError(Exception):
    """Root of the tree; the shell catches this one, per frame."""


class ConfigError(Qwen3VLError):
    """A configuration file does not describe a model we can run."""


class CheckpointError(Qwen3VLError):
    """A checkpoint directory cannot be loaded."""


class EngineError(Qwen3VLError):
    """An engine directory cannot be used.

    Attributes:
        field: manifest field that differs, or "" when the fault is not one field's.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class FrameError(Qwen3VLError):
    """A camera frame cannot be used."""


class DatasetError(Qwen3VLError):
    """A data set to evaluate on cannot be used."""


class QueryError(Qwen3VLError):
    """A query cannot be asked."""


class AnswerError(Qwen3VLError):
    """The model's answer cannot be read; this never means "nothing is there".

    Attributes:
        answer_text: what the model said, whole.
    """

    def __init__(self, message: str, *, answer_text: str) -> None:
        super().__init__(message)
        self.answer_text = answer_text


class ContextError(Qwen3VLError):
    """Prompt and answer do not fit the key-value cache."""


class RemoteError(Qwen3VLError):
    """A model server failed to answer.

    Attributes:
        status: HTTP status, or None when there was no answer at all.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TransformError(Qwen3VLError):
    """No transform between two frames at a stamp."""


class MissingDependency(Qwen3VLError):
    """An optional library is needed for what was asked.

    Attributes:
        package: the name to install.
    """

    def __init__(self, package: str, *, needed_for: str, install: str) -> None:
        super().__init__(f"{needed_for} needs '{package}', which is not installed; run: {install}")
        self.package = package
