"""Robots that remember their ticks, for tests that look back on them."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_env.recorder.ring_record import memory_ring_view, newest_ticks

MOTION = (
    *("mode", "fault", "seq", "authority", "reading.q", "reading.dq", "tick.torque", "pose"),
    *("target", "twist", "reading.wrench", "tank", "spring", "stiffness_scale", "gate"),
)


def remembering(robot: Any, ticks: int = 12_000) -> Any:
    """Return the robot, which remembers so many ticks from now on."""
    robot.ring_view = memory_ring_view(ticks)
    return robot


def past(robot: Any, name: str, ticks: int) -> np.ndarray:
    """Return what a quantity was in the newest ticks, oldest first, (n,) or (n, size)."""
    return newest_ticks(robot.ring_view, ticks)[name]


def motion_bytes(robot: Any, ticks: int) -> bytes:
    """Return the bytes of all that the arm did in the newest ticks, for a comparison."""
    found = newest_ticks(robot.ring_view, ticks)
    return b"".join(found[name].tobytes() for name in MOTION)
