"""What a Franka's state means to the chain, in control and outside of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from controllers.kinematics import forward
from controllers.packed import MEAS, PARAM, STATE
from controllers.robot import Fault, mode_without_control


def read_state(state: Any, elapsed: int, measurement: np.ndarray) -> None:
    """Write what the chain needs of a state, and no more: each of its fields costs a list.

    Args:
        state: `RobotState` of the library.
        elapsed: Since the last one [ticks].
        measurement: See `packed.MEAS`, changed in place; the wrench is the environment's on the
            tool.
    """
    measurement[MEAS.q : MEAS.q + 7] = state.q
    measurement[MEAS.dq : MEAS.dq + 7] = state.dq
    measurement[MEAS.commanded_torque : MEAS.commanded_torque + 7] = state.tau_J_d
    measurement[MEAS.wrench : MEAS.wrench + 6] = state.O_F_ext_hat_K
    measurement[MEAS.wrench : MEAS.wrench + 6] *= -1.0  # as `checks.wrench_on_tool`
    measurement[MEAS.elapsed] = elapsed


def observe_held_arm(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, fault: Fault
) -> None:
    """Take note of an arm that its robot holds: no torque is sent.

    Args:
        params: Packed, see `packed.PARAM`.
        state: Of the chain, changed in place: pose, mode and fault.
        measurement: Newest one.
        fault: Why the robot is not ours, or none: then it is idle.
    """
    q, jacobian = measurement[MEAS.q : MEAS.q + 7], np.empty((6, 7))
    forward(q, params[PARAM.tool : PARAM.tool + 3], state[STATE.pose : STATE.pose + 7], jacobian)
    state[STATE.twist : STATE.twist + 6] = jacobian @ measurement[MEAS.dq : MEAS.dq + 7]
    state[STATE.q : STATE.q + 7] = q
    state[STATE.target : STATE.target + 7] = state[STATE.pose : STATE.pose + 7]
    state[STATE.tick] += 1.0
    state[STATE.ticks] += 1.0
    state[STATE.mode], state[STATE.fault] = mode_without_control(fault), fault
