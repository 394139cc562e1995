"""The passivity observer: audits what really left the controller, and brakes if it was too much.

It reads the torque in effect, not the ledger, so that it holds where the ledger errs. Its damping
comes after the gate and obeys the torque limits.

Source:
    B. Hannaford, J.-H. Ryu, "Time-Domain Passivity Control of Haptic Interfaces", 2002.
"""

from __future__ import annotations

import numpy as np

from controllers.kernel import kernel
from controllers.packed import MEAS, PARAM, STATE

MIN_SPEED_SQUARED = 1e-3  # [rad^2/s^2], below that there is nothing to brake and noise would kick


@kernel
def add_passivity_damping(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, torque: np.ndarray
) -> bool:
    """Add damping in proportion to the energy that left beyond its window; return whether it acted.

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain, `passivity_balance` of this tick.
        measurement: Of this tick.
        torque: Shape (7,), changed in place [N m].
    """
    excess = state[STATE.passivity_balance] - (params[PARAM.tank_max] - params[PARAM.tank_min])
    if excess <= 0.0:
        return False
    square = 0.0
    for i in range(7):
        square += measurement[MEAS.dq + i] * measurement[MEAS.dq + i]
    if square < MIN_SPEED_SQUARED:
        return False
    alpha = min(excess / (params[PARAM.dt] * square), params[PARAM.passivity_damping])
    for i in range(7):
        torque[i] -= alpha * measurement[MEAS.dq + i]
    return True
