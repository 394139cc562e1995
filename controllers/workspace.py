"""Where the target may be: inside the box, tilted little, outside the keep-out boxes."""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.packed import PARAM
from controllers.rotation import turn, z_axis


@kernel
def bound_box(params: np.ndarray, wanted: np.ndarray) -> bool:
    """Bring a wanted target within box and tilt; return whether it changed.

    Args:
        params: Packed `ControlConfig`.
        wanted: Target of this tick, shape (7,), changed in place.
    """
    changed = False
    for i in range(3):
        kept = min(max(wanted[i], params[PARAM.box_low + i]), params[PARAM.box_high + i])
        changed = changed or kept != wanted[i]
        wanted[i] = kept
    aim = (wanted[3], wanted[4], wanted[5], wanted[6])
    axis = z_axis(aim)
    tilt = math.acos(max(-1.0, min(1.0, -axis[2])))
    if tilt > params[PARAM.max_tilt]:
        # turn back about the horizontal axis that raises the tilt
        length = math.hypot(axis[0], axis[1])
        if length > 1e-9:
            back = (-axis[1] / length, axis[0] / length, 0.0)
            wanted[3], wanted[4], wanted[5], wanted[6] = turn(
                aim, back, tilt - params[PARAM.max_tilt]
            )
            changed = True
    return changed


@kernel
def keep_out(params: np.ndarray, previous: np.ndarray, wanted: np.ndarray) -> bool:
    """Keep a wanted target out of the keep-out boxes; return whether it changed.

    It stays on the side that the last target was on; a target that is inside already leaves by the
    nearest face. Comes after the speed limit: the boxes are thicker than a tick's travel.

    Args:
        params: Packed `ControlConfig`.
        previous: Target of the last tick, shape (7,).
        wanted: Target of this tick, shape (7,), changed in place.
    """
    changed = False
    for n in range(int(params[PARAM.boxes])):
        at = PARAM.keep_out + 6 * n
        inside = True
        for i in range(3):
            inside = inside and params[at + i] < wanted[i] < params[at + 3 + i]
        if not inside:
            continue
        axis, face, best = 0, wanted[0], math.inf
        for i in range(3):
            low, high = params[at + i], params[at + 3 + i]
            # a side that the last target was beyond costs nothing, so it wins
            down = 0.0 if previous[i] <= low else wanted[i] - low
            up = 0.0 if previous[i] >= high else high - wanted[i]
            if down < best:
                axis, face, best = i, low, down
            if up < best:
                axis, face, best = i, high, up
        wanted[axis] = face
        changed = True
    return changed
