"""Is the measured state believable? First stage of a tick."""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.packed import MEAS, MEASUREMENT_SIZE, PARAM, STATE
from controllers.robot import Fault

NOT_FINITE, JUMP = int(Fault.STATE_NOT_FINITE), int(Fault.STATE_JUMP)
JOINT = int(Fault.JOINT_LIMIT)
ENCODER_MARGIN = 0.01  # [rad], past a joint's limit that encoders may still show


@kernel
def check_measurement(params: np.ndarray, state: np.ndarray, measurement: np.ndarray) -> int:
    """Return the fault that the measured state shows, or 0.

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain after the last tick.
        measurement: Of this tick.
    """
    for i in range(MEASUREMENT_SIZE):
        if not math.isfinite(measurement[i]):
            return NOT_FINITE
    for i in range(7):
        reach = 1.5 * params[PARAM.dq_max + i] * params[PARAM.dt] * measurement[MEAS.elapsed]
        if abs(measurement[MEAS.q + i] - state[STATE.q + i]) > reach:
            return JUMP
        low, high = (
            params[PARAM.q_low + i] - ENCODER_MARGIN,
            params[PARAM.q_high + i] + ENCODER_MARGIN,
        )
        if not low <= measurement[MEAS.q + i] <= high:
            return JOINT
    return 0
