"""The path from one target to the next over a policy period."""

from __future__ import annotations

import numpy as np

from controllers.kernel import kernel
from controllers.rotation import between, turn


@kernel
def pose_at(start: np.ndarray, goal: np.ndarray, fraction: float, out: np.ndarray) -> None:
    """Write the pose at a fraction of the way, linear in position, shortest in rotation.

    At a fraction of 1 or more the goal is copied bit for bit.

    Args:
        start: Pose, shape (7,): position [m], quaternion xyzw.
        goal: Pose, shape (7,).
        fraction: Of the way, from 0 [-].
        out: Pose, shape (7,).
    """
    if fraction >= 1.0:
        for i in range(7):
            out[i] = goal[i]
        return
    for i in range(3):
        out[i] = start[i] + fraction * (goal[i] - start[i])
    first = (start[3], start[4], start[5], start[6])
    turned = turn(first, between(first, (goal[3], goal[4], goal[5], goal[6])), fraction)
    out[3], out[4], out[5], out[6] = turned
