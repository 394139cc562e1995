"""The passivity observer: audits what really left the controller, and brakes if it was too much.

It reads the torque in effect, not the ledger, so that it holds where the ledger errs. Its damping
comes after the gate and obeys the last line.

Source:
    B. Hannaford, J.-H. Ryu, "Time-Domain Passivity Control of Haptic Interfaces", 2002.
"""

from __future__ import annotations

import numpy as np

from controllers.kernel import kernel
from controllers.layout import P, R, S

REST = 1e-3  # [rad^2/s^2], below that there is nothing to brake and noise would kick


@kernel
def brake_excess(
    params: np.ndarray, state: np.ndarray, reading: np.ndarray, torque: np.ndarray
) -> bool:
    """Add damping in proportion to the energy that left beyond its window; return whether it acted.

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain, `audit` of this tick.
        reading: Of this tick.
        torque: Shape (7,), changed in place [N m].
    """
    excess = state[S.audit] - (params[P.tank_max] - params[P.tank_min])
    if excess <= 0.0:
        return False
    square = 0.0
    for i in range(7):
        square += reading[R.dq + i] * reading[R.dq + i]
    if square < REST:
        return False
    alpha = min(excess / (params[P.dt] * square), params[P.observer_damping])
    for i in range(7):
        torque[i] -= alpha * reading[R.dq + i]
    return True
