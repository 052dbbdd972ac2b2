# SPDX-License-Identifier: Apache-2.0
"""The synthetic camera and the node on it: something to look at without a robot.

    ros2 launch qwen3vl_ros demo.launch.py rviz:=true
    ros2 service call /qwen3vl/set_query qwen3vl_ros/srv/SetQuery \
        "{query: {task: refer, text: 'yellow box'}}"
"""

import os

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.launch_description import LaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

LAUNCH = PathJoinSubstitution([FindPackageShare("qwen3vl_ros"), "launch"])
PROFILE = PathJoinSubstitution([LAUNCH, "params", "fastdds_large_images.xml"])
# Fast DDS 2 knows the variable by its old name, and 3 warns of that one.
FAST_DDS = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "jazzy") else "FASTDDS"
SEED = ParameterValue(LaunchConfiguration("seed"), value_type=int)
ARGUMENTS = (
    ("seed", "4", "Scene, light, camera and path are drawn from it."),
    ("motion", "moving", "'moving' or 'static' robot."),
    ("rviz", "false", "Show the results in RViz."),
)


def generate_launch_description() -> LaunchDescription:
    """The arguments, the camera, the node, and RViz on request."""
    camera = Node(
        package="qwen3vl_ros",
        executable="synthetic_camera",
        parameters=[{"solids": 4, "seed": SEED, "motion": LaunchConfiguration("motion")}],
        output="screen",
    )
    perception = IncludeLaunchDescription(
        PathJoinSubstitution([LAUNCH, "perception.launch.py"]),
        launch_arguments={"target_frame": "base_link"}.items(),
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([LAUNCH, "rviz", "perception.rviz"])],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription(
        [
            *(DeclareLaunchArgument(n, default_value=d, description=t) for n, d, t in ARGUMENTS),
            # Without it most pictures are lost; camera, node and RViz need the same transports.
            SetEnvironmentVariable(f"{FAST_DDS}_DEFAULT_PROFILES_FILE", PROFILE),
            camera,
            perception,
            rviz,
        ]
    )
