"""Finding pylibfranka and the robot, and telling why there is none."""

from __future__ import annotations

from typing import Any

from handrail.errors import ConfigError, DeviceLost, ProtocolMismatch
from robot_env.arms.franka.checks import check_kinematics, check_mass, matrix
from robot_env.arms.franka.config import FrankaConfig


def load_library() -> Any:
    """Return pylibfranka.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import pylibfranka  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            f"a Franka needs pylibfranka ({error}): pip install 'handrail[franka]'; without a "
            "robot, try --mock"
        ) from None
    return pylibfranka


def connect(config: FrankaConfig, library: Any) -> tuple[Any, Any, Any]:
    """Return the connected robot, its state and its dynamics, checked against our model of it.

    Args:
        config: Table [franka].
        library: pylibfranka, or `mock.library.FakeLibrary`.

    Raises:
        DeviceLost: No robot answers.
        ProtocolMismatch: Library and robot speak different protocols.
        ConfigError: It is another model of arm.
        Error: Our model of the arm is not the robot's.
    """
    kinds = library.RealtimeConfig
    try:
        robot = library.Robot(config.address, kinds.kEnforce if config.realtime else kinds.kIgnore)
        state = robot.read_once()
        dynamics = robot.load_model()
        mass = matrix(dynamics.mass(state), 7)
    except library.RealtimeException as error:
        raise DeviceLost(
            f"{error}; use a PREEMPT_RT kernel, or [franka] realtime = false to try without"
        ) from None
    except library.NetworkException as error:
        raise DeviceLost(f"no robot answers at {config.address}: {error}") from None
    except RuntimeError as error:
        if "ncompatible" in str(error):
            raise ProtocolMismatch(
                f"the robot at {config.address} is no {config.model!r} that pylibfranka "
                f"{library.__version__} can speak to: {error}"
            ) from None
        raise DeviceLost(f"the robot at {config.address} refuses: {error}") from None
    check_kinematics(state, config)
    check_mass(state, mass, config)
    return robot, state, dynamics
