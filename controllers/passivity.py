"""The energy tank: what the controller may give to the arm, exactly, tick by tick.

Between two ticks the torque in effect is constant, so the work on the arm is exact from encoders:
W = tau . (q_k - q_{k-1}). Whatever the springs did not give up for it comes from the tank; what the
dampers took goes back in. A new target is granted only as far as the tank pays the jump in the
springs' energy and the torque limits hold. Hence for every window of length t

    E_out <= V_start + T_max - T_min + P t + (one tick of the largest torque)

Source:
    F. Ferraguti, C. Secchi, C. Fantuzzi, "A Tank-Based Approach to Impedance Control with Variable
    Stiffness", 2013; discrete form and torque-limit gate are our own.
"""

from __future__ import annotations

import numpy as np

from controllers.impedance import spring
from controllers.interpolate import along
from controllers.kernel import kernel
from controllers.kinematics import TORQUE_MAX
from controllers.layout import P, R, S

GRID = 8  # shares of the step that are tried, from the whole down, when it can't be granted
REFINE = 5  # bisections between the largest accepted share and the next


@kernel
def settle(
    params: np.ndarray, state: np.ndarray, reading: np.ndarray, potential: float, refill: bool
) -> bool:
    """Book what the torque in effect did since the last reading; return False on a failed audit.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place; `q` and `potential` are still those of the last tick.
        reading: Of this tick.
        potential: Of springs and barriers at the new joints with the old target [J].
        refill: The controller is healthy and following, so that the tank may refill.
    """
    work, debit = 0.0, 0.0
    for i in range(7):
        moved = reading[R.q + i] - state[S.q + i]
        work += reading[R.acted + i] * moved
        debit += TORQUE_MAX[i] * abs(moved)
    left = state[S.potential] - potential - work
    tank = state[S.tank] + (params[P.harvest] * left if left > 0.0 else left)
    supply = params[P.refill] * params[P.dt] * reading[R.elapsed]
    if refill and tank < params[P.tank_start]:
        tank = min(tank + supply, params[P.tank_start])
    state[S.tank] = min(tank, params[P.tank_max])
    state[S.work] += work
    state[S.audit] = max(state[S.audit], -state[S.potential]) + work - supply
    return state[S.audit] <= params[P.tank_max] - params[P.tank_min] + 2.0 * debit + 1e-9


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
    return fits


@kernel
def gate(
    params: np.ndarray,
    state: np.ndarray,
    jacobian: np.ndarray,
    rest: np.ndarray,
    held: np.ndarray,
    wanted: np.ndarray,
    share: float,
    torque: np.ndarray,
) -> None:
    """Grant as much of the step to a new target and stiffness as energy and torque allow.

    If the whole step is affordable it is granted bit for bit. Else the largest share on a grid,
    refined, since neither the energy nor the torque test is monotone in it. If not even standing
    still keeps the torque limits, the whole spring is shrunk, which gives energy back.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `target`, `share`, `tank`, `spring` and the period's sums.
        jacobian: Shape (6, 7).
        rest: Every torque but the spring's, shape (7,) [N m].
        held: What the robot holds until this command takes effect, shape (7,) [N m].
        wanted: Target after the limits, shape (7,).
        share: Wanted share of the stiffness [-].
        torque: Out, total, shape (7,) [N m].
    """
    pose = state[S.pose : S.pose + 7]
    target = state[S.target : S.target + 7]
    force = np.empty(6)
    old_share = state[S.share]
    before = old_share * spring(params, pose, target, force)
    budget = state[S.tank] - params[P.tank_min]

    whole = share * spring(params, pose, wanted, force) - before
    if (
        budget >= 0.0
        and whole <= budget
        and spring_fits(params, jacobian, force, share, rest, held, torque)
    ):
        target[:] = wanted
        state[S.share] = share
        _book(state, whole, whole, before)
        state[S.gate] = 1.0
        return

    state[S.gated] += 1.0
    trial = np.empty(7)
    granted, jump = -1.0, 0.0
    for n in range(GRID - 1, -1, -1):
        jump = _try(params, pose, target, wanted, n / GRID, trial, force, old_share, share, before)
        at = old_share + (n / GRID) * (share - old_share)
        if jump <= max(budget, 0.0) and spring_fits(
            params, jacobian, force, at, rest, held, torque
        ):
            granted = n / GRID
            break
    if granted >= 0.0:
        low, high = granted, granted + 1.0 / GRID
        for _ in range(REFINE):
            mid = 0.5 * (low + high)
            cost = _try(params, pose, target, wanted, mid, trial, force, old_share, share, before)
            at = old_share + mid * (share - old_share)
            if cost <= max(budget, 0.0) and spring_fits(
                params, jacobian, force, at, rest, held, torque
            ):
                low = mid
            else:
                high = mid
        jump = _try(params, pose, target, wanted, low, trial, force, old_share, share, before)
        at = old_share + low * (share - old_share)
        if low == 0.0:
            at = old_share
        if budget < 0.0:
            # the debt is paid by letting the spring go slack, 2 % a tick
            spent = before + jump
            at *= 0.98
            jump = 0.98 * spent - before
        spring_fits(params, jacobian, force, at, rest, held, torque)
        target[:] = trial
        state[S.share] = at
        state[S.gate] = low
        _book(state, jump, whole, before)
        return

    # not even standing still fits: shrink the spring as little as needed
    spring(params, pose, target, force)
    chosen = old_share
    for n in range(2 * GRID - 1, -1, -1):
        if spring_fits(params, jacobian, force, old_share * n / (2 * GRID), rest, held, torque):
            chosen = old_share * n / (2 * GRID)
            break
    spring_fits(params, jacobian, force, chosen, rest, held, torque)
    state[S.share] = chosen
    state[S.gate] = 0.0
    jump = before * (chosen / old_share - 1.0) if old_share > 0.0 else 0.0
    _book(state, jump, whole, before)


@kernel
def _book(state: np.ndarray, jump: float, wanted: float, before: float) -> None:
    state[S.tank] -= jump
    state[S.spring] = before + jump
    state[S.injected] += max(jump, 0.0)
    state[S.refused] += max(wanted, 0.0) - max(jump, 0.0) if wanted > jump else 0.0


@kernel
def _try(
    params: np.ndarray,
    pose: np.ndarray,
    target: np.ndarray,
    wanted: np.ndarray,
    part: float,
    trial: np.ndarray,
    force: np.ndarray,
    old_share: float,
    share: float,
    before: float,
) -> float:
    along(target, wanted, part, trial)
    if part == 0.0:
        trial[:] = target
    at = old_share + part * (share - old_share)
    return at * spring(params, pose, trial, force) - before
