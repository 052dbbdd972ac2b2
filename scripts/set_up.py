#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`make setup`: from a bare machine to a `.venv` in which the node, its interfaces and tests run.

Needs nothing but the Python it runs on. Every step names itself, leaves a stamp with the hash of
what it depended on, and is skipped while that is unchanged; a second run takes a second. With
`--to-run`, as `make demo` has it, it stops before torch and the tools of the workshop.

Where a ROS installation is sourced (AMENT_PREFIX_PATH has rclpy) the ROS wheels are left out, and
so is each overlay package whose real counterpart is installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / ".setup"
REQUIREMENTS = ROOT / "requirements"
# Exact versions of everything, per Python; elsewhere the bounds in requirements/ decide.
LOCK = REQUIREMENTS / f"lock-py{sys.version_info.major}{sys.version_info.minor}.txt"

# Shared libraries that the Open3D wheel expects from the system.
DEBIAN_LIBRARIES = {
    "libusb-1.0-0": "libusb-1.0.so.0",
    "libgl1": "libGL.so.1",
    "libgomp1": "libgomp.so.1",
}
PYTHON_INTERFACES_ONLY = ROOT / "scripts" / "python_interfaces_only.cmake"
OVERLAYS = ("vision_msgs", "tf2_msgs")
IMPORTS_TO_RUN = (
    "rclpy, onnxruntime, open3d, qwen3vl_ros.msg, qwen3vl_ros.srv, qwen3vl_ros.action, "
    "vision_msgs.msg, tf2_msgs.msg"
)
IMPORTS_TO_WORK = (
    "torch, transformers, onnxscript, openai, anthropic, starlette, uvicorn, hypothesis, pytest, "
    "ruff"
)


class SetupError(Exception):
    """A step failed; the message says why and what to do."""


def main() -> int:
    steps: list[tuple[str, Callable[[], Iterable[str | Path]], Callable[[], None]]] = [
        ("Python and compilers", tools, check_tools),
        ("Debian libraries", DEBIAN_LIBRARIES.keys, install_debian_libraries),
        ("virtual environment", lambda: [sys.version], create_venv),
        ("wheels to run", lambda: wheel_inputs("runtime", "demo", "ros"), install_wheels_to_run),
        ("CMake exports of the ROS wheels", lambda: [], patch_cmake_exports),
        ("interfaces", interface_inputs, build_interfaces),
        ("this package, editable", lambda: [ROOT / "setup.py"], install_editable),
        ("what runs imports", lambda: [IMPORTS_TO_RUN], lambda: check_imports(IMPORTS_TO_RUN)),
        (
            "wheels to work",
            lambda: wheel_inputs("workshop", "remote", "serve", "evaluate", "rtx", "test"),
            install_wheels_to_work,
        ),
        ("all imports", lambda: [IMPORTS_TO_WORK], lambda: check_imports(IMPORTS_TO_WORK)),
    ]
    if "--to-run" in sys.argv[1:]:
        steps = steps[:-2]
    begun = time.monotonic()
    upstream = hashlib.sha256(str(ROOT).encode())  # a moved tree is set up anew
    for number, (name, inputs, action) in enumerate(steps, start=1):
        title = f"[{number}/{len(steps)}] {name}"
        step_begun = time.monotonic()
        try:
            for item in inputs():
                upstream.update(item.read_bytes() if isinstance(item, Path) else item.encode())
            stamp = STAMPS / f"{number}.stamp"
            if stamp.is_file() and stamp.read_text() == upstream.hexdigest():
                print(f"{title}: unchanged")
                continue
            print(f"{title} ...", flush=True)
            action()
            if VENV.is_dir():
                STAMPS.mkdir(exist_ok=True)
                stamp.write_text(upstream.hexdigest())
        except (SetupError, OSError, subprocess.SubprocessError) as error:
            print(f"\n{title}: FAILED\n{error}", file=sys.stderr)
            return 1
        print(f"{title}: done in {time.monotonic() - step_begun:.0f} s")
    print(f"set up in {time.monotonic() - begun:.0f} s")
    return 0


def run(command: list[str | Path], *, advice: str, env: dict[str, str] | None = None) -> str:
    """Runs a command quietly; what it printed.

    Raises:
        SetupError: it failed; with the end of its output, and the advice.
    """
    words = [str(word) for word in command]
    result = subprocess.run(
        words, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode != 0:
        end = "\n".join(result.stdout.splitlines()[-25:])
        raise SetupError(
            f"{end}\n\ncommand: {' '.join(words)}\nexit code: {result.returncode}\n{advice}"
        )
    return result.stdout


def sourced_ros_has(package: str) -> bool:
    """Whether a ROS installation other than our own `.venv` provides a package."""
    prefixes = filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))
    return any(
        (Path(prefix) / "share" / package / "package.xml").is_file()
        for prefix in prefixes
        if Path(prefix).resolve() != VENV
    )


def tools() -> list[str | Path]:
    """What the first step finds, and with it every step; PATH itself differs between shells."""
    return [sys.version, *(shutil.which(compiler) or "" for compiler in ("cc", "c++"))]


def check_tools() -> None:
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise SetupError(
            f"Python is {sys.version.split()[0]}, expected 3.10 to 3.13 (the ROS wheels exist for "
            "these): run make setup PYTHON=python3.11"
        )
    wanted = {
        "g++": shutil.which("c++") is not None and shutil.which("cc") is not None,
        "python3-dev": (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file(),
        "python3-venv": has_module("ensurepip"),
    }
    apt_install([package for package, present in wanted.items() if not present])


def has_module(name: str) -> bool:
    command = [sys.executable, "-c", f"import {name}"]
    return subprocess.run(command, capture_output=True).returncode == 0


def install_debian_libraries() -> None:
    # Not on the PATH of an ordinary user; not there at all on some systems.
    ldconfig = shutil.which("ldconfig", path="/sbin:/usr/sbin:/usr/bin")
    listed = (
        run([ldconfig, "-p"], advice="is the system's linker cache whole?") if ldconfig else ""
    )
    apt_install([package for package, file in DEBIAN_LIBRARIES.items() if file not in listed])


def apt_install(packages: list[str]) -> None:
    """Installs Debian packages if there are any to install and we may; else says what to run."""
    if not packages:
        return
    by_hand = f"install by hand, then run make setup again: apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"missing {', '.join(packages)}, and this is no Debian or Ubuntu\n{by_hand}"
        )
    may: list[str | Path] = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if may and not may_become_root():
        raise SetupError(f"missing {', '.join(packages)}, and we are not root\n{by_hand}")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run([*may, "apt-get", "update", "-q"], env=env, advice=by_hand)
    run([*may, "apt-get", "install", "-qy", "--no-install-recommends", *packages], env=env,
        advice=by_hand)  # fmt: skip


def may_become_root() -> bool:
    if shutil.which("sudo") is None:
        return False
    return subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0


def create_venv() -> None:
    if PYTHON.exists():
        version = subprocess.run([PYTHON, "-c", "import sys; print(sys.version)"],
                                 capture_output=True, text=True).stdout.strip()  # fmt: skip
        if version == sys.version:
            return
        raise SetupError(
            f".venv is of Python {version or '(broken)'}, and this is {sys.version}: "
            "run make clean-venv, then make setup again"
        )
    run([sys.executable, "-m", "venv", VENV], advice="is python3-venv installed?")


def wheel_inputs(*names: str) -> list[str | Path]:
    files = [REQUIREMENTS / f"{name}.txt" for name in names]
    return [*files, *([LOCK] if LOCK.is_file() else []), str(sourced_ros_has("rclpy"))]


def install_wheels_to_run() -> None:
    install_requirements("runtime")
    install_requirements("demo")
    if not sourced_ros_has("rclpy"):
        install_requirements("ros")


def install_wheels_to_work() -> None:
    torch = next(
        line
        for line in (REQUIREMENTS / "workshop.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    pip_install(torch)  # alone and first: see requirements/workshop.txt
    install_requirements("workshop")
    install_requirements("remote")
    install_requirements("serve")
    install_requirements("evaluate")
    install_requirements("rtx")
    install_requirements("test")


def install_requirements(name: str) -> None:
    print(f"      requirements/{name}.txt", flush=True)
    pip_install("--requirement", REQUIREMENTS / f"{name}.txt")


def pip_install(*what: str | Path) -> None:
    # Compiling every module of every wheel would take longer than installing them; Python compiles
    # those that are imported.
    pip: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--no-compile"]
    if LOCK.is_file():
        pip += ["--constraint", LOCK]
    advice = "is there a network, and 6 GB of room? Then run make setup again."
    run([*pip, *what], advice=advice)


def patch_cmake_exports() -> None:
    """Points the wheels' CMake exports at this machine's headers.

    They name the Python and NumPy include directories of the machine that built the wheels.
    """
    answer = run(
        [PYTHON, "-c", "import numpy, sysconfig; print(sysconfig.get_paths()['include']); "
         "print(numpy.get_include())"],
        advice="run make clean-venv, then make setup again",
    ).splitlines()[-2:]  # fmt: skip
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    built = f"/opt/python/{tag}-{tag}"
    here = {
        f"{built}/include/{version}": answer[0],
        f"{built}/lib/{version}/site-packages/numpy/_core/include": answer[1],
    }
    for path in (VENV / "share").glob("**/*.cmake"):
        text = patched = path.read_text()
        for theirs, ours in here.items():
            patched = patched.replace(theirs, ours)
        if patched != text:
            path.write_text(patched)


def interface_inputs() -> list[str | Path]:
    packages = [ROOT, *(ROOT / "overlay" / name for name in OVERLAYS)]
    files = [
        path
        for package in packages
        for pattern in (
            "package.xml",
            "CMakeLists.txt",
            "msg/*.msg",
            "srv/*.srv",
            "action/*.action",
            "launch/*.launch.py",
            "launch/params/*.*",
            "launch/rviz/*.*",
        )
        for path in sorted(package.glob(pattern))
    ]
    files += [PYTHON_INTERFACES_ONLY, ROOT / "qwen3vl_ros" / "__init__.py"]
    return [*files, *(str(sourced_ros_has(name)) for name in OVERLAYS)]


def build_interfaces() -> None:
    absent = [name for name in OVERLAYS if not sourced_ros_has(name)]
    env = dict(os.environ)
    env["PATH"] = f"{VENV / 'bin'}{os.pathsep}{env['PATH']}"
    for variable in ("AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH"):
        env[variable] = os.pathsep.join(filter(None, [str(VENV), env.get(variable)]))
    run(
        [
            VENV / "bin" / "colcon", "--log-base", "build/log", "build",
            "--base-paths", ROOT, *(ROOT / "overlay" / name for name in absent),
            "--packages-select", "qwen3vl_ros", *absent,
            "--build-base", "build", "--install-base", VENV, "--merge-install",
            "--event-handlers", "console_cohesion+", "desktop_notification-",
            "--cmake-args", f"-DPython3_EXECUTABLE={PYTHON}", "-DBUILD_TESTING=OFF",
            "-DINSTALL_PYTHON_SOURCES=OFF", "--no-warn-unused-cli",
            f"-DCMAKE_PROJECT_INCLUDE={PYTHON_INTERFACES_ONLY}",
            # The generated libraries land in .venv/lib beside those of the wheels and find them
            # there, so that running needs no LD_LIBRARY_PATH.
            "-DCMAKE_INSTALL_RPATH=$ORIGIN;$ORIGIN/../../..",
        ],
        env=env,
        advice="the build is in build/; rm -r build, then make setup, builds from scratch",
    )  # fmt: skip
    # The generator leaves metadata under our name. pip would take them for an older version of
    # the editable install and delete the generated modules with it.
    for metadata in (VENV / "lib").glob("python*/site-packages/qwen3vl_ros-*.egg-info"):
        shutil.rmtree(metadata)


def install_editable() -> None:
    """A path file instead of a copy: the sources are imported from where they are edited."""
    run([PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
         "--config-settings", "editable_mode=compat", "--editable", ROOT],
        advice="setup.py or requirements/ has a mistake")  # fmt: skip


def check_imports(modules: str) -> None:
    run([PYTHON, "-c", f"import {modules}"],
        advice="run make clean-venv, then make setup again")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
