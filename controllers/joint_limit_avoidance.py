"""What keeps the joints off their limits: a spring near the end, a brake near top speed."""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.packed import PARAM


@kernel
def limit_repulsion(
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
def joint_speed_limit(params: np.ndarray, joint: int, q: float, dq: float) -> float:
    """Return how fast a joint may move where it is, the way it moves [rad/s].

    Args:
        params: Packed, see `packed.PARAM`.
        joint: Number of the joint, from 0.
        q: Its angle [rad].
        dq: Its speed, for the direction [rad/s].
    """
    top, slowing = params[PARAM.dq_max + joint], params[PARAM.ddq_slowing + joint]
    if slowing > 0.0:
        left = params[PARAM.q_high + joint] - q if dq > 0.0 else q - params[PARAM.q_low + joint]
        near = math.sqrt(2.0 * slowing * max(left, 0.0)) - params[PARAM.dq_offset + joint]
        top = min(top, max(near, 0.0))
    return top


@kernel
def overspeed_damping(dq: float, top: float, share: float, damping: float) -> float:
    """Return the torque that opposes a joint faster than a share of its limit [N m].

    Args:
        dq: Joint velocity [rad/s].
        top: Its limit [rad/s].
        share: Of the limit where braking begins [-].
        damping: On the excess [N m s/rad].
    """
    excess = abs(dq) - share * top
    if excess <= 0.0:
        return 0.0
    return -math.copysign(damping * excess, dq)
