# SPDX-License-Identifier: Apache-2.0
"""A node as a process: made, spun until it is told to stop or has a bug, and ended for certain.

Knows no node but that it stops when told, and that some of its work cannot be interrupted.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Protocol, TypeVar

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from ..errors import Qwen3VLError

SPIN_S = 0.2


class Stoppable(Protocol):
    """A node with a thread of its own."""

    @property
    def crash(self) -> BaseException | None:
        """A bug that ended its work; the process shall end with it."""

    def stop(self, *, timeout_s: float) -> bool:
        """Stops its thread; False when that is still busy after `timeout_s`."""

    def destroy_node(self) -> None:
        """As of rclpy's nodes."""


N = TypeVar("N", bound=Stoppable)


def run_node(
    make: Callable[[], N],
    *,
    name: str,
    args: list[str] | None,
    stop_s: float,
    start: Callable[[N], object] = lambda node: None,
) -> int:
    """Runs a node until it is told to stop; 0 when told, 1 when it cannot go on.

    Args:
        make: makes it, in rclpy's context.
        name: of the node, should it not be made.
        args: of the command line, None for the process's own.
        stop_s: after so long on SIGINT and SIGTERM the work in hand is given up, seconds.
        start: called once it can be spun.
    """
    rclpy.init(args=args)
    node: N | None = None
    executor = SingleThreadedExecutor()
    try:
        node = make()
        assert isinstance(node, Node)
        executor.add_node(node)
        start(node)
        # Not rclpy.spin(): on an idle node it can miss the signal and hang.
        while rclpy.ok() and node.crash is None:
            executor.spin_once(timeout_sec=SPIN_S)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass  # asked to stop; not an error
    except RuntimeError:
        # rclpy's RCLError: the signal came between asking `ok` and waiting.
        if rclpy.ok():
            raise
    except Qwen3VLError as exc:
        rclpy.logging.get_logger(name).fatal(f"cannot start: {exc}")
        return 1
    finally:
        stopped = node is None or node.stop(timeout_s=stop_s)
        executor.shutdown(timeout_sec=0.5)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    if node is not None and node.crash is not None:
        traceback.print_exception(node.crash)
        return 1
    if not stopped:
        # Deep in a pass or a picture that nothing can interrupt; leaving a thread running through
        # interpreter exit ends in std::terminate.
        sys.stderr.flush()
        os._exit(0)
    return 0
