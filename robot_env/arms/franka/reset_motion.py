"""The way of a real arm to the start of an episode: a motion under its own chain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from controllers.config import ControlConfig
from controllers.kinematics import pose_of
from controllers.packed import STATE
from controllers.robot import Authority, Fault, Mode, Request, Snapshot
from handrail.errors import DeviceLost, Error
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.connection import REMEDY

_ARRIVED = 0.004  # [m], the motion ends this near to its goal
_PATIENCE = 2.0  # [s], to come there once the target has


class MovingArm(Protocol):
    """What the motion needs of an arm in control."""

    config: FrankaConfig
    control: ControlConfig
    control_hz: float  # [Hz]
    period: int  # [ticks]
    tool: tuple[float, float, float]  # tool centre in the hand's frame [m]
    state: np.ndarray  # of the chain, see `packed.STATE`
    heartbeat_age: float  # [s]

    def run(self, request: Request | None, ticks: int) -> Snapshot:
        """Control for some ticks; see `controllers.robot.Robot`."""
        ...


def go_to_start(robot: MovingArm, q: np.ndarray) -> None:
    """Move to joint angles: up, across and down, at `reset_speed`.

    Args:
        robot: In control, holding.
        q: Joint angles, shape (7,) [rad].

    Raises:
        DeviceLost: The motion was ended.
        Error: The arm does not arrive.
    """
    robot.state[STATE.posture : STATE.posture + 7] = q
    goal, here = pose_of(q, robot.tool), robot.state[STATE.pose : STATE.pose + 3].copy()
    top = max(robot.control.box_high[2], goal[2])
    step = robot.config.reset_speed / robot.control_hz
    points = list(up_across_down(here, goal, robot.config.reset_lift, top, step))
    for n, point in enumerate(points):
        _ask(robot, n + 1, point, goal[3:])
    far = np.inf
    for n in range(round(_PATIENCE * robot.control_hz)):
        reached = _ask(robot, len(points) + n + 1, goal[:3], goal[3:])
        far = float(np.linalg.norm(reached.position - goal[:3]))
        if far < _ARRIVED:
            return
    raise Error(
        f"the reset ended {1e3 * far:.0f} mm from its goal: something is in the way, or the "
        "goal is outside of [control] box_low..box_high"
    )


def up_across_down(
    here: np.ndarray, goal: np.ndarray, lift: float, top: float, step: float
) -> Iterator[np.ndarray]:
    """Yield positions (3,) [m] on straight lines up, across and down to a goal, without the start.

    Args:
        here: Where the tool is, shape (3,) [m].
        goal: Pose whose position is the last one, shape (7,) [m, -].
        lift: How far it goes up first, at least [m].
        top: Height that it goes up to at most [m].
        step: Between two positions, at most [m].
    """
    high = min(max(here[2] + lift, goal[2]), top)
    corners = np.array([*here[:2], high]), np.array([*goal[:2], high]), goal[:3]
    at = here
    for corner in corners:
        while (left := float(np.linalg.norm(corner - at))) > 0.0:
            at = corner if left <= step else at + (corner - at) * (step / left)
            yield at


def _ask(robot: MovingArm, seq: int, position: np.ndarray, quaternion: np.ndarray) -> Snapshot:
    robot.heartbeat_age = 0.0
    request = Request(
        seq, Authority.SCRIPT, position, quaternion, float(robot.state[STATE.gripper])
    )
    snapshot = robot.run(request, robot.period)
    if snapshot.mode not in (Mode.HOLDING, Mode.FOLLOWING):
        raise DeviceLost(
            f"the reset was ended by {Fault(snapshot.fault).name}, arm in "
            f"{Mode(snapshot.mode).name}; {REMEDY}"
        )
    return snapshot
