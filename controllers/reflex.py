"""The risk critic's reflex: a modifier of every source's request that only lowers authority.

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

from controllers.bias import felt, least_stiffness
from controllers.impedance import spring
from controllers.kernel import kernel
from controllers.layout import P, R, S


@kernel
def react(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    on: float,
    off: float,
    wanted: np.ndarray,
    stiffness: np.ndarray,
) -> bool:
    """Lower target and stiffness while the risk is high; return whether the arm must stop.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place; `risk` is this tick's.
        reading: Of this tick.
        on: Risk that begins a reflex [-].
        off: Risk below which it may end [-].
        wanted: Target after the limits, shape (7,), changed in place.
        stiffness: Wanted, shape (4,), changed in place.
    """
    state[S.reflex_age] += reading[R.elapsed]
    latched = False
    if state[S.reflex] == 0.0 and state[S.risk] > on:
        in_a_row = state[S.reflex_age] * params[P.dt] < params[P.reflex_window]
        state[S.reflexes] = state[S.reflexes] + 1.0 if in_a_row else 1.0
        state[S.reflex], state[S.reflex_age] = 1.0, 0.0
        latched = state[S.reflexes] >= params[P.reflex_latch]
        _retreat(params, state, reading)
    soft = max(params[P.reflex_stiffness], least_stiffness(params, state))
    if state[S.reflex] != 0.0:
        wanted[:] = state[S.refuge : S.refuge + 7]
        state[S.ceiling] = soft
        state[S.reflex_ticks] += 1.0
        done = state[S.reflex_age] * params[P.dt] >= params[P.reflex_time]
        if done and state[S.risk] < off:
            state[S.reflex] = 0.0
    elif state[S.ceiling] < params[P.stiffness_range + 1]:
        state[S.ceiling] += params[P.reflex_ramp] * params[P.dt] * reading[R.elapsed]
    for i in range(3):
        stiffness[i] = min(stiffness[i], state[S.ceiling])
    return latched


@kernel
def _retreat(params: np.ndarray, state: np.ndarray, reading: np.ndarray) -> None:
    # a quarter of the pull, moved along the force ON the tool, which leads away from what it meets;
    # never where the spring would hold more than it does
    push = np.empty(3)
    norm = felt(state, reading, push)
    pose, target = state[S.pose : S.pose + 7], state[S.target : S.target + 7]
    refuge = state[S.refuge : S.refuge + 7]
    bound = 0.25 * params[P.clip]
    for i in range(7):
        refuge[i] = target[i]
    for i in range(3):
        refuge[i] = pose[i] + max(-bound, min(bound, target[i] - pose[i]))
        if norm > params[P.contact_force]:
            refuge[i] += params[P.reflex_retreat] * push[i] / norm
        refuge[i] = min(max(refuge[i], params[P.box_low + i]), params[P.box_high + i])
    force = np.empty(6)
    held = state[S.stiffness : S.stiffness + 4]
    if spring(params, held, pose, refuge, force) > spring(params, held, pose, target, force):
        for i in range(7):
            refuge[i] = target[i]
