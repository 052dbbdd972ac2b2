# SPDX-License-Identifier: Apache-2.0
"""3D detections as markers for RViz and Foxglove.

Knows no topics. Each message begins with DELETEALL, so that no box of an earlier picture stays;
in the same message as the new ones, because apart they flicker. The header is the detections', so
that a moving robot sees its boxes where they were.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from ..image.drawing import caption, label_colour
from ..language.labels import clean_label
from ..scene.detections import Detection3D
from .messages import pose_of_box

BOX_ALPHA = 0.4
TEXT_HEIGHT_M = 0.06
# RViz refuses a scale of zero.
SMALLEST_M = 1e-3

UP_IN_OPTICAL_FRAME = np.array([0.0, -1.0, 0.0])
UP_IN_ROBOT_FRAME = np.array([0.0, 0.0, 1.0])


def marker_array(
    detections: Iterable[Detection3D],
    *,
    header: Header,
    namespace: str,
    lifetime_s: float,
    up: npt.NDArray[np.float64],
) -> MarkerArray:
    """A translucent cube and a line of text ("label 0.87") for each detection.

    Args:
        detections: in the frame that `header` names.
        header: of the detections.
        namespace: prefix of the markers' namespaces `<namespace>/boxes` and `…/labels`.
        lifetime_s: seconds until they fade; 0 is for ever.
        up: (3,) unit vector, where the text stands from its box; REP 103 optical frames are
            upside down.
    """
    seconds, nanoseconds = divmod(round(lifetime_s * 1e9), 1_000_000_000)
    lifetime = Duration(sec=seconds, nanosec=nanoseconds)
    markers = [Marker(header=header, ns=f"{namespace}/boxes", action=Marker.DELETEALL)]
    for index, detection in enumerate(detections):
        red, green, blue = (channel / 255 for channel in label_colour(detection.label))
        length, width, height = (max(float(side), SMALLEST_M) for side in detection.box.size_m)
        box = Marker(
            header=header,
            ns=f"{namespace}/boxes",
            id=index,
            type=Marker.CUBE,
            action=Marker.ADD,
            pose=pose_of_box(detection.box),
            scale=Vector3(x=length, y=width, z=height),
            color=ColorRGBA(r=red, g=green, b=blue, a=BOX_ALPHA),
            lifetime=lifetime,
        )
        text = Marker(
            header=header,
            ns=f"{namespace}/labels",
            id=index,
            type=Marker.TEXT_VIEW_FACING,
            action=Marker.ADD,
            pose=_pose_above(detection, up),
            scale=Vector3(z=TEXT_HEIGHT_M),
            color=ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0),
            lifetime=lifetime,
            text=caption(clean_label(detection.label), detection.score),
        )
        markers += [box, text]
    return MarkerArray(markers=markers)


def _pose_above(detection: Detection3D, up: npt.NDArray[np.float64]) -> Pose:
    heights = detection.box.corners() @ up
    center = detection.box.center_m
    x, y, z = map(float, center + up * (heights.max() - center @ up + TEXT_HEIGHT_M))
    return Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=1.0))
