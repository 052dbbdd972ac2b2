# SPDX-License-Identifier: Apache-2.0
"""From camera_info to a pinhole camera; the lenses' oracle is OpenCV's forward projection."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from qwen3vl_ros.errors import FrameError
from qwen3vl_ros.ros.calibration import calibration_from_info

K = np.array([[300.0, 0.0, 319.5], [0.0, 300.0, 239.5], [0.0, 0.0, 1.0]])
LENSES = {
    "plumb_bob": (-0.25, 0.08, 0.001, -0.002, 0.01),
    "rational_polynomial": (0.3, 0.05, 0.001, -0.001, 0.01, 0.6, 0.1, 0.02),
    "equidistant": (0.02, -0.01, 0.003, -0.001),
}


def info(**changes: Any) -> CameraInfo:
    message = CameraInfo(
        width=640, height=480, distortion_model="plumb_bob", d=[0.0] * 5, k=K.ravel().tolist()
    )
    message.p = [280.0, 0.0, 310.0, 0.0, 0.0, 280.0, 230.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def region(x: int, y: int, width: int, height: int) -> RegionOfInterest:
    return RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height)


@pytest.mark.parametrize(
    ("message", "size", "expected"),
    [
        # fx, fy, cx, cy by hand; pixel centres are integers, so the middle of 640 pixels is 319.5
        pytest.param(info(), (640, 480), (300, 300, 319.5, 239.5), id="as calibrated"),
        pytest.param(info(), (320, 240), (150, 150, 159.5, 119.5), id="half the size"),
        pytest.param(info(), (1280, 960), (600, 600, 639.5, 479.5), id="twice the size"),
        pytest.param(
            info(binning_x=2, binning_y=2), (320, 240), (150, 150, 159.5, 119.5), id="binned"
        ),
        pytest.param(
            info(binning_x=1, binning_y=1), (640, 480), (300, 300, 319.5, 239.5), id="binning 1"
        ),
        pytest.param(
            info(roi=region(100, 50, 400, 300)), (400, 300), (300, 300, 219.5, 189.5), id="region"
        ),
        pytest.param(
            info(roi=region(100, 50, 400, 300), binning_x=2, binning_y=2),
            (200, 150),
            (150, 150, 109.5, 94.5),
            id="region, then binned",
        ),
        pytest.param(
            info(binning_x=2, binning_y=1), (320, 480), (150, 300, 159.5, 239.5), id="binned in x"
        ),
    ],
)
def test_intrinsics_are_those_of_the_image_as_it_comes(message, size, expected):
    width, height = size
    calibration = calibration_from_info(
        message, width=width, height=height, image_is_rectified=False
    )
    got = calibration.intrinsics
    fx, fy, cx, cy = expected
    np.testing.assert_allclose(got.K, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    assert (got.width, got.height) == size
    assert calibration.rectification is None


def test_a_rectified_image_has_the_intrinsics_of_P_and_no_distortion():
    message = info(d=list(LENSES["plumb_bob"]))
    calibration = calibration_from_info(message, width=640, height=480, image_is_rectified=True)
    np.testing.assert_allclose(calibration.intrinsics.K, [[280, 0, 310], [0, 280, 230], [0, 0, 1]])
    assert calibration.rectification is None


@pytest.mark.parametrize(
    ("message", "size", "words"),
    [
        pytest.param(info(k=[0.0] * 9), (640, 480), "not calibrated", id="K of zeros"),
        pytest.param(info(k=[np.nan] * 9), (640, 480), "not calibrated", id="K of NaN"),
        pytest.param(
            info(k=[300.0, 0.0, 320.0, 0.0, np.inf, 240.0, 0.0, 0.0, 1.0]),
            (640, 480),
            "focal lengths",
            id="infinite fy",
        ),
        pytest.param(info(width=0, height=0), (640, 480), "0 x 0", id="no size"),
        pytest.param(info(), (640, 400), "not the same view", id="another aspect"),
        pytest.param(
            info(roi=region(0, 0, 400, 100)), (640, 480), "not the same view", id="region ignored"
        ),
        pytest.param(
            info(d=[0.1] * 5, distortion_model="foo"), (640, 480), "model 'foo'", id="unknown lens"
        ),
        pytest.param(info(d=[0.1] * 3), (640, 480), "D of 3 numbers", id="wrong length of D"),
        pytest.param(info(d=[np.nan] * 5), (640, 480), "finite", id="D of NaN"),
    ],
)
def test_a_calibration_that_cannot_be_trusted_is_refused(message, size, words):
    width, height = size
    with pytest.raises(FrameError, match=words):
        calibration_from_info(message, width=width, height=height, image_is_rectified=False)


def test_no_distortion_needs_no_known_model():
    message = info(d=[], distortion_model="")
    calibration = calibration_from_info(message, width=640, height=480, image_is_rectified=False)
    assert calibration.rectification is None


def seen_through(model: str, point: np.ndarray) -> np.ndarray:
    """(2,) raw pixel of a camera point (3,), by OpenCV."""
    zero, D = np.zeros(3), np.array(LENSES[model])
    if model == "equidistant":
        uv, _ = cv2.fisheye.projectPoints(point.reshape(1, 1, 3), zero, zero, K, D)
    else:
        uv, _ = cv2.projectPoints(point.reshape(1, 1, 3), zero, zero, K, D)
    return np.asarray(uv).reshape(2)


@pytest.mark.parametrize("model", LENSES)
def test_a_point_seen_through_a_lens_is_lifted_to_where_it_is(model):
    """Within 1 mm at 2 m: the pixel of the rectified picture that shows it, with its depth."""
    point = np.array([0.9, -0.5, 2.0])
    message = info(d=list(LENSES[model]), distortion_model=model)
    calibration = calibration_from_info(message, width=640, height=480, image_is_rectified=False)
    lens = calibration.rectification
    rectified_uv = calibration.intrinsics.project(point[None])
    np.testing.assert_allclose(
        lens.raw_uv_px(rectified_uv)[0], seen_through(model, point), atol=1e-6
    )
    u, v = np.round(rectified_uv[0]).astype(int)
    # The maps say the same as the points do.
    lifted = calibration.intrinsics.deproject(
        np.array([float(u)]), np.array([float(v)]), np.array([2.0])
    )[0]
    np.testing.assert_allclose(
        [lens.map_u[v, u], lens.map_v[v, u]], seen_through(model, lifted), atol=0.02
    )
    assert np.linalg.norm(seen_through(model, point) - rectified_uv[0]) > 3, "the lens bends"


@pytest.mark.parametrize("model", LENSES)
def test_picture_and_depth_are_rectified_alike(model):
    """A disc painted where the lens shows it appears where a pinhole camera would show it."""
    point = np.array([-0.6, 0.35, 2.0])
    message = info(d=list(LENSES[model]), distortion_model=model)
    calibration = calibration_from_info(message, width=640, height=480, image_is_rectified=False)
    lens = calibration.rectification
    raw = np.zeros((480, 640, 3), np.uint8)
    cv2.circle(raw, np.round(seen_through(model, point)).astype(int).tolist(), 6, (255,) * 3, -1)
    depth = np.where(raw[..., 0] > 0, 2.0, 3.0).astype(np.float32)
    picture, depth = lens.rectified_image(raw), lens.rectified_depth(depth)
    expected = calibration.intrinsics.project(point[None])[0]
    for mask in (picture[..., 0] > 127, depth == 2.0):
        v, u = np.nonzero(mask)
        np.testing.assert_allclose([u.mean(), v.mean()], expected, atol=0.7)
    assert set(np.unique(depth[np.isfinite(depth)])) == {2.0, 3.0}, "depths never mix"


def test_depth_is_unknown_where_the_lens_did_not_look():
    message = info(d=[0.4, 0.0, 0.0, 0.0, 0.0])  # pincushion: the corners lie outside
    lens = calibration_from_info(
        message, width=640, height=480, image_is_rectified=False
    ).rectification
    depth = lens.rectified_depth(np.ones((480, 640), np.float32))
    assert np.isnan(depth[0, 0])
    assert depth[240, 320] == 1.0


def test_a_box_found_in_the_rectified_picture_is_led_back_around_its_object():
    message = info(d=list(LENSES["plumb_bob"]))
    lens = calibration_from_info(
        message, width=640, height=480, image_is_rectified=False
    ).rectification
    raw = lens.raw_xyxy_px(np.array([500.0, 350.0, 600.0, 450.0]))
    # Every corner of the box lies inside, and the box touches the bent border somewhere.
    corners = np.array([[499.5, 349.5], [599.5, 349.5], [499.5, 449.5], [599.5, 449.5]])
    uv = lens.raw_uv_px(corners) + 0.5
    assert (uv >= raw[:2] - 1e-6).all()
    assert (uv <= raw[2:] + 1e-6).all()
    assert raw[2] < 600, "barrel distortion draws the corner inwards"
    middle = lens.raw_xyxy_px(np.array([300.0, 220.0, 340.0, 260.0]))
    np.testing.assert_allclose(middle, [300, 220, 340, 260], atol=0.3)
