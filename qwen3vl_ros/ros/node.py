# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: camera topics and questions in, detections and answers out.

Callbacks only move data: the newest image waits in `CameraPairing`, one worker thread (`Worker`)
asks the model and publishes. *Configure* loads the engine and warms it up, or names the server,
*activate* opens the gate, *deactivate* closes it, *cleanup* frees the engine. Endpoints and
publishers are made once, because making them in loops leaks in rclpy; an inactive node receives
and does nothing.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Any

from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from ..errors import EngineError, Qwen3VLError
from . import topics
from .ask_action import ask_goal
from .asked_model import EngineLoader, asked_model, load_perception
from .camera_pairing import CameraPairing
from .diagnostics import WARN, Diagnostics
from .fault_log import FaultLog
from .gate import Gate
from .goals import Goals
from .ground_action import ground_goal
from .looking import Looker
from .node_process import run_node
from .parameters import NodeParameters
from .publishing import ResultPublisher
from .recent_pictures import RecentPictures
from .standing_question import Standing, StandingQuestion
from .subscriptions import CameraSubscriptions
from .transforms import transform_source
from .worker import Worker

# On SIGINT and SIGTERM the picture in hand is given up after this long.
STOP_S = 2.0
# Cleanup frees the engine, so it waits longer for the worker that uses it.
CLEANUP_S = 10.0


class GroundingNode(LifecycleNode):
    """Asks a model about what a camera sees: one question again and again, others once."""

    def __init__(
        self,
        *,
        load: EngineLoader = load_perception,
        parameter_overrides: Sequence[Parameter[Any]] = (),
        node_name: str = "qwen3vl",
    ) -> None:
        super().__init__(node_name, parameter_overrides=list(parameter_overrides))
        self._load = load
        self._crash: BaseException | None = None
        self._worker: Worker | None = None
        self._gate = Gate()
        self._wake = threading.Event()
        self._diagnostics = Diagnostics(node_name=self.get_name())
        self._question = StandingQuestion(
            self, gate=self._gate, diagnostics=self._diagnostics, changed=self._on_change
        )
        parameters = self._question.standing.parameters
        self._pairing = CameraPairing(
            slop_s=parameters.depth_slop_s, wait_s=parameters.pairing_wait_s
        )
        self._transforms = transform_source(self)
        self._publisher = ResultPublisher(self)
        self._faults = FaultLog(self._diagnostics, self.get_logger())
        self._recent = RecentPictures(
            keep_s=parameters.video_buffer_s,
            fps=parameters.video_buffer_fps,
            max_bytes=parameters.video_buffer_mb * 10**6,
            faults=self._faults,
        )
        self._diagnostics_publisher = self.create_publisher(
            topics.DIAGNOSTICS.type, topics.DIAGNOSTICS.name, topics.DIAGNOSTICS.qos
        )
        self._goals = self._goals_of_actions()
        self._subscriptions_of_camera = CameraSubscriptions(
            self,
            parameters=parameters,
            gate=self._gate,
            pairing=self._pairing,
            recent=self._recent,
            diagnostics=self._diagnostics,
        )
        # A ROS timer would stand still under use_sim_time without /clock.
        self._timer = self.create_timer(
            1.0, self._publish_diagnostics, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._jump = self.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(seconds=-1)),
            post_callback=self._on_time_jump,
        )

    def _goals_of_actions(self) -> Goals:
        goals = Goals(self, is_active=lambda: self._gate.is_open, wake=self._wake.set)

        def in_force() -> NodeParameters:
            return self._question.standing.parameters

        goals.serve(
            topics.GROUND,
            lambda handle, id_: ground_goal(handle, query_id=id_, parameters=in_force()),
        )
        goals.serve(
            topics.ASK, lambda handle, id_: ask_goal(handle, query_id=id_, parameters=in_force())
        )
        return goals

    @property
    def crash(self) -> BaseException | None:
        """A bug that ended configuring or the worker; the process shall end with it."""
        return self._crash or (self._worker.crash if self._worker else None)

    @property
    def is_active(self) -> bool:
        """True while pictures are looked at."""
        return self._gate.is_open

    def start(self) -> None:
        """Configures and activates, if the parameter `autostart` says so."""
        if not self._question.standing.parameters.autostart:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def stop(self, *, timeout_s: float) -> bool:
        """Closes the gate and stops the worker; False when it is still busy after `timeout_s`."""
        self._gate.close()
        self._goals.abort_all("the node stops")
        if self._worker is not None and not self._worker.stop(timeout_s=timeout_s):
            return False
        self._crash = self.crash
        self._worker = None
        self._forget_pictures()
        return True

    # Lifecycle ---------------------------------------------------------------------------------

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Loads the engine and asks it once, so that the first picture is as fast as the rest."""
        try:
            self._configure()
        except Qwen3VLError as exc:
            self._diagnostics.fault("engine", str(exc))
            if isinstance(exc, EngineError) and exc.field:
                self._diagnostics.facts("engine", manifest_field_that_differs=exc.field)
            self.get_logger().error(f"cannot configure: {exc}")
            return TransitionCallbackReturn.FAILURE
        except Exception as exc:  # noqa: BLE001  rclpy would swallow it; main ends the process
            self._crash = exc
            return TransitionCallbackReturn.ERROR
        return super().on_configure(state)

    def _configure(self) -> None:
        parameters = self._question.standing.parameters
        # What was said of an engine before is not said of this one.
        self._diagnostics.facts("engine", golden_check="not reached", golden_check_ms="n/a")
        asked = asked_model(parameters, load=self._load)
        looker = Looker(
            perceiver=asked.perceiver,
            transforms=self._transforms,
            recent=self._recent,
            faults=self._faults,
        )
        self._worker = Worker(
            looker=looker,
            pairing=self._pairing,
            publisher=self._publisher,
            goals=self._goals,
            diagnostics=self._diagnostics,
            standing=lambda: self._question.standing,
            now_ns=lambda: self.get_clock().now().nanoseconds,
            gate=self._gate,
            wake=self._wake,
        )
        self._diagnostics.recovered("engine")
        self._diagnostics.facts("engine", **asked.facts)
        self.get_logger().info(
            f"asks '{parameters.server_model}' on the server {parameters.server_url}"
            if parameters.server_url
            else f"engine loaded from {asked.facts['engine_dir']}: {asked.facts.get('runs_on')}; "
            f"held against the reference: {asked.facts.get('golden_check')}"
        )
        if asked.warning:
            self._diagnostics.fault("engine", asked.warning, level=WARN)
            self.get_logger().warning(asked.warning)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Opens the gate, unless nobody is behind it any more (see `Worker.is_stopping`)."""
        if self._worker is None or self._worker.is_stopping:
            self.get_logger().error(
                "cannot activate: the last cleanup gave up on an engine that was busy, whose "
                "worker ends with the picture in hand; clean up again, then configure"
            )
            return TransitionCallbackReturn.FAILURE
        self._forget_pictures()
        self._gate.open()
        self._wake.set()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Closes the gate; an answer in the making is thrown away."""
        self._gate.close()
        self._goals.abort_all("the node was deactivated")
        self._forget_pictures()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops the worker and lets go of the engine."""
        if not self._stop_or_say_so():
            return TransitionCallbackReturn.FAILURE
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stops for good."""
        if not self._stop_or_say_so():
            return TransitionCallbackReturn.FAILURE
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured, with nothing loaded; finalized while the engine is still busy.

        Configured again, a node whose worker is busy would have two.
        """
        if not self._stop_or_say_so():
            return TransitionCallbackReturn.FAILURE
        return TransitionCallbackReturn.SUCCESS

    def _stop_or_say_so(self) -> bool:
        is_stopped = self.stop(timeout_s=CLEANUP_S)
        if not is_stopped:
            self.get_logger().error(f"the engine is still busy after {CLEANUP_S:g} s")
        return is_stopped

    # Changes and health ------------------------------------------------------------------------

    def _on_change(self, standing: Standing) -> None:
        parameters = standing.parameters
        self._pairing.configure(slop_s=parameters.depth_slop_s, wait_s=parameters.pairing_wait_s)
        self._wake.set()

    def _forget_pictures(self) -> None:
        self._pairing.reset()
        self._recent.reset()

    def _on_time_jump(self, jump: TimeJump) -> None:
        self.get_logger().warning("time went back: images and transforms held are dropped")
        self._forget_pictures()
        self._transforms.reset()

    def _publish_diagnostics(self) -> None:
        self._subscriptions_of_camera.note_publishers()
        counts = self._pairing.counts
        self._diagnostics.facts(
            "inference",
            images=counts.images,
            taken=counts.taken,
            dropped=counts.overtaken,
            duplicate=counts.duplicate,
            out_of_order=counts.out_of_order,
            without_depth=counts.without_depth,
            time_jumps=counts.time_jumps,
        )
        self._diagnostics.facts("transform", refused=self._transforms.refused)
        self._diagnostics.facts("engine", state="active" if self.is_active else "not active")
        message = topics.DIAGNOSTICS.type(status=self._diagnostics.statuses())
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics_publisher.publish(message)


def run(args: list[str] | None = None, *, load: EngineLoader = load_perception) -> int:
    """Runs the node until it is told to stop; 0 when told, 1 when it cannot go on."""
    return run_node(
        lambda: GroundingNode(load=load),
        name="qwen3vl",
        args=args,
        stop_s=STOP_S,
        start=GroundingNode.start,
    )


def main(args: list[str] | None = None) -> None:
    """What `ros2 run qwen3vl_ros qwen3vl_node` runs."""
    sys.exit(run(args))


if __name__ == "__main__":
    main()
