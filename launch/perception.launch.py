# SPDX-License-Identifier: Apache-2.0
"""The grounding node on a camera that runs already.

    ros2 launch qwen3vl_ros perception.launch.py image:=/camera/color/image_raw \
        depth:=/camera/aligned_depth_to_color/image_raw camera_info:=/camera/color/camera_info

Defaults of parameters are the node's own; a params file holds only what differs.
"""

import os

from launch.actions import DeclareLaunchArgument
from launch.launch_description import LaunchDescription
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PARAMS = PathJoinSubstitution([FindPackageShare("qwen3vl_ros"), "launch", "params", ""])
# Fast DDS 2 knows the variable by its old name, and 3 warns of that one.
FAST_DDS = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "jazzy") else "FASTDDS"
PROFILES = f"{FAST_DDS}_DEFAULT_PROFILES_FILE"
PROFILE = EnvironmentVariable(PROFILES, default_value=[PARAMS, "fastdds_large_images.xml"])
ARGUMENTS = (
    ("image", "image", "Topic of the colour image (sensor_msgs/Image)."),
    ("depth", "depth", "Topic of depth registered to it; none need be published."),
    ("camera_info", "camera_info", "Topic of its calibration."),
    ("target_frame", "", "Frame of the 3D results; empty: the camera's. The params file wins."),
    ("engine_dir", "", "Directory of the engine; empty: the tiny one. The params file wins."),
    ("params_file", [PARAMS, "perception.yaml"], "Parameters, where they differ from defaults."),
    ("namespace", "", "Namespace of the node and its relative topics."),
    ("respawn", "false", "Start the node again when it ends."),
)
STRINGS = ("target_frame", "engine_dir")


def generate_launch_description() -> LaunchDescription:
    """The arguments, and the node."""
    node = LifecycleNode(
        package="qwen3vl_ros",
        executable="qwen3vl_node",
        name="qwen3vl",
        namespace=LaunchConfiguration("namespace"),
        parameters=[
            {n: ParameterValue(LaunchConfiguration(n), value_type=str) for n in STRINGS},
            LaunchConfiguration("params_file"),
        ],
        remappings=[(t, LaunchConfiguration(t)) for t in ("image", "depth", "camera_info")],
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
        output="screen",
        # glibc's arenas creep in threaded Python.
        additional_env={PROFILES: PROFILE, "MALLOC_ARENA_MAX": "2"},
    )
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t) for n, d, t in ARGUMENTS),
            node,
        ]
    )
