"""Is the measured state believable? First stage of a tick."""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.layout import READING_SIZE, P, R, S
from controllers.robot import Fault

NOT_FINITE, JUMP = int(Fault.STATE_NOT_FINITE), int(Fault.STATE_JUMP)
JOINT = int(Fault.JOINT_LIMIT)
BEYOND = 0.01  # [rad], past a joint's limit that encoders may still show


@kernel
def judge_state(params: np.ndarray, state: np.ndarray, reading: np.ndarray) -> int:
    """Return the fault that the measured state shows, or 0.

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain after the last tick.
        reading: Of this tick.
    """
    for i in range(READING_SIZE):
        if not math.isfinite(reading[i]):
            return NOT_FINITE
    for i in range(7):
        reach = 1.5 * params[P.dq_max + i] * params[P.dt] * reading[R.elapsed]
        if abs(reading[R.q + i] - state[S.q + i]) > reach:
            return JUMP
        low, high = params[P.q_low + i] - BEYOND, params[P.q_high + i] + BEYOND
        if not low <= reading[R.q + i] <= high:
            return JOINT
    return 0
