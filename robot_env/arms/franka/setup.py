"""What the robot is told before a motion (tool, load, when to stop), and its force at rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from controllers.kinematics import pose_of
from handrail.errors import Error
from robot_env.arms.franka.checks import (
    check_kinematics,
    load_inertia,
    matrix,
    tool_frame,
    wrench_on_tool,
)
from robot_env.arms.franka.config import FrankaConfig

_TAKES_EFFECT = 50  # [states] after which what was configured shows


def configure(robot: Any, state: Any, config: FrankaConfig, tell: Callable[..., Any]) -> None:
    """Tell the robot what the config says, and check that it took it.

    Args:
        robot: `Robot` of the library, at rest.
        state: Its newest `RobotState`.
        config: Table [franka].
        tell: Calls a method of the robot: what for, method, arguments.

    Raises:
        DeviceLost: The robot is gone.
        Error: It refuses, or its tool is not ours afterwards.
    """
    wanted = tool_frame(config)
    if not np.allclose(matrix(state.F_T_EE), wanted, atol=1e-5):
        nominal = np.linalg.inv(matrix(state.F_T_NE)) @ wanted
        tell("the tool's frame", robot.set_EE, flat(nominal))
    tell("the stiffness frame", robot.set_K, flat(np.eye(4)))
    inertia = flat(load_inertia(config))
    tell("the load", robot.set_load, config.load_mass, list(config.load_centre), inertia)
    tell(
        "collision behaviour",
        robot.set_collision_behavior,
        [config.contact_torque] * 7,
        [config.collision_torque] * 7,
        [config.contact_force] * 3 + [config.contact_moment] * 3,
        [config.collision_force] * 3 + [config.collision_moment] * 3,
    )
    for _ in range(_TAKES_EFFECT):
        state = robot.read_once()
    if not np.allclose(matrix(state.F_T_EE), wanted, atol=1e-4):
        raise Error(
            f"the robot's tool is at {np.round(matrix(state.F_T_EE)[:3, 3], 4)} m from the "
            f"flange, the config's at {np.round(wanted[:3, 3], 4)} m; set it in Desk"
        )
    check_kinematics(state, config)
    tip = matrix(state.O_T_EE)[:3, 3] - pose_of(np.array(state.q), config.tool)[:3]
    if not np.linalg.norm(tip) <= config.position_tolerance:
        raise Error(f"the robot's tool is {np.round(1e3 * tip, 2)} mm from ours")


def resting_wrench(robot: Any, seconds: float) -> np.ndarray:
    """Return the mean wrench on the tool, base frame, shape (6,) [N, N m].

    Args:
        robot: `Robot` of the library, at rest.
        seconds: Over how long [s].
    """
    count = max(1, round(1e3 * seconds))
    wrench = np.zeros(6)
    for _ in range(count):
        wrench += wrench_on_tool(robot.read_once().O_F_ext_hat_K)
    return wrench / count


def flat(frame: np.ndarray) -> list[float]:
    """Return a matrix as the library's flat column-major list."""
    return frame.ravel(order="F").tolist()
