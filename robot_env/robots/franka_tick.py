"""A tick in control of a Franka: from what the robot said to a torque that may be sent."""

from __future__ import annotations

import numpy as np

from controllers.chain import advance, initial_state
from controllers.kinematics import READY
from controllers.layout import READING_SIZE, R, empty_mailbox
from robot_env.recorder.record import Tape, begin_tick, end_tick, no_tape
from robot_env.robots.franka_check import guard
from robot_env.robots.plant import TRACE_WIDTH, record

_ECHOES = 8  # [ticks] of echoed torque that are kept, for the configured delay
_RATE = 0.999  # [N m] per tick; the robot aborts above 1


class ControlTick:
    """The chain between echoed torque and guarded command; no I/O."""

    def __init__(self, delay: int) -> None:
        """Begin without a torque.

        Args:
            delay: From the echoed torque to the torque at the joints [ticks].
        """
        self.sent = np.zeros(7)  # last command [N m]
        self._wished = np.zeros(7)
        self._echoes, self._delay = np.zeros((_ECHOES, 7)), delay

    def begin(self, reading: np.ndarray) -> None:
        """Begin control with a torque of zero.

        Args:
            reading: First one in control.
        """
        self.sent[:] = 0.0
        self._echoes[:] = reading[R.held : R.held + 7]

    def advance(
        self,
        params: np.ndarray,
        state: np.ndarray,
        reading: np.ndarray,
        mailbox: np.ndarray,
        critic: np.ndarray,
        tape: Tape,
    ) -> None:
        """Run the chain for a reading; the torque it wishes is not guarded yet.

        Args:
            params: See `layout.P`.
            state: See `layout.S`, changed in place.
            reading: Newest one; the torque that acted is filled in.
            mailbox: See `layout.M`.
            critic: Packed risk critic.
            tape: Flight recorder's ring.
        """
        echoes = self._echoes
        for _ in range(min(int(reading[R.elapsed]), _ECHOES)):
            echoes[1:] = echoes[:-1]
            echoes[0] = reading[R.held : R.held + 7]
        reading[R.acted : R.acted + 7] = echoes[self._delay]
        begin_tick(tape, state)
        advance(params, state, reading, mailbox, critic, self._wished)
        end_tick(tape, state, reading, mailbox, self._wished)

    def guarded(self, reading: np.ndarray) -> np.ndarray:
        """Return the torque to send (7,) [N m]: finite, within a step of what may be in effect."""
        guard(self._wished, reading[R.held : R.held + 7], self.sent, _RATE)
        self.sent[:] = self._wished
        return self.sent


def compile_tick(params: np.ndarray, critic: np.ndarray) -> None:
    """Compile what a tick runs through, on an arm that does not exist."""
    reading, row = np.zeros(READING_SIZE), np.empty(TRACE_WIDTH)
    reading[R.q : R.q + 7] = READY
    reading[R.mass : R.mass + 49] = np.eye(7).ravel()
    reading[R.elapsed] = 1.0
    state, tick = initial_state(params), ControlTick(0)
    tick.advance(params, state, reading, empty_mailbox(), critic, no_tape())
    record(row, 0.0, state, reading, tick.guarded(reading))
