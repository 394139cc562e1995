"""What keeps the joints off their limits: a spring near the end, a brake near top speed."""

from __future__ import annotations

import math

from controllers.kernel import kernel
from controllers.kinematics import DQ_MAX


@kernel
def barrier(
    q: float, low: float, high: float, margin: float, stiffness: float
) -> tuple[float, float]:
    """Return the torque [N m] and potential [J] that keep a joint off its limits.

    Args:
        q: Joint angle [rad].
        low: Limit [rad].
        high: Limit [rad].
        margin: Where the repulsive spring begins, before the limit [rad].
        stiffness: Of that spring [N m/rad].
    """
    depth = 0.0
    if q < low + margin:
        depth = low + margin - q
    elif q > high - margin:
        depth = high - margin - q
    return stiffness * depth, 0.5 * stiffness * depth * depth


@kernel
def brake(dq: float, joint: int, share: float, damping: float) -> float:
    """Return the torque that opposes a joint faster than a share of its limit [N m]."""
    excess = abs(dq) - share * DQ_MAX[joint]
    if excess <= 0.0:
        return 0.0
    return -math.copysign(damping * excess, dq)
