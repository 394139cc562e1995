"""What a Franka's state means to the chain, in control and outside of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from controllers.kinematics import forward
from controllers.layout import P, R, S
from controllers.robot import Fault, held_mode


def read_state(state: Any, elapsed: int, reading: np.ndarray) -> None:
    """Write what the chain needs of a state, and no more: each of its fields costs a list.

    Args:
        state: `RobotState` of the library.
        elapsed: Since the last one [ticks].
        reading: See `layout.R`, changed in place; the wrench is the environment's on the tool.
    """
    reading[R.q : R.q + 7] = state.q
    reading[R.dq : R.dq + 7] = state.dq
    reading[R.held : R.held + 7] = state.tau_J_d
    reading[R.wrench : R.wrench + 6] = state.O_F_ext_hat_K
    reading[R.wrench : R.wrench + 6] *= -1.0  # as `franka_check.wrench_on_tool`
    reading[R.elapsed] = elapsed


def look(params: np.ndarray, state: np.ndarray, reading: np.ndarray, fault: Fault) -> None:
    """Take note of an arm that its robot holds: no torque is sent.

    Args:
        params: Packed, see `layout.P`.
        state: Of the chain, changed in place: pose, mode and fault.
        reading: Newest one.
        fault: Why the robot is not ours, or none: then it is idle.
    """
    q, jacobian = reading[R.q : R.q + 7], np.empty((6, 7))
    forward(q, params[P.tool : P.tool + 3], state[S.pose : S.pose + 7], jacobian)
    state[S.twist : S.twist + 6] = jacobian @ reading[R.dq : R.dq + 7]
    state[S.q : S.q + 7] = q
    state[S.target : S.target + 7] = state[S.pose : S.pose + 7]
    state[S.tick] += 1.0
    state[S.ticks] += 1.0
    state[S.mode], state[S.fault] = held_mode(fault), fault
