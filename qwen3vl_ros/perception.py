# SPDX-License-Identifier: Apache-2.0
"""The main path: a camera frame and a query in, located objects out. Start reading here.

Names every stage in order and does none of them itself. Knows no ROS and no torch.

3D boxes come from depth where there is depth inside a 2D box. Where there is none, the model is
asked once more, for its own 3D boxes of the same thing (`BoxSource.MODEL`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .image.preprocess import PreprocessConfig, load_preprocess_config, patches_from_image
from .language.chat_template import load_chat_style
from .language.tokenizer import load_tokenizer
from .model.answering import Answerer
from .model.decoder import Decoder
from .model.own_boxes import own_boxes
from .model.stopwatch import Stopwatch
from .model.vision import VisionEncoder
from .model_config import load_model_config
from .runtime.loading import load_engines
from .scene.camera import Frame
from .scene.detections import Grounding, Query
from .scene.lifting import lift

# Without a calibration no box is from depth.
UNCALIBRATED = "the camera is not calibrated: the model's 3D boxes guess its focal length"


class Perception:
    """An engine directory, loaded; one picture at a time, one thread."""

    def __init__(
        self, vision_encoder: VisionEncoder, answerer: Answerer, preprocess: PreprocessConfig
    ) -> None:
        self._vision_encoder = vision_encoder
        self._answerer = answerer
        self._preprocess = preprocess

    @classmethod
    def load(
        cls, engine_dir: Path, *, threads: int = 0, providers: Sequence[str] | None = None
    ) -> Perception:
        """Load an engine directory, or refuse it.

        Args:
            engine_dir: written by `qwen3vl export`.
            threads: CPU threads of the model; 0 takes every core.
            providers: ONNX Runtime's execution providers, in order; None takes what is installed.

        Raises:
            EngineError: missing, damaged, or not what its manifest says; names the field.
            ConfigError, CheckpointError: a config, the tokenizer or the chat template in it cannot
                be read.
            MissingDependency: the runtime it is for is not installed.
        """
        engines = load_engines(engine_dir, threads=threads, providers=providers)
        config = load_model_config(engine_dir)
        tokenizer = load_tokenizer(engine_dir)
        vision_encoder = VisionEncoder(
            engines.vision, config.vision, max_visual_tokens=engines.manifest.max_visual_tokens
        )
        decoder = Decoder(
            engines.decoder,
            engines.lm_head,
            engines.embed_tokens,
            config,
            cache_length=engines.manifest.cache_length,
            stop_token_ids=tokenizer.eos_token_ids,
        )
        return cls(
            vision_encoder,
            Answerer(decoder, tokenizer, config, style=load_chat_style(engine_dir)),
            load_preprocess_config(engine_dir),
        )

    def ground(
        self,
        frame: Frame,
        query: Query,
        *,
        model_boxes: bool = True,
        stopwatch: Stopwatch | None = None,
    ) -> Grounding:
        """Find what is asked for.

        Args:
            frame: 3D boxes need its depth and intrinsics, or `model_boxes`.
            query: what to look for.
            model_boxes: ask the model for its own 3D box of what has no depth; costs time.
            stopwatch: the caller's, told of every stage.

        Raises:
            AnswerError: the model's answer cannot be read; this is never "nothing there".
            ContextError: the query does not fit the engine's cache.
            FrameError, QueryError: the picture or the query cannot be used.
            EngineError: an engine failed.
        """
        watch = stopwatch if stopwatch is not None else Stopwatch()
        with watch.stage("preprocess"):
            patches = patches_from_image(frame.image, self._preprocess)
        with watch.stage("vision"):
            visual = self._vision_encoder.encode(patches)
            watch.saw(image_tokens=len(visual.image_embeds))
        height, width = frame.image.shape[:2]
        # prompt_from_query -> Decoder.generate -> parse_answer -> object_scores
        reply = self._answerer.ask(query, visual, width=width, height=height, watch=watch)
        detections_2d = reply.detections_2d()
        with watch.stage("lift"):
            lifted = lift(frame, detections_2d)
        remarks: tuple[str, ...] = ()
        if model_boxes and None in lifted.detections:
            own, remarks = own_boxes(
                self._answerer,
                query,
                visual,
                frame,
                detections=detections_2d,
                lifted=lifted.detections,
                watch=watch,
            )
            lifted = lifted.filled(own)
        detections_3d = (*lifted.found, *reply.detections_3d())
        if frame.intrinsics is None and detections_3d:
            remarks = (*remarks, UNCALIBRATED)
        return Grounding(
            stamp_ns=frame.stamp_ns,
            frame_id=frame.frame_id,
            query=query,
            detections_2d=detections_2d,
            points=reply.points(),
            detections_3d=detections_3d,
            complete=reply.answer.complete,
            answer_text=reply.answer.text,
            notes=(*reply.answer.notes, *lifted.notes, *remarks),
        )
