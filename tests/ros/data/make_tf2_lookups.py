# SPDX-License-Identifier: Apache-2.0
"""Writes tf2_lookups.json beside this file: what tf2's own BufferCore answers, to compare with.

Not a test and not run in CI; run it again when the cases shall change. The oracle is Debian 12's
python3-tf2 (C++ tf2 0.7.6 with Python bindings). Unpack these .debs into one directory with
`dpkg -x` and hand that directory over as the only argument:

    python3-tf2 libtf2-2d librostime1d libconsole-bridge1.0
    python3-genpy python3-genmsg python3-geometry-msgs python3-std-msgs

A case is a list of transforms, inserted in order, and a list of queries with their outcome:
seven numbers (translation and quaternion xyzw of T_target_source), or the name of the exception.
"""

from __future__ import annotations

import ctypes
import json
import random
import sys
import types
from pathlib import Path
from typing import Any

CASES, TRANSFORMS, QUERIES = 24, 36, 32
SECOND = 1_000_000_000
# Early, because this tf2 interpolates with stamps as floating-point seconds.
START_NS = 100 * SECOND


def load_oracle(root: Path) -> Any:
    """The tf2_py module of the unpacked packages, with the two ROS 1 modules it asks for."""
    for name in ("libconsole_bridge.so.1.0", "librostime.so.1d", "libtf2.so.2d"):
        ctypes.CDLL(str(root / "usr/lib/x86_64-linux-gnu" / name), ctypes.RTLD_GLOBAL)
    sys.path.insert(0, str(root / "usr/lib/python3/dist-packages"))
    import genpy

    rospy = types.ModuleType("rospy")
    rospy.Time, rospy.Duration = genpy.Time, genpy.Duration
    sys.modules.update(rospy=rospy, roslib=types.ModuleType("roslib"))
    import tf2_py

    return tf2_py


def unit_quaternion(rng: random.Random) -> list[float]:
    q = [rng.gauss(0, 1) for _ in range(4)]
    length = sum(value * value for value in q) ** 0.5
    return [value / length for value in q]


def random_transforms(rng: random.Random) -> list[dict[str, Any]]:
    """Histories of two trees: static and moving links, disorder, repetitions, faults."""
    frames = [f"f{i}" for i in range(9)]
    parent = {f"f{i}": f"f{rng.randrange(i)}" for i in range(1, 7)} | {"f8": "f7"}
    static = {child for child in parent if rng.random() < 0.3}
    transforms = []
    now_ns = START_NS
    for _ in range(TRANSFORMS):
        child = rng.choice(sorted(parent))
        now_ns += rng.choice([0, 10, 50, 300, 2000]) * 1_000_000
        stamp_ns = now_ns - (rng.choice([0, 0, 0, 400, 3000, 11_000]) * 1_000_000)
        transform = {
            "parent": parent[child],
            "child": child,
            "stamp_ns": stamp_ns,
            "translation": [round(rng.uniform(-3, 3), 3) for _ in range(3)],
            "quat_xyzw": unit_quaternion(rng),
            "is_static": child in static,
        }
        fault = rng.random()
        if fault < 0.02:
            transform["translation"][1] = float("nan")
        elif fault < 0.04:
            transform["quat_xyzw"] = [0.0, 0.0, 0.0, 0.0]
        elif fault < 0.06:
            transform["quat_xyzw"] = [1.1 * value for value in transform["quat_xyzw"]]
        elif fault < 0.08:
            transform["parent"] = child
        elif fault < 0.10:
            transform["parent"] = ""
        elif fault < 0.14 and child not in static:  # taken by another parent
            above = frames[: int(child[1:])]
            if child != "f8":
                transform["parent"] = rng.choice(above)
        transforms.append(transform)
    return transforms


def random_queries(rng: random.Random, transforms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    stamps = sorted(transform["stamp_ns"] for transform in transforms)
    queries = []
    for _ in range(QUERIES):
        target, source = (f"f{rng.randrange(9)}" for _ in range(2))
        odd = rng.random()
        if odd < 0.03:
            source = "nowhere"
        elif odd < 0.05:
            target = ""
        elif odd < 0.07:
            source = "/f1"
        kind = rng.random()
        if kind < 0.25:
            stamp_ns = 0
        elif kind < 0.5:
            stamp_ns = rng.choice(stamps)
        else:
            stamp_ns = rng.randrange(stamps[0] - SECOND, stamps[-1] + SECOND)
        queries.append({"target": target, "source": source, "stamp_ns": stamp_ns})
    return queries


def outcome(tf2_py: Any, buffer: Any, query: dict[str, Any]) -> list[float] | str:
    import genpy

    stamp = genpy.Time(*divmod(query["stamp_ns"], SECOND))
    try:
        pose = buffer.lookup_transform_core(query["target"], query["source"], stamp).transform
    except tf2_py.TransformException as error:
        return type(error).__name__
    t, q = pose.translation, pose.rotation
    return [round(value, 11) for value in (t.x, t.y, t.z, q.x, q.y, q.z, q.w)]


def oracle_buffer(tf2_py: Any, transforms: list[dict[str, Any]]) -> Any:
    import genpy
    from geometry_msgs.msg import TransformStamped

    buffer = tf2_py.BufferCore(genpy.Duration(10))
    for transform in transforms:
        message = TransformStamped()
        message.header.frame_id = transform["parent"]
        message.child_frame_id = transform["child"]
        message.header.stamp = genpy.Time(*divmod(transform["stamp_ns"], SECOND))
        t, q = message.transform.translation, message.transform.rotation
        t.x, t.y, t.z = transform["translation"]
        q.x, q.y, q.z, q.w = transform["quat_xyzw"]
        if transform["is_static"]:
            buffer.set_transform_static(message, "oracle")
        else:
            buffer.set_transform(message, "oracle")
    return buffer


def main() -> None:
    tf2_py = load_oracle(Path(sys.argv[1]))
    cases = []
    for seed in range(CASES):
        rng = random.Random(seed)
        transforms = random_transforms(rng)
        buffer = oracle_buffer(tf2_py, transforms)
        queries = random_queries(rng, transforms)
        for query in queries:
            query["outcome"] = outcome(tf2_py, buffer, query)
        cases.append({"transforms": transforms, "queries": queries})
    lines = ",\n".join(json.dumps(case) for case in cases)
    (Path(__file__).parent / "tf2_lookups.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
