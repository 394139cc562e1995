"""The gate: a new target and stiffness are granted as far as energy and torque limits allow.

The whole step, bit for bit, if tank and torque allow it; else the largest share of it. The gate
holds the torque limits itself: a clip behind it would break the account.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.impedance import spring
from controllers.interpolate import along
from controllers.kernel import kernel
from controllers.kinematics import TORQUE_MAX
from controllers.layout import ON, P, S

GRID = 8  # shares of the step that are tried, from the whole down, when it can't be granted
REFINE = 5  # bisections between the largest accepted share and the next
SLACK = 0.98  # [-], what a spring keeps per tick while its debt is paid


@kernel
def spring_fits(
    params: np.ndarray,
    jacobian: np.ndarray,
    force: np.ndarray,
    share: float,
    rest: np.ndarray,
    held: np.ndarray,
    torque: np.ndarray,
) -> bool:
    """Write the total torque for a spring's wrench; return whether it keeps the torque limits."""
    fits = True
    for i in range(7):
        total = 0.0
        for c in range(6):
            total += jacobian[c, i] * force[c]
        total = share * total + rest[i]
        torque[i] = total
        if (
            abs(total) > params[P.torque_share] * TORQUE_MAX[i]
            or abs(total - held[i]) > params[P.torque_rate]
        ):
            fits = False
    return fits or params[ON.torque] == 0.0


@kernel
def gate(
    params: np.ndarray,
    state: np.ndarray,
    jacobian: np.ndarray,
    rest: np.ndarray,
    held: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
    share: float,
    torque: np.ndarray,
) -> None:
    """Grant as much of the step to a new target and stiffness as energy and torque allow.

    If the whole step is affordable it is granted bit for bit. Else the largest share on a grid,
    refined, since neither the energy nor the torque test is monotone in it. If not even standing
    still keeps the torque limits, the whole spring is shrunk, which gives energy back.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `target`, `stiffness`, `share`, `tank`, `spring` and sums.
        jacobian: Shape (6, 7).
        rest: Every torque but the spring's, shape (7,) [N m].
        held: What the robot holds until this command takes effect, shape (7,) [N m].
        wanted: Target after the limits, shape (7,).
        stiffness: Wanted, shape (4,) [N/m x 3, N m/rad].
        share: Wanted share of the stiffness [-].
        torque: Out, total, shape (7,) [N m].
    """
    pose = state[S.pose : S.pose + 7]
    target = state[S.target : S.target + 7]
    held_stiffness = state[S.stiffness : S.stiffness + 4]
    force = np.empty(6)
    before = state[S.share] * spring(params, held_stiffness, pose, target, force)
    budget = state[S.tank] - params[P.tank_min] if params[ON.energy] != 0.0 else math.inf

    whole = share * spring(params, stiffness, pose, wanted, force) - before
    if (
        budget >= 0.0
        and whole <= budget
        and spring_fits(params, jacobian, force, share, rest, held, torque)
    ):
        target[:] = wanted
        held_stiffness[:] = stiffness
        state[S.share] = share
        _book(params, state, whole, whole, before, 1.0)
        return

    state[S.gated] += 1.0
    trial, softer = np.empty(7), np.empty(4)
    bound = max(budget, 0.0)
    granted = -1.0
    for n in range(GRID - 1, -1, -1):
        part = n / GRID
        jump = _try(params, state, wanted, stiffness, share, part, before, trial, softer, force)
        at = _blend(state[S.share], share, part)
        if jump <= bound and spring_fits(params, jacobian, force, at, rest, held, torque):
            granted = part
            break
    if granted < 0.0:
        _shrink(params, state, jacobian, rest, held, whole, before, torque)
        return
    low, high = granted, granted + 1.0 / GRID
    for _ in range(REFINE):
        part = 0.5 * (low + high)
        jump = _try(params, state, wanted, stiffness, share, part, before, trial, softer, force)
        at = _blend(state[S.share], share, part)
        if jump <= bound and spring_fits(params, jacobian, force, at, rest, held, torque):
            low = part
        else:
            high = part
    jump = _try(params, state, wanted, stiffness, share, low, before, trial, softer, force)
    at = _blend(state[S.share], share, low)
    if budget < 0.0:  # the debt is paid by letting the spring go slack
        jump = SLACK * (before + jump) - before
        at *= SLACK
    spring_fits(params, jacobian, force, at, rest, held, torque)
    target[:] = trial
    held_stiffness[:] = softer
    state[S.share] = at
    _book(params, state, jump, whole, before, low)


@kernel
def _shrink(
    params: np.ndarray,
    state: np.ndarray,
    jacobian: np.ndarray,
    rest: np.ndarray,
    held: np.ndarray,
    whole: float,
    before: float,
    torque: np.ndarray,
) -> None:
    # not even standing still fits: let go of as little of the spring as needed
    force = np.empty(6)
    pose, target = state[S.pose : S.pose + 7], state[S.target : S.target + 7]
    spring(params, state[S.stiffness : S.stiffness + 4], pose, target, force)
    old = state[S.share]
    chosen = old
    for n in range(2 * GRID - 1, -1, -1):
        if spring_fits(params, jacobian, force, old * n / (2 * GRID), rest, held, torque):
            chosen = old * n / (2 * GRID)
            break
    spring_fits(params, jacobian, force, chosen, rest, held, torque)
    state[S.share] = chosen
    jump = before * (chosen / old - 1.0) if old > 0.0 else 0.0
    _book(params, state, jump, whole, before, 0.0)


@kernel
def _book(
    params: np.ndarray,
    state: np.ndarray,
    jump: float,
    wanted: float,
    before: float,
    granted: float,
) -> None:
    state[S.tank] = min(state[S.tank] - jump, params[P.tank_max])
    state[S.spring] = before + jump
    state[S.injected] += max(jump, 0.0)
    state[S.refused] += max(wanted, 0.0) - max(jump, 0.0) if wanted > jump else 0.0
    state[S.gate] = granted
    state[S.gate_sum] += granted
    state[S.gate_low] = min(state[S.gate_low], granted)


@kernel
def _blend(old: float, new: float, part: float) -> float:
    # exact at part 0, whatever the two are
    return old + part * (new - old)


@kernel
def _try(
    params: np.ndarray,
    state: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
    share: float,
    part: float,
    before: float,
    trial: np.ndarray,
    softer: np.ndarray,
    force: np.ndarray,
) -> float:
    # write target and stiffness of a part of the step, and return what it costs
    target = state[S.target : S.target + 7]
    along(target, wanted, part, trial)
    if part == 0.0:
        trial[:] = target
    for i in range(4):
        softer[i] = _blend(state[S.stiffness + i], stiffness[i], part)
    pose = state[S.pose : S.pose + 7]
    at = _blend(state[S.share], share, part)
    return at * spring(params, softer, pose, trial, force) - before
