"""What the mocked library passes around: exceptions, modes, times, errors, torques.

Names and spellings are pylibfranka's (0.21).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

_JOINTS = 7


class NetworkException(RuntimeError):
    """The connection is gone or was refused."""


class ControlException(RuntimeError):
    """A motion was aborted."""


class CommandException(RuntimeError):
    """The robot refused a command."""


class RealtimeException(RuntimeError):
    """The system can't give what real time needs."""


class InvalidOperationException(RuntimeError):
    """An operation that is not allowed now."""


class RobotMode(IntEnum):
    """What the robot is doing."""

    Other = 0
    Idle = 1
    Move = 2
    Guiding = 3
    Reflex = 4
    UserStopped = 5
    AutomaticErrorRecovery = 6


class RealtimeConfig(IntEnum):
    """Whether the library insists on a real-time system."""

    kEnforce = 0  # noqa: N815 - the library's name
    kIgnore = 1  # noqa: N815 - the library's name


class Duration:
    """Time of the robot's clock."""

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def to_sec(self) -> float:
        """Return seconds [s]."""
        return self._milliseconds * 1e-3


class Errors:
    """Which errors are set; every one of them is an attribute."""

    def __init__(self, names: set[str] | None = None) -> None:
        self._names = sorted(names or ())

    def __getattr__(self, name: str) -> bool:
        if name.startswith("_"):
            raise AttributeError(name)
        return name in self._names

    def __bool__(self) -> bool:
        return bool(self._names)

    def __str__(self) -> str:
        return "[" + ", ".join(f'"{name}"' for name in self._names) + "]"


class Torques:
    """A command: seven torques without gravity [N m]."""

    def __init__(self, tau_J: Sequence[float]) -> None:  # noqa: N803 - the library's name
        if len(tau_J) != _JOINTS:
            raise TypeError(f"Torques takes 7 values, got {len(tau_J)}")
        self.tau_J = [float(value) for value in tau_J]
        self.motion_finished = False


def flat(matrix: np.ndarray) -> list[float]:
    """Return a matrix as the library's flat column-major list."""
    return matrix.ravel(order="F").tolist()


def sized(values: Sequence[float], size: int) -> np.ndarray:
    """Return values as an array (size,).

    Raises:
        TypeError: There are more or fewer.
    """
    array = np.array(values, np.float64)
    if array.shape != (size,):
        raise TypeError(f"a list of {size} values is wanted, got {array.shape}")
    return array


def frame_of(values: Sequence[float]) -> np.ndarray:
    """Return a flat column-major list of 16 as a frame (4, 4).

    Raises:
        TypeError: There are more or fewer.
    """
    return sized(values, 16).reshape(4, 4, order="F")
