"""What is true of a Franka before and while it moves: pure functions over what it says."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from controllers.kernel import kernel
from controllers.robot import Fault
from handrail.errors import ConfigError, Error, ProtocolMismatch
from robot_env.arms.franka.config import FrankaConfig
from robot_env.arms.franka.dynamics_model import HAND_IN_FLANGE, ArmDynamics, Payload, flange_pose
from robot_env.arms.panda_models import ARMS

OLDEST, NEWEST = (0, 18), (0, 21)  # versions of pylibfranka whose interface this was written for
_SPEAKS = "fr3"  # the arm whose protocol those versions speak; a Panda (FER) needs libfranka 0.9


def check_library(version: str, model: str) -> None:
    """Refuse a library that can't drive the configured robot.

    Args:
        version: Of pylibfranka.
        model: Of the config.

    Raises:
        ProtocolMismatch: An unknown version.
        ConfigError: The version speaks the protocol of another arm.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if not OLDEST <= number <= NEWEST:
        raise ProtocolMismatch(
            f"pylibfranka {version} is installed; this works with {_dotted(OLDEST)} to "
            f"{_dotted(NEWEST)}: pip install 'handrail[franka]'"
        )
    if model != _SPEAKS:
        raise ConfigError(
            f"the config says model = {model!r}, but pylibfranka {version} speaks to an "
            f"{_SPEAKS!r} only; a Panda (FER) needs libfranka 0.9, which has no Python interface. "
            f"Set [franka] model = {_SPEAKS!r} if that is what stands there"
        )


def check_kinematics(state: Any, config: FrankaConfig) -> None:
    """Refuse a robot whose flange is not where our kinematics say.

    Args:
        state: `RobotState`.
        config: Tolerances.

    Raises:
        Error: They differ by more than the tolerance.
    """
    flange = matrix(state.O_T_EE) @ np.linalg.inv(matrix(state.F_T_EE))
    ours = flange_pose(np.array(state.q))
    far = float(np.linalg.norm(flange[:3, 3] - ours[:3, 3]))
    turned = angle(flange[:3, :3].T @ ours[:3, :3])
    if not (far <= config.position_tolerance and turned <= config.rotation_tolerance):
        raise Error(
            f"the robot's flange is {1e3 * far:.2f} mm and {1e3 * turned:.2f} mrad from where our "
            f"kinematics put it, more than {1e3 * config.position_tolerance:g} mm or "
            f"{1e3 * config.rotation_tolerance:g} mrad: it is no arm of the Panda class, or its "
            "end effector is configured in a way that we don't know"
        )


def check_mass(state: Any, mass: np.ndarray, config: FrankaConfig) -> None:
    """Refuse a robot whose mass matrix is not that of the configured arm.

    Args:
        state: `RobotState`.
        mass: The robot's own, shape (7, 7) [kg m^2].
        config: Model and tolerance.

    Raises:
        ConfigError: It is nearer to another arm's.
        Error: It is too far from any.
    """
    payload = Payload(float(state.m_total), np.array(state.F_x_Ctotal), matrix(state.I_total, 3))
    q = np.array(state.q)
    far = {
        name: float(np.abs(ArmDynamics(arm).mass(q, payload) - mass).max())
        for name, arm in ARMS.items()
    }
    nearest = min(far, key=lambda name: far[name])
    if nearest != config.model:
        raise ConfigError(
            f"the config says model = {config.model!r}, but the robot's mass matrix is that of a "
            f"{nearest!r}: it differs from ours by {far[nearest]:.3f} kg m^2 for that and by "
            f"{far[config.model]:.3f} kg m^2 for {config.model!r}. Set [franka] model = {nearest!r}"
        )
    if not far[nearest] <= config.mass_tolerance:
        raise Error(
            f"the robot's mass matrix differs from ours by {far[nearest]:.3f} kg m^2, more than "
            f"mass_tolerance = {config.mass_tolerance:g}: check what Desk says of the end effector"
        )


def check_rest(wrench: np.ndarray, config: FrankaConfig) -> None:
    """Refuse to begin while something pushes on the tool.

    Args:
        wrench: Of the environment on the tool, base frame, averaged at rest [N, N m].
        config: Limits.

    Raises:
        Error: Force or moment is above its limit.
    """
    force = float(np.linalg.norm(wrench[:3]))
    moment = float(np.linalg.norm(wrench[3:]))
    if not (force <= config.rest_force and moment <= config.rest_moment):
        raise Error(
            f"at rest {force:.1f} N and {moment:.2f} N m act on the tool (base frame "
            f"{np.round(wrench[:3], 1).tolist()} N), more than rest_force = "
            f"{config.rest_force:g} N or rest_moment = {config.rest_moment:g} N m: the arm touches "
            "something, or the load "
            f"is not load_mass = {config.load_mass:g} kg"
        )


def tool_frame(config: FrankaConfig) -> np.ndarray:
    """Return the tool's pose in the flange's frame, 4 x 4."""
    frame = HAND_IN_FLANGE.copy()
    frame[:3, 3] = HAND_IN_FLANGE[:3, :3] @ np.array(config.tool)
    return frame


def load_inertia(config: FrankaConfig) -> np.ndarray:
    """Return the load's inertia, shape (3, 3) [kg m^2]."""
    xx, yy, zz, xy, xz, yz = config.load_inertia
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def wrench_on_tool(reported: Any) -> np.ndarray:
    """Return the wrench of the environment on the tool, base frame, shape (6,) [N, N m].

    Args:
        reported: `O_F_ext_hat_K`, in which what the robot does to the environment is positive.
    """
    return -np.array(reported)


def fault_of(mode: str, errors: str) -> Fault:
    """Return why the robot is not in control.

    Args:
        mode: Name of its `RobotMode`.
        errors: Of the motion that was aborted, as the library spells them.
    """
    if mode == "UserStopped":
        return Fault.USER_STOP
    if mode == "Guiding":
        return Fault.GUIDING
    if "communication_constraints_violation" in errors:
        return Fault.ROBOT_COMMUNICATION
    return Fault.ROBOT_REFLEX if mode == "Reflex" or errors.strip("[] ") else Fault.NONE


@kernel
def limit_torque_step(torque: np.ndarray, held: np.ndarray, sent: np.ndarray, rate: float) -> bool:
    """Keep a torque finite and within a step of what may be in effect; return whether it acted.

    Whether the last command has arrived is not known before its echo: the step is taken from the
    echo and from the last command both.

    Args:
        torque: Wished, shape (7,), changed in place [N m].
        held: Echoed, shape (7,) [N m]; what is not finite is not believed.
        sent: Last command, shape (7,) [N m].
        rate: Largest step [N m].
    """
    acted = False
    for i in range(7):
        here = held[i] if math.isfinite(held[i]) else sent[i]
        low, high = max(here, sent[i]) - rate, min(here, sent[i]) + rate
        if low > high:  # the echo is older than the last command: there it began
            low, high = here - rate, here + rate
        wished = torque[i] if math.isfinite(torque[i]) else 0.0
        torque[i] = min(max(wished, low), high)
        acted = acted or torque[i] != wished
    return acted


def matrix(values: Any, size: int = 4) -> np.ndarray:
    """Return a flat column-major list as a matrix (size, size)."""
    return np.array(values, np.float64).reshape(size, size, order="F")


def angle(turn: np.ndarray) -> float:
    """Return by how much a rotation matrix turns [rad]."""
    axis = 0.5 * np.array(
        [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
    )
    return math.atan2(float(np.linalg.norm(axis)), 0.5 * (float(np.trace(turn)) - 1.0))


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
