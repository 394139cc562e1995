"""The clock of a Franka's loop: the robot's own 1 kHz states."""

from __future__ import annotations

import time

from robot_env.arms.franka.connection import FrankaConnection


class StateClock:
    """Ticks when a state comes; see `base.Clock`."""

    def __init__(self, connection: FrankaConnection) -> None:
        """Tick with the states of a connection."""
        self.due = 0  # [ticks] that came with a state that is not answered yet
        self.woke = time.monotonic_ns()  # [ns], when the last state came
        self._connection = connection

    @property
    def late(self) -> int:
        """States that were missed while in control."""
        return self._connection.late

    @property
    def missed(self) -> int:
        """States that were missed before the last one."""
        return max(0, self.due - 1)

    def wait(self) -> int:
        """Wait for the robot's next state and return the ticks since the last one, at least 1."""
        self.due = self._connection.read()
        self.woke = time.monotonic_ns()
        return self.due

    def take(self) -> int:
        """Return the ticks that are due, which are answered now."""
        due, self.due = self.due, 0
        return due

    def restart(self) -> None:
        """Do nothing: the robot's clock goes on whoever looks."""
