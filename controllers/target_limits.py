"""Every limit of the target's place and speed, in the order in which none undoes another.

Only |tau| and |dtau| hold whatever happens; positions, velocities and forces are bounded for a
known payload and no outside force beyond what the joints can carry.
"""

from __future__ import annotations

import numpy as np

from controllers.kernel import kernel
from controllers.packed import STAGE
from controllers.speed import bound_speed
from controllers.target_error_clamp import clamp_target_error
from controllers.workspace import bound_box, keep_out


@kernel
def bound_target(
    params: np.ndarray, pose: np.ndarray, previous: np.ndarray, speed: float, wanted: np.ndarray
) -> bool:
    """Bring a wanted target within error, box, tilt, speed and keep-out; return if it changed.

    The error comes before the box, so that it can't pull the target out of it. Speed comes after
    both: a target between two that are allowed is allowed too. Keep-out boxes, which have no such
    property, come last.

    Args:
        params: Packed `ControlConfig`.
        pose: Of the tool, shape (7,).
        previous: Target of the last tick, shape (7,).
        speed: How fast the target may move now [m/s].
        wanted: Target of this tick, shape (7,), changed in place.
    """
    changed = False
    if params[STAGE.target_error] != 0.0:
        changed = clamp_target_error(params, pose, wanted) or changed
    if params[STAGE.box] != 0.0:
        changed = bound_box(params, wanted) or changed
    if params[STAGE.speed] != 0.0:
        changed = bound_speed(params, speed, previous, wanted) or changed
    if params[STAGE.keep_out] != 0.0:
        changed = keep_out(params, previous, wanted) or changed
    return changed
