"""The last stage: whatever comes before, torque and torque rate hold and the output is finite."""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.kinematics import TORQUE_MAX


@kernel
def saturate_torque(torque: np.ndarray, commanded: np.ndarray, rate: float) -> bool:
    """Clip each joint's torque and its step; return whether that changed it.

    Args:
        torque: Wished, shape (7,), changed in place [N m].
        commanded: What the robot holds until this torque takes effect, shape (7,) [N m].
        rate: Largest step [N m/tick].
    """
    limited = False
    for i in range(7):
        limit = TORQUE_MAX[i]
        here = max(-limit, min(limit, commanded[i]))  # no arm holds more than it can give
        low, high = max(-limit, here - rate), min(limit, here + rate)
        wished = torque[i]
        if not math.isfinite(wished):
            wished = 0.0
        torque[i] = min(max(wished, low), high)
        limited = limited or torque[i] != wished
    return limited
