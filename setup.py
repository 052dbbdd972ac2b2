# SPDX-License-Identifier: Apache-2.0
"""The core as an ordinary Python package: `pip install -e .`, no ROS needed.

In a ROS workspace colcon builds from CMakeLists.txt and package.xml, and ignores this file.
"""

from pathlib import Path

from setuptools import find_packages, setup

REQUIREMENTS = Path(__file__).resolve().parent / "requirements"


def requirements(name: str) -> list[str]:
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


setup(
    name="qwen3vl_ros",
    version="0.1.0",
    description="Open-vocabulary 2D and 3D spatial perception for ROS 2 with Qwen3-VL",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["qwen3vl_ros", "qwen3vl_ros.*"]),
    package_data={"qwen3vl_ros": ["**/*.jinja", "**/*.png"]},
    install_requires=requirements("runtime"),
    extras_require={
        # Replaces onnxruntime, which has the same import name: uninstall that one first.
        "gpu": ["onnxruntime-gpu>=1.24,<1.33"],
        # Runs plans built elsewhere (Jetson: TensorRT comes with JetPack instead).
        "tensorrt": ["tensorrt>=10.13,<12", "cuda-python>=12.6,<14"],
        # Compiles plans for RTX cards, with or without one, and runs them where there is one.
        "rtx": [*requirements("rtx"), "cuda-python>=12.6,<14"],
        # Asks a model on a server.
        "remote": requirements("remote"),
        # Lets others ask the model on this machine.
        "serve": requirements("serve"),
        # Compares answers with the truths of data sets (docs/evaluation.md).
        "evaluate": requirements("evaluate"),
        "workshop": requirements("workshop"),
    },
    entry_points={"console_scripts": ["qwen3vl = qwen3vl_ros.cli:main"]},
)
