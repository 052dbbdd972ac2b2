# SPDX-License-Identifier: Apache-2.0
"""A robot's RGB-D camera that is not there: real topics of a rendered scene, with the truth.

Knows the synthetic room and messages, no model. Image, depth, calibration, transforms and truth
of one moment carry one stamp and describe one world, so that anything computed from the first
four can be held against the fifth.

The robot swings to and fro in front of the scene (`synthetic/patrol.py`). Rendering a picture
takes longer than the time between two, so every pose is rendered once at the start, in a thread
of its own, and the loop is then played for ever: a pose that comes again shows the same bytes,
sensor noise included. Depth has no noise. Memory: about 2.2 MB a pose at 640x480.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter

from ..synthetic.patrol import Patrol, random_patrol
from ..synthetic.rendering import render
from . import synthetic_topics as topics
from .node_process import run_node
from .synthetic_moment import Frames, SyntheticMoment, moment_of_render
from .synthetic_parameters import SyntheticParameters, declare_parameters
from .topics import Endpoint

if TYPE_CHECKING:
    from rclpy.publisher import Publisher

STOP_S = 5.0
PROGRESS_S = 5.0
NODE_NAME = "synthetic_camera"


class SyntheticCamera(Node):
    """Publishes what a camera on a moving robot sees of a rendered scene."""

    def __init__(self, *, parameter_overrides: Sequence[Parameter[Any]] = ()) -> None:
        """Begins to render.

        Raises:
            ConfigError: a parameter breaks its limits.
        """
        super().__init__(NODE_NAME, parameter_overrides=list(parameter_overrides))
        self.parameters = declare_parameters(self)
        self.patrol = patrol_of(self.parameters)
        # Written by the rendering thread until `_is_rendered` is set, read by the timer after.
        self._moments: list[SyntheticMoment] = []
        self._is_rendered = threading.Event()
        self._stopping = threading.Event()
        self._steps = 0
        self.crash: BaseException | None = None

        self._image = self._publisher(topics.IMAGE)
        self._depth = self._publisher(topics.DEPTH)
        self._camera_info = self._publisher(topics.CAMERA_INFO)
        self._transforms = self._publisher(topics.TRANSFORMS)
        self._truth_3d = self._publisher(topics.GROUND_TRUTH)
        self._truth_2d = self._publisher(topics.GROUND_TRUTH_2D)
        # Steady, so that a clock that somebody else publishes does not stop the camera.
        self._timer = self.create_timer(
            1.0 / self.parameters.rate_hz,
            self._publish_next,
            clock=Clock(clock_type=ClockType.STEADY_TIME),
        )
        self._thread = threading.Thread(target=self._render, name="rendering", daemon=True)
        self._thread.start()

    def _publisher(self, endpoint: Endpoint) -> Publisher[Any]:
        return self.create_publisher(endpoint.type, endpoint.name, endpoint.qos)

    def stop(self, *, timeout_s: float) -> bool:
        """Stops rendering after the picture in hand; False when that takes longer."""
        self._stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _render(self) -> None:
        try:
            self._render_moments()
        except Exception as exc:  # noqa: BLE001  kept for `run`, which ends with it
            self.crash = exc

    def _render_moments(self) -> None:
        parameters, count = self.parameters, len(self.patrol)
        frames = Frames(
            map=parameters.map_frame, base=parameters.base_frame, camera=parameters.camera_frame
        )
        names = ", ".join(solid.name for solid in self.patrol.scene.solids)
        self.get_logger().info(f"scene {parameters.seed}: {names}; rendering {count} views")
        said = time.monotonic()
        for index in range(count):
            if self._stopping.is_set():
                return
            rendered = render(self.patrol.scene, self.patrol.view(index), noise_seed=index)
            self._moments.append(
                moment_of_render(
                    self.patrol, index, rendered, frames, encoding=parameters.depth_encoding
                )
            )
            if time.monotonic() - said > PROGRESS_S:
                said = time.monotonic()
                self.get_logger().info(f"rendered {index + 1} of {count} views")
        self._is_rendered.set()
        self.get_logger().info(f"publishing at {parameters.rate_hz:g} Hz")

    def _publish_next(self) -> None:
        if not self._is_rendered.is_set():
            return
        moment = self._moments[self.patrol.pose_at(self._steps)]
        self._steps += 1
        moment.set_stamp(self.get_clock().now().to_msg())
        # Transforms first: who hears the image can then place it at once.
        self._transforms.publish(moment.transforms)
        self._camera_info.publish(moment.camera_info)
        self._depth.publish(moment.depth)
        self._image.publish(moment.image)
        self._truth_3d.publish(moment.truth_3d)
        self._truth_2d.publish(moment.truth_2d)


def patrol_of(parameters: SyntheticParameters) -> Patrol:
    """The patrol that parameters describe."""
    return random_patrol(
        parameters.seed,
        poses=parameters.poses if parameters.motion == "moving" else 1,
        width=parameters.width,
        height=parameters.height,
        solids=parameters.solids or None,
    )


def run(args: list[str] | None = None) -> int:
    """Runs the camera until it is told to stop; 0 when told, 1 when it cannot go on."""
    return run_node(SyntheticCamera, name=NODE_NAME, args=args, stop_s=STOP_S)


def main(args: list[str] | None = None) -> None:
    """What `ros2 run qwen3vl_ros synthetic_camera` runs."""
    sys.exit(run(args))


if __name__ == "__main__":
    main()
