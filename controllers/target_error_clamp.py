"""The target's error is bounded: it runs no farther ahead of the tool than the spring can feel.

It is what makes the tank transparent to normal pressing: a target pulled far into a wall would
charge the spring at K c per metre.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.packed import PARAM
from controllers.rotation import between, turn


@kernel
def clamp_target_error(params: np.ndarray, pose: np.ndarray, wanted: np.ndarray) -> bool:
    """Bring a wanted target within reach of the tool; return whether it changed.

    Args:
        params: Packed `ControlConfig`.
        pose: Of the tool, shape (7,).
        wanted: Target of this tick, shape (7,), changed in place.
    """
    changed = False
    reach = params[PARAM.target_error_ratio] * params[PARAM.max_stretch]
    for i in range(3):
        kept = min(max(wanted[i], pose[i] - reach), pose[i] + reach)
        changed = changed or kept != wanted[i]
        wanted[i] = kept
    here = (pose[3], pose[4], pose[5], pose[6])
    aim = (wanted[3], wanted[4], wanted[5], wanted[6])
    phi = between(here, aim)
    angle = math.sqrt(phi[0] * phi[0] + phi[1] * phi[1] + phi[2] * phi[2])
    limit = params[PARAM.target_error_ratio] * params[PARAM.max_rotational_stretch]
    if angle > limit:
        wanted[3], wanted[4], wanted[5], wanted[6] = turn(here, phi, limit / angle)
        changed = True
    return changed
