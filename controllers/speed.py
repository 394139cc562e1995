"""How fast the target may move, and slower where contact is likely.

The peak force of an impact goes with speed, not with stiffness: v sqrt(k m).
"""

from __future__ import annotations

import math

import numpy as np

from controllers.force_bias import contact_force
from controllers.kernel import kernel
from controllers.packed import MEAS, PARAM, STAGE, STATE
from controllers.rotation import between, turn


@kernel
def detect_contact(params: np.ndarray, state: np.ndarray, measurement: np.ndarray) -> None:
    """Note when the tool was last touched.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `ticks_since_contact`.
        measurement: Of this tick.
    """
    if contact_force(state, measurement, np.empty(3)) > params[PARAM.contact_force_threshold]:
        state[STATE.ticks_since_contact] = 0.0
    else:
        state[STATE.ticks_since_contact] += measurement[MEAS.elapsed]


@kernel
def target_speed_limit(params: np.ndarray, state: np.ndarray) -> float:
    """Return how fast the target may move now [m/s].

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain, with this tick's pose.
    """
    if params[STAGE.contact] == 0.0:
        return params[PARAM.max_speed]
    zone, inside = False, True
    for i in range(3):
        low, high = params[PARAM.contact_low + i], params[PARAM.contact_high + i]
        zone = zone or low < high
        inside = inside and low <= state[STATE.pose + i] <= high
    recent = state[STATE.ticks_since_contact] * params[PARAM.dt] < params[PARAM.contact_time]
    if recent or (zone and inside):
        return min(params[PARAM.contact_speed], params[PARAM.max_speed])
    return params[PARAM.max_speed]


@kernel
def bound_speed(params: np.ndarray, speed: float, previous: np.ndarray, wanted: np.ndarray) -> bool:
    """Bring a wanted target within a tick's travel of the last one; return whether it changed.

    Comes after the box: a target between two that are inside a box is inside too.

    Args:
        params: Packed `ControlConfig`.
        speed: Limit now [m/s].
        previous: Target of the last tick, shape (7,).
        wanted: Target of this tick, shape (7,), changed in place.
    """
    changed = False
    step = speed * params[PARAM.dt]
    moved = 0.0
    for i in range(3):
        moved += (wanted[i] - previous[i]) * (wanted[i] - previous[i])
    moved = math.sqrt(moved)
    if moved > step:
        for i in range(3):
            wanted[i] = previous[i] + (wanted[i] - previous[i]) * (step / moved)
        changed = True
    before = (previous[3], previous[4], previous[5], previous[6])
    phi = between(before, (wanted[3], wanted[4], wanted[5], wanted[6]))
    angle = math.sqrt(phi[0] * phi[0] + phi[1] * phi[1] + phi[2] * phi[2])
    step = params[PARAM.max_rotation_speed] * params[PARAM.dt]
    if angle > step:
        wanted[3], wanted[4], wanted[5], wanted[6] = turn(before, phi, step / angle)
        changed = True
    return changed
