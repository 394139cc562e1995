"""One control tick, and the order of its stages.

    validity → settle the tank with the torque in effect → request and staleness → path →
    leash, box, cone, speed limit → gate on energy and torque → impedance → last-line clip

Settling comes first, so that only settled energy is spent. The gate comes after the limits, which
only shrink a step, and holds every torque limit itself: a clip after it would break the account, so
the last line should never act. Why in detail: docs/control.md.
"""

from __future__ import annotations

import numpy as np

from controllers.config import ControlConfig
from controllers.impedance import rest_torque, shape, spring
from controllers.interpolate import along
from controllers.kernel import kernel
from controllers.kinematics import READY, forward
from controllers.layout import STATE_SIZE, P, R, S
from controllers.limits import bound_target, bound_torque
from controllers.passivity import gate, settle
from controllers.robot import Fault
from controllers.watchdog import (
    FAULT,
    FOLLOWING,
    HOLDING,
    HUMAN,
    IDLE,
    SOFT_STOP,
    judge_state,
    take_request,
    watch,
)

__all__ = ["ControlConfig", "advance", "begin_period", "initial_state", "step"]

RESHAPE = 8  # [ticks] between updates of damping and projector; the pose moves < 2 mm meanwhile
AUDIT = int(Fault.ENERGY_AUDIT)
PERIOD_SUMS = (S.gated, S.gate)  # first and one past the last of the period's sums


def initial_state(params: np.ndarray, q: np.ndarray = READY) -> np.ndarray:
    """Return the state of an arm at rest with a full tank, holding where it is.

    Args:
        params: Packed `ControlConfig`.
        q: Joint angles, shape (7,) [rad].
    """
    state = np.zeros(STATE_SIZE)
    state[S.mode] = HOLDING
    state[[S.seq, S.seen, S.age, S.source]] = -1.0
    state[S.q : S.q + 7] = state[S.posture : S.posture + 7] = q
    forward(state[S.q : S.q + 7], params[P.tool : P.tool + 3], state[S.pose :], np.empty((6, 7)))
    for at in (S.start, S.goal, S.target):
        state[at : at + 7] = state[S.pose : S.pose + 7]
    state[S.progress] = params[P.period]
    state[S.share] = 1.0
    state[S.tank] = params[P.tank_start]
    return state


def begin_period(state: np.ndarray) -> None:
    """Set the sums and peaks of a policy period to zero, in place."""
    state[PERIOD_SUMS[0] : PERIOD_SUMS[1]] = 0.0


@kernel
def step(
    params: np.ndarray, state: np.ndarray, reading: np.ndarray, mailbox: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the state after a tick and the torque to send; the old state stays valid.

    Args:
        params: Packed `ControlConfig`, see `layout.P`.
        state: See `layout.S`.
        reading: What the robot said, see `layout.R`.
        mailbox: What the host says, see `layout.M`.

    Returns:
        State (STATE_SIZE,) and torque (7,) [N m], gravity excluded.
    """
    after = state.copy()
    torque = np.empty(7)
    advance(params, after, reading, mailbox, torque)
    return after, torque


@kernel
def advance(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    mailbox: np.ndarray,
    torque: np.ndarray,
) -> None:
    """Do what `step` does in place: `state` is changed, `torque` is written."""
    fault = judge_state(params, state, reading)
    if fault != 0 and int(state[S.mode]) != FAULT:
        state[S.mode], state[S.fault] = FAULT, fault
    if int(state[S.mode]) == FAULT or int(state[S.mode]) == IDLE:
        _let_go(params, state, reading, torque)
        return

    q = reading[R.q : R.q + 7]
    jacobian = np.empty((6, 7))
    pose = state[S.pose : S.pose + 7]
    target = state[S.target : S.target + 7]
    forward(q, params[P.tool : P.tool + 3], pose, jacobian)
    for c in range(6):
        total = 0.0
        for i in range(7):
            total += jacobian[c, i] * reading[R.dq + i]
        state[S.twist + c] = total
    if int(state[S.tick]) % RESHAPE == 0:
        shape(params, state, reading, jacobian)

    rest = np.empty(7)
    starved = state[S.tank] < params[P.tank_min]
    barriers = rest_torque(params, state, reading, jacobian, starved, rest)
    force = np.empty(6)
    potential = state[S.share] * spring(params, pose, target, force) + barriers
    if state[S.tick] == 0.0:
        state[S.potential] = potential
    mode = int(state[S.mode])
    fresh = (mode in (FOLLOWING, HUMAN)) and state[S.stale] == 0.0
    if not settle(params, state, reading, potential, fresh or mode == HOLDING):
        state[S.mode], state[S.fault] = SOFT_STOP, AUDIT

    take_request(state, mailbox)
    share = watch(params, state, reading, mailbox)
    wanted = np.empty(7)
    if state[S.progress] < params[P.period]:
        state[S.progress] += 1.0
    along(
        state[S.start : S.start + 7],
        state[S.goal : S.goal + 7],
        state[S.progress] / params[P.period],
        wanted,
    )
    if bound_target(params, pose, target, wanted):
        state[S.leashed] += 1.0

    held = reading[R.held : R.held + 7]
    gate(params, state, jacobian, rest, held, wanted, share, torque)
    if bound_torque(torque, held, params[P.torque_rate]):
        state[S.clipped] += 1.0

    state[S.potential] = state[S.spring] + barriers
    state[S.q : S.q + 7] = q
    state[S.torque : S.torque + 7] = torque
    _sum_up(state, reading)


@kernel
def _let_go(params: np.ndarray, state: np.ndarray, reading: np.ndarray, torque: np.ndarray) -> None:
    # damp while the velocity can be read, else only ramp; never trust a held torque that is not
    # finite either
    held = np.empty(7)
    for i in range(7):
        dq = reading[R.dq + i]
        torque[i] = -4.0 * params[P.joint_damping] * dq if np.isfinite(dq) else 0.0
        held[i] = reading[R.held + i]
        if not np.isfinite(held[i]):
            held[i] = state[S.torque + i]
        if np.isfinite(reading[R.q + i]):
            state[S.q + i] = reading[R.q + i]
    bound_torque(torque, held, params[P.torque_rate])
    state[S.torque : S.torque + 7] = torque
    state[S.tick] += 1.0
    state[S.ticks] += 1.0


@kernel
def _sum_up(state: np.ndarray, reading: np.ndarray) -> None:
    force, speed = 0.0, 0.0
    for i in range(3):
        force += reading[R.wrench + i] * reading[R.wrench + i]
        speed += state[S.twist + i] * state[S.twist + i]
    state[S.force_square] += force
    state[S.force_peak] = max(state[S.force_peak], np.sqrt(force))
    state[S.speed_peak] = max(state[S.speed_peak], np.sqrt(speed))
    state[S.tick] += 1.0
    state[S.ticks] += 1.0
