"""The risk critic's reflex: it changes every request, and only towards less stiffness.

When the risk rises above its threshold the target is drawn back to the tool, and a little along the
force on it, and the stiffness falls, in the same tick; torque follows within its rate. The reflex
lasts until the risk is low again, for a shortest time; then the stiffness comes back on a ramp. Too
many in a row stop the arm.

Source:
    "Bresa" (arXiv 2503.21989): a safety critic judged at the rate of the controller; the law here
    is our own.
"""

from __future__ import annotations

import numpy as np

from controllers.force_bias import contact_force, min_stiffness_for_payload
from controllers.impedance import spring
from controllers.kernel import kernel
from controllers.packed import MEAS, PARAM, STATE


@kernel
def apply_reflex(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    on: float,
    off: float,
    wanted: np.ndarray,
    stiffness: np.ndarray,
) -> bool:
    """Lower target and stiffness while the risk is high; return whether the arm must stop.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place; `risk` is this tick's.
        measurement: Of this tick.
        on: Risk that begins a reflex [-].
        off: Risk below which it may end [-].
        wanted: Target after the limits, shape (7,), changed in place.
        stiffness: Wanted, shape (4,), changed in place.
    """
    state[STATE.reflex_age] += measurement[MEAS.elapsed]
    latched = False
    if state[STATE.reflex_active] == 0.0 and state[STATE.risk] > on:
        in_a_row = state[STATE.reflex_age] * params[PARAM.dt] < params[PARAM.reflex_window]
        state[STATE.reflexes_in_a_row] = state[STATE.reflexes_in_a_row] + 1.0 if in_a_row else 1.0
        state[STATE.reflex_active], state[STATE.reflex_age] = 1.0, 0.0
        latched = state[STATE.reflexes_in_a_row] >= params[PARAM.reflexes_before_stop]
        _choose_retreat(params, state, measurement)
    soft = max(params[PARAM.reflex_stiffness], min_stiffness_for_payload(params, state))
    if state[STATE.reflex_active] != 0.0:
        wanted[:] = state[STATE.retreat_pose : STATE.retreat_pose + 7]
        state[STATE.stiffness_cap] = soft
        state[STATE.reflex_ticks] += 1.0
        done = state[STATE.reflex_age] * params[PARAM.dt] >= params[PARAM.reflex_time]
        if done and state[STATE.risk] < off:
            state[STATE.reflex_active] = 0.0
    elif state[STATE.stiffness_cap] < params[PARAM.stiffness_range + 1]:
        state[STATE.stiffness_cap] += (
            params[PARAM.reflex_ramp] * params[PARAM.dt] * measurement[MEAS.elapsed]
        )
    for i in range(3):
        stiffness[i] = min(stiffness[i], state[STATE.stiffness_cap])
    return latched


@kernel
def _choose_retreat(params: np.ndarray, state: np.ndarray, measurement: np.ndarray) -> None:
    # a quarter of the pull, moved along the force ON the tool, which leads away from what it meets;
    # never where the spring would hold more than it does
    push = np.empty(3)
    norm = contact_force(state, measurement, push)
    pose, target = state[STATE.pose : STATE.pose + 7], state[STATE.target : STATE.target + 7]
    retreat = state[STATE.retreat_pose : STATE.retreat_pose + 7]
    bound = 0.25 * params[PARAM.max_stretch]
    for i in range(7):
        retreat[i] = target[i]
    for i in range(3):
        retreat[i] = pose[i] + max(-bound, min(bound, target[i] - pose[i]))
        if norm > params[PARAM.contact_force_threshold]:
            retreat[i] += params[PARAM.reflex_retreat] * push[i] / norm
        retreat[i] = min(max(retreat[i], params[PARAM.box_low + i]), params[PARAM.box_high + i])
    force = np.empty(6)
    held = state[STATE.stiffness : STATE.stiffness + 4]
    if spring(params, held, pose, retreat, force) > spring(params, held, pose, target, force):
        for i in range(7):
            retreat[i] = target[i]
