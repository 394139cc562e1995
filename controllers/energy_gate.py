"""The gate: a new target and stiffness are granted as far as energy and torque limits allow.

The whole step, bit for bit, if tank and torque allow it; else the largest share of it. The gate
holds the torque limits itself: a clip behind it would break the account.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.impedance import spring
from controllers.interpolate import pose_at
from controllers.kernel import kernel
from controllers.kinematics import TORQUE_MAX
from controllers.packed import PARAM, STAGE, STATE

GRID_STEPS = 8  # shares of the step that are tried, from the whole down, when it can't be granted
BISECTIONS = 5  # bisections between the largest accepted share and the next
SLACK = 0.98  # [-], what a spring keeps per tick while its debt is paid


@kernel
def within_torque_limits(
    params: np.ndarray,
    jacobian: np.ndarray,
    force: np.ndarray,
    scale: float,
    non_spring: np.ndarray,
    commanded: np.ndarray,
    torque: np.ndarray,
) -> bool:
    """Write the total torque for a spring's wrench; return whether it keeps the torque limits."""
    fits = True
    for i in range(7):
        total = 0.0
        for c in range(6):
            total += jacobian[c, i] * force[c]
        total = scale * total + non_spring[i]
        torque[i] = total
        if (
            abs(total) > params[PARAM.torque_share] * TORQUE_MAX[i]
            or abs(total - commanded[i]) > params[PARAM.torque_rate]
        ):
            fits = False
    return fits or params[STAGE.torque] == 0.0


@kernel
def limit_step_by_energy(
    params: np.ndarray,
    state: np.ndarray,
    jacobian: np.ndarray,
    non_spring: np.ndarray,
    commanded: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
    scale: float,
    torque: np.ndarray,
) -> None:
    """Grant as much of the step to a new target and stiffness as energy and torque allow.

    If the whole step is affordable it is granted bit for bit. Else the largest share on a grid,
    refined, since neither the energy nor the torque test is monotone in it. If not even standing
    still keeps the torque limits, the whole spring is shrunk, which gives energy back.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `target`, `stiffness`, `stiffness_scale`, `tank`,
            `spring` and sums.
        jacobian: Shape (6, 7).
        non_spring: Every torque but the spring's, shape (7,) [N m].
        commanded: What the robot holds until this torque takes effect, shape (7,) [N m].
        wanted: Target after the limits, shape (7,).
        stiffness: Wanted, shape (4,) [N/m x 3, N m/rad].
        scale: Of the stiffness, wanted [-].
        torque: Out, total, shape (7,) [N m].
    """
    pose = state[STATE.pose : STATE.pose + 7]
    target = state[STATE.target : STATE.target + 7]
    stiffness_now = state[STATE.stiffness : STATE.stiffness + 4]
    force = np.empty(6)
    before = state[STATE.stiffness_scale] * spring(params, stiffness_now, pose, target, force)
    budget = state[STATE.tank] - params[PARAM.tank_min] if params[STAGE.energy] != 0.0 else math.inf

    whole = scale * spring(params, stiffness, pose, wanted, force) - before
    if (
        budget >= 0.0
        and whole <= budget
        and within_torque_limits(params, jacobian, force, scale, non_spring, commanded, torque)
    ):
        target[:] = wanted
        stiffness_now[:] = stiffness
        state[STATE.stiffness_scale] = scale
        _commit(params, state, whole, whole, before, 1.0)
        return

    state[STATE.gated_ticks] += 1.0
    trial, softer = np.empty(7), np.empty(4)
    bound = max(budget, 0.0)
    granted = -1.0
    for n in range(GRID_STEPS - 1, -1, -1):
        part = n / GRID_STEPS
        jump = _potential_change_at(
            params, state, wanted, stiffness, scale, part, before, trial, softer, force
        )
        scale_at = _blend(state[STATE.stiffness_scale], scale, part)
        if jump <= bound and within_torque_limits(
            params, jacobian, force, scale_at, non_spring, commanded, torque
        ):
            granted = part
            break
    if granted < 0.0:
        _release_spring(params, state, jacobian, non_spring, commanded, whole, before, torque)
        return
    low, high = granted, granted + 1.0 / GRID_STEPS
    for _ in range(BISECTIONS):
        part = 0.5 * (low + high)
        jump = _potential_change_at(
            params, state, wanted, stiffness, scale, part, before, trial, softer, force
        )
        scale_at = _blend(state[STATE.stiffness_scale], scale, part)
        if jump <= bound and within_torque_limits(
            params, jacobian, force, scale_at, non_spring, commanded, torque
        ):
            low = part
        else:
            high = part
    jump = _potential_change_at(
        params, state, wanted, stiffness, scale, low, before, trial, softer, force
    )
    scale_at = _blend(state[STATE.stiffness_scale], scale, low)
    if budget < 0.0:  # the debt is paid by letting the spring go slack
        jump = SLACK * (before + jump) - before
        scale_at *= SLACK
    within_torque_limits(params, jacobian, force, scale_at, non_spring, commanded, torque)
    target[:] = trial
    stiffness_now[:] = softer
    state[STATE.stiffness_scale] = scale_at
    _commit(params, state, jump, whole, before, low)


@kernel
def _release_spring(
    params: np.ndarray,
    state: np.ndarray,
    jacobian: np.ndarray,
    non_spring: np.ndarray,
    commanded: np.ndarray,
    whole: float,
    before: float,
    torque: np.ndarray,
) -> None:
    # not even standing still fits: let go of as little of the spring as needed
    force = np.empty(6)
    pose, target = state[STATE.pose : STATE.pose + 7], state[STATE.target : STATE.target + 7]
    spring(params, state[STATE.stiffness : STATE.stiffness + 4], pose, target, force)
    old = state[STATE.stiffness_scale]
    chosen = old
    for n in range(2 * GRID_STEPS - 1, -1, -1):
        if within_torque_limits(
            params, jacobian, force, old * n / (2 * GRID_STEPS), non_spring, commanded, torque
        ):
            chosen = old * n / (2 * GRID_STEPS)
            break
    within_torque_limits(params, jacobian, force, chosen, non_spring, commanded, torque)
    state[STATE.stiffness_scale] = chosen
    jump = before * (chosen / old - 1.0) if old > 0.0 else 0.0
    _commit(params, state, jump, whole, before, 0.0)


@kernel
def _commit(
    params: np.ndarray,
    state: np.ndarray,
    jump: float,
    wanted: float,
    before: float,
    granted: float,
) -> None:
    state[STATE.tank] = min(state[STATE.tank] - jump, params[PARAM.tank_max])
    state[STATE.spring] = before + jump
    state[STATE.energy_injected] += max(jump, 0.0)
    state[STATE.energy_refused] += max(wanted, 0.0) - max(jump, 0.0) if wanted > jump else 0.0
    state[STATE.gate] = granted
    state[STATE.gate_sum] += granted
    state[STATE.gate_low] = min(state[STATE.gate_low], granted)


@kernel
def _blend(old: float, new: float, part: float) -> float:
    # exact at part 0, whatever the two are
    return old + part * (new - old)


@kernel
def _potential_change_at(
    params: np.ndarray,
    state: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
    scale: float,
    part: float,
    before: float,
    trial: np.ndarray,
    softer: np.ndarray,
    force: np.ndarray,
) -> float:
    # write target and stiffness of a part of the step, and return what it costs
    target = state[STATE.target : STATE.target + 7]
    pose_at(target, wanted, part, trial)
    if part == 0.0:
        trial[:] = target
    for i in range(4):
        softer[i] = _blend(state[STATE.stiffness + i], stiffness[i], part)
    pose = state[STATE.pose : STATE.pose + 7]
    scale_at = _blend(state[STATE.stiffness_scale], scale, part)
    return scale_at * spring(params, softer, pose, trial, force) - before
