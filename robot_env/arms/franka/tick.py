"""A tick in control of a Franka: from what the robot said to a torque that may be sent."""

from __future__ import annotations

import numpy as np

from controllers.chain import advance, initial_state
from controllers.kinematics import READY
from controllers.packed import MEAS, MEASUREMENT_SIZE, empty_command_buffer
from robot_env.arms.franka.checks import limit_torque_step
from robot_env.recorder.ring_record import RingView, begin_tick, end_tick, memory_ring_view

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

    def begin(self, measurement: np.ndarray) -> None:
        """Begin control with a torque of zero.

        Args:
            measurement: First one in control.
        """
        self.sent[:] = 0.0
        self._echoes[:] = measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7]

    def advance(
        self,
        params: np.ndarray,
        state: np.ndarray,
        measurement: np.ndarray,
        command_buffer: np.ndarray,
        critic: np.ndarray,
        ring_view: RingView,
    ) -> None:
        """Run the chain for a measurement; the torque it wishes is not guarded yet.

        Args:
            params: See `packed.PARAM`.
            state: See `packed.STATE`, changed in place.
            measurement: Newest one; the torque that acted is filled in.
            command_buffer: See `packed.CMD`.
            critic: Packed risk critic.
            ring_view: Flight recorder's ring.
        """
        echoes = self._echoes
        for _ in range(min(int(measurement[MEAS.elapsed]), _ECHOES)):
            echoes[1:] = echoes[:-1]
            echoes[0] = measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7]
        measurement[MEAS.applied_torque : MEAS.applied_torque + 7] = echoes[self._delay]
        begin_tick(ring_view, state)
        advance(params, state, measurement, command_buffer, critic, self._wished)
        end_tick(ring_view, state, measurement, command_buffer, self._wished)

    def guarded(self, measurement: np.ndarray) -> np.ndarray:
        """Return the torque to send (7,) [N m]: finite, within a step of what may be in effect."""
        limit_torque_step(
            self._wished,
            measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7],
            self.sent,
            _RATE,
        )
        self.sent[:] = self._wished
        return self.sent


def compile_tick(params: np.ndarray, critic: np.ndarray) -> None:
    """Compile what a tick runs through, on an arm that does not exist."""
    measurement = np.zeros(MEASUREMENT_SIZE)
    measurement[MEAS.q : MEAS.q + 7] = READY
    measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49] = np.eye(7).ravel()
    measurement[MEAS.elapsed] = 1.0
    state, tick = initial_state(params), ControlTick(0)
    tick.advance(params, state, measurement, empty_command_buffer(), critic, memory_ring_view(0))
    tick.guarded(measurement)
