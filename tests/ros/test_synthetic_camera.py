# SPDX-License-Identifier: Apache-2.0
"""The synthetic camera: one moment, one world, in every topic it speaks on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray

from qwen3vl_ros.errors import ConfigError
from qwen3vl_ros.ros.calibration import calibration_from_info
from qwen3vl_ros.ros.images import depth_from_image, rgb_from_image
from qwen3vl_ros.ros.synthetic_camera import SyntheticCamera
from qwen3vl_ros.ros.synthetic_moment import depth_samples
from qwen3vl_ros.ros.transforms import transform_source
from qwen3vl_ros.scene.geometry import (
    inverse,
    points_in_frame,
    transform_from_quaternion,
)

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
OPTICAL = "camera_color_optical_frame"
SMALL = {"width": 160, "height": 120, "rate_hz": 30.0, "poses": 4, "solids": 4}
TOPICS = {
    "image": (Image, "image", qos_profile_sensor_data),
    "depth": (Image, "depth", qos_profile_sensor_data),
    "camera_info": (CameraInfo, "camera_info", qos_profile_sensor_data),
    "truth_3d": (Detection3DArray, "/synthetic_camera/ground_truth", 10),
    "truth_2d": (Detection2DArray, "/synthetic_camera/ground_truth_2d", 10),
}


class Audience:
    """Hears everything a synthetic camera says, sorted by stamp."""

    def __init__(self) -> None:
        rclpy.init()
        self.executor = SingleThreadedExecutor()
        self.node = Node("audience")
        self.executor.add_node(self.node)
        self.transforms = transform_source(self.node)
        self.cameras: list[SyntheticCamera] = []
        self.moments: dict[int, dict[str, Any]] = defaultdict(dict)
        for key, (kind, name, qos) in TOPICS.items():
            self.node.create_subscription(kind, name, self._inbox(key), qos)

    def _inbox(self, key: str) -> Callable[[Any], None]:
        def put(message: Any) -> None:
            stamp = message.header.stamp
            self.moments[stamp.sec * 1_000_000_000 + stamp.nanosec][key] = message

        return put

    def watch(self, *, moments: int, **parameters: Any) -> list[tuple[int, dict[str, Any]]]:
        """The first moments of a camera of which everything was heard, oldest first."""
        overrides = [Parameter(k, value=v) for k, v in {**SMALL, **parameters}.items()]
        camera = SyntheticCamera(parameter_overrides=overrides)
        self.cameras.append(camera)
        self.executor.add_node(camera)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            whole = [item for item in sorted(self.moments.items()) if len(item[1]) == len(TOPICS)]
            if len(whole) >= moments:
                return whole[:moments]
            assert camera.crash is None, camera.crash
            assert time.monotonic() < deadline, f"heard {[len(m) for m in self.moments.values()]}"
            self.executor.spin_once(timeout_sec=0.05)

    def T(self, target: str, source: str, stamp_ns: int) -> np.ndarray:
        return self.transforms.lookup(target=target, source=source, stamp_ns=stamp_ns)

    def close(self) -> None:
        for camera in self.cameras:
            assert camera.stop(timeout_s=PATIENCE_S)
        self.executor.shutdown()
        for node in [*self.cameras, self.node]:
            node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def audience() -> Iterator[Audience]:
    audience = Audience()
    yield audience
    audience.close()


def boxes(message: Detection3DArray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """`T_camera_box` and size by name."""
    found = {}
    for detection in message.detections:
        p, q = detection.bbox.center.position, detection.bbox.center.orientation
        T = transform_from_quaternion(np.array([q.x, q.y, q.z, q.w]), np.array([p.x, p.y, p.z]))
        s = detection.bbox.size
        found[detection.results[0].hypothesis.class_id] = (T, np.array([s.x, s.y, s.z]))
    return found


def rectangles(message: Detection2DArray) -> dict[str, np.ndarray]:
    """xyxy_px by name."""
    return {
        d.results[0].hypothesis.class_id: np.array(
            [
                d.bbox.center.position.x - d.bbox.size_x / 2,
                d.bbox.center.position.y - d.bbox.size_y / 2,
                d.bbox.center.position.x + d.bbox.size_x / 2,
                d.bbox.center.position.y + d.bbox.size_y / 2,
            ]
        )
        for d in message.detections
    }


def test_all_topics_of_a_moment_share_its_stamp_and_the_optical_frame(audience):
    ((stamp_ns, heard),) = audience.watch(moments=1)
    assert {message.header.frame_id for message in heard.values()} == {OPTICAL}
    detections = [*heard["truth_3d"].detections, *heard["truth_2d"].detections]
    assert {d.header.stamp.nanosec for d in detections} == {stamp_ns % 1_000_000_000}
    assert [d.id for d in heard["truth_3d"].detections] == [
        d.id for d in heard["truth_2d"].detections
    ]
    assert (heard["image"].width, heard["image"].height, heard["image"].encoding) == (
        160,
        120,
        "rgb8",
    )
    assert (heard["depth"].encoding, list(heard["camera_info"].d)) == ("32FC1", [0.0] * 5)


def test_what_depth_shows_inside_a_2d_truth_lies_inside_its_3d_truth(audience):
    """Image, depth, calibration and truth are of one world: checked through our own readers."""
    ((_, heard),) = audience.watch(moments=1)
    image, depth_m = rgb_from_image(heard["image"]), depth_from_image(heard["depth"])
    intrinsics = calibration_from_info(
        heard["camera_info"], width=160, height=120, image_is_rectified=False
    ).intrinsics
    assert image.shape == (120, 160, 3)
    solid_boxes = boxes(heard["truth_3d"])
    v, u = np.nonzero(np.isfinite(depth_m))
    points = intrinsics.deproject(u.astype(float), v.astype(float), depth_m[v, u].astype(float))
    assert len(solid_boxes) >= 3
    for name, xyxy_px in rectangles(heard["truth_2d"]).items():
        T_camera_box, size_m = solid_boxes[name]
        inside = np.all(
            np.abs(points_in_frame(inverse(T_camera_box), points)) < size_m / 2 + 2e-3, axis=1
        )
        # The floor right beneath a solid touches its box too, by less than this.
        above = points_in_frame(inverse(T_camera_box), points)[:, 1] < size_m[1] / 2 - 4e-3
        columns, rows = u[inside & above], v[inside & above]
        shown = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(shown, xyxy_px, atol=1.01)


def test_the_robot_moves_and_the_scene_stays_where_it_is(audience):
    """Truth, carried by TF at the stamp of each picture, is one place in the map."""
    heard = audience.watch(moments=4)
    where: dict[str, list[np.ndarray]] = defaultdict(list)
    for stamp_ns, messages in heard:
        T_map_camera = audience.T("map", OPTICAL, stamp_ns)
        for name, (T_camera_box, _) in boxes(messages["truth_3d"]).items():
            where[name].append((T_map_camera @ T_camera_box)[:3, 3])
    for places in where.values():
        np.testing.assert_allclose(places, np.broadcast_to(places[0], (len(places), 3)), atol=1e-6)
    base = [audience.T("map", "base_link", stamp_ns)[:3, 3] for stamp_ns, _ in heard]
    assert np.linalg.norm(base[-1] - base[0]) > 0.3
    neck = [audience.T("base_link", OPTICAL, stamp_ns) for stamp_ns, _ in heard]
    assert np.abs(neck[-1] - neck[0]).max() > 0.1


def test_solids_stand_upright_on_the_floor_of_the_robot(audience):
    ((stamp_ns, heard),) = audience.watch(moments=1)
    T_base_camera = audience.T("base_link", OPTICAL, stamp_ns)
    assert T_base_camera[2, 3] > 0.5  # a mast
    patrol = audience.cameras[0].patrol
    for T_camera_box, size_m in boxes(heard["truth_3d"]).values():
        T_base_box = T_base_camera @ T_camera_box
        np.testing.assert_allclose(T_base_box[:3, 1], [0, 0, -1], atol=1e-6)
        assert T_base_box[2, 3] == pytest.approx(size_m[1] / 2, abs=1e-6)
        assert T_base_box[0, 3] > 0.3  # in front of it
    true = {solid.name: solid for solid in patrol.scene.solids}
    for name, (T_camera_box, size_m) in boxes(heard["truth_3d"]).items():
        np.testing.assert_allclose(sorted(size_m), sorted(true[name].size_m))
        T_map_box = audience.T("map", OPTICAL, stamp_ns) @ T_camera_box
        np.testing.assert_allclose(T_map_box[:3, 3], true[name].T_world_solid[:3, 3], atol=1e-6)


def test_a_seed_gives_the_same_bytes_again_and_another_seed_another_scene(audience):
    first = audience.watch(moments=1, motion="static", seed=5)[0][1]
    pictures = [bytes(first["image"].data), bytes(first["depth"].data)]
    for seed, is_same in ((5, True), (6, False)):
        audience.cameras[-1].stop(timeout_s=PATIENCE_S)
        audience.executor.remove_node(audience.cameras[-1])
        audience.moments.clear()
        again = audience.watch(moments=1, motion="static", seed=seed)[0][1]
        same = [bytes(again["image"].data), bytes(again["depth"].data)] == pictures
        assert same is is_same


def test_a_static_robot_shows_one_picture_from_one_place(audience):
    (a_ns, a), (b_ns, b) = audience.watch(moments=2, motion="static")
    np.testing.assert_array_equal(
        audience.T("map", OPTICAL, a_ns), audience.T("map", OPTICAL, b_ns)
    )
    assert a["image"].data == b["image"].data
    assert b_ns > a_ns


def test_millimetres_say_what_metres_say(audience):
    ((_, heard),) = audience.watch(moments=1, depth_encoding="16UC1", motion="static")
    assert heard["depth"].encoding == "16UC1"
    depth_m = depth_from_image(heard["depth"])
    ((_, T),) = [(n, T) for n, (T, _) in list(boxes(heard["truth_3d"]).items())[:1]]
    assert np.nanmin(depth_m) < T[2, 3] < np.nanmax(depth_m)


def test_depth_that_sixteen_bits_cannot_hold_is_unknown():
    depth_m = np.array([[0.0004, 1.2344, np.nan, 65.535, 65.536]], np.float32)
    np.testing.assert_array_equal(depth_samples(depth_m, "16UC1"), [[0, 1234, 0, 65535, 0]])
    np.testing.assert_array_equal(depth_samples(depth_m, "32FC1"), depth_m)


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        pytest.param("motion", "dancing", "expected one of moving, static", id="unknown motion"),
        pytest.param("depth_encoding", "64FC1", "expected one of 32FC1, 16UC1", id="encoding"),
        pytest.param("rate_hz", 0.0, "rate_hz cannot be set as given", id="rate out of range"),
        pytest.param("seed", "five", "seed cannot be set as given", id="wrong type"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_name(parameter, value, said):
    rclpy.init()
    try:
        with pytest.raises(ConfigError, match=said):
            SyntheticCamera(parameter_overrides=[Parameter(parameter, value=value)])
    finally:
        rclpy.try_shutdown()


@pytest.mark.parametrize(
    ("signal_number", "until"),
    [
        pytest.param(signal.SIGINT, "rendering 500 views", id="SIGINT while rendering"),
        pytest.param(signal.SIGTERM, "publishing at 30 Hz", id="SIGTERM while publishing"),
    ],
)
def test_a_signal_ends_the_process_cleanly(signal_number, until):
    poses = 500 if "500" in until else 2
    settings = {**SMALL, "poses": poses}
    command = [sys.executable, "-m", "qwen3vl_ros.ros.synthetic_camera", "--ros-args"]
    for name, value in settings.items():
        command += ["-p", f"{name}:={value}"]
    environment = {**os.environ, "RCUTILS_LOGGING_BUFFERED_STREAM": "0"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    log = ""
    for line in process.stderr:
        log += line
        if until in line:
            break
    process.send_signal(signal_number)
    log += process.communicate(timeout=PATIENCE_S)[1]
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert "terminate" not in log
