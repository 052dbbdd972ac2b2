# SPDX-License-Identifier: Apache-2.0
"""Every topic of the synthetic camera, declared once: those of a robot, and the truth.

The camera makes its publishers from here, and the table in the README is made from here.
"""

from __future__ import annotations

from sensor_msgs.msg import CameraInfo, Image
from tf2_msgs.msg import TFMessage
from vision_msgs.msg import Detection2DArray, Detection3DArray

from .topics import Endpoint

# Image, depth and calibration as cameras send them: best effort, five held (sensor data).
IMAGE = Endpoint(
    name="image",
    type=Image,
    kind="publishes",
    meaning="The rendered picture, rgb8, with sensor noise.",
    reliable=False,
    depth=5,
)
DEPTH = Endpoint(
    name="depth",
    type=Image,
    kind="publishes",
    meaning="Its depth, without noise; encoding as the parameter `depth_encoding` says.",
    reliable=False,
    depth=5,
)
CAMERA_INFO = Endpoint(
    name="camera_info",
    type=CameraInfo,
    kind="publishes",
    meaning="The calibration of both; no distortion.",
    reliable=False,
    depth=5,
)
TRANSFORMS = Endpoint(
    name="/tf",
    type=TFMessage,
    kind="publishes",
    meaning="Where robot and camera were at the stamp.",
    depth=100,
)
GROUND_TRUTH = Endpoint(
    name="~/ground_truth",
    type=Detection3DArray,
    kind="publishes",
    meaning="True boxes of what is in sight, camera optical frame.",
)
GROUND_TRUTH_2D = Endpoint(
    name="~/ground_truth_2d",
    type=Detection2DArray,
    kind="publishes",
    meaning="True boxes around what shows of each, in the same order; the score is the share of "
    "its outline that shows.",
)
ENDPOINTS: tuple[Endpoint, ...] = (
    IMAGE,
    DEPTH,
    CAMERA_INFO,
    TRANSFORMS,
    GROUND_TRUTH,
    GROUND_TRUTH_2D,
)
