"""One control tick, and the order of its stages.

    validity → settle the tank with the torque in effect → request, authority, staleness → path →
    leash → box, cone → speed → keep-out → risk and reflex → gate on energy and torque →
    impedance → passivity observer → last line

Settling comes first, so that only settled energy is spent. The gate comes after the limits, which
only shrink a step, and holds every torque limit itself: a clip after it would break the account, so
the last line should never act. Why in detail: docs/control.md.
"""

from __future__ import annotations

import numpy as np

from controllers.authority import forget_credit
from controllers.bias import feel_bias
from controllers.config import ControlConfig
from controllers.gate import gate
from controllers.impedance import blend_damping, rest_torque, shape, spring
from controllers.interpolate import along
from controllers.kernel import kernel
from controllers.kinematics import READY, forward
from controllers.last_line import bound_torque
from controllers.layout import ON, STATE_SIZE, P, R, S
from controllers.limits import bound_target
from controllers.observer import brake_excess
from controllers.reflex import react
from controllers.request import take_request
from controllers.risk import PLACED, SCRATCH, empty_critic, features, place, risk
from controllers.robot import Fault, Mode
from controllers.settle import settle
from controllers.speed import feel_contact, speed_limit
from controllers.validity import judge_state
from controllers.watchdog import soft_stop, watch
from handrail.critic import C

__all__ = ["ControlConfig", "advance", "begin_period", "initial_state", "step"]

IDLE, HOLDING, FOLLOWING = int(Mode.IDLE), int(Mode.HOLDING), int(Mode.FOLLOWING)
HUMAN, SOFT_STOP, FAULT = int(Mode.HUMAN), int(Mode.SOFT_STOP), int(Mode.FAULT)
AUDIT, REFLEXES = int(Fault.ENERGY_AUDIT), int(Fault.REFLEXES)
RESHAPE = 8  # [ticks] between updates of damping and projector; the pose moves < 2 mm meanwhile
BLEND = 0.05  # [-], per tick, of the damping towards its goal
LONG_AGO = 1e9  # [ticks]
PERIOD_SUMS = (S.gated, S.gate)  # first and one past the last of the period's sums
NO_CRITIC = empty_critic()
NO_RECORD = np.zeros(0)


def initial_state(params: np.ndarray, q: np.ndarray = READY) -> np.ndarray:
    """Return the state of an arm at rest with a full tank, holding where it is.

    Args:
        params: Packed `ControlConfig`.
        q: Joint angles, shape (7,) [rad].
    """
    state = np.zeros(STATE_SIZE)
    state[S.mode] = HOLDING
    state[[S.seq, S.seen, S.age, S.source]] = -1.0
    state[[S.touched, S.reflex_age]] = LONG_AGO
    state[S.ceiling] = params[P.stiffness_range + 1]
    state[S.q : S.q + 7] = state[S.posture : S.posture + 7] = q
    forward(state[S.q : S.q + 7], params[P.tool : P.tool + 3], state[S.pose :], np.empty((6, 7)))
    for at in (S.start, S.goal, S.target, S.refuge):
        state[at : at + 7] = state[S.pose : S.pose + 7]
    for at in (S.asked, S.stiffness):
        state[at : at + 3] = params[P.stiffness : P.stiffness + 3]
        state[at + 3] = params[P.rotational_stiffness]
    state[S.asked + 4] = state[S.ratio] = params[P.damping_ratio]
    state[S.progress] = params[P.period]
    state[S.share] = 1.0
    state[S.tank] = params[P.tank_start]
    begin_period(state)
    return state


def begin_period(state: np.ndarray) -> None:
    """Set the sums and peaks of a policy period to their beginning, in place."""
    state[PERIOD_SUMS[0] : PERIOD_SUMS[1]] = 0.0
    state[S.gate_low] = 1.0
    state[S.tank_low] = state[S.tank]


@kernel
def step(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    mailbox: np.ndarray,
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
    advance(params, after, reading, mailbox, NO_CRITIC, torque)
    return after, torque


@kernel
def advance(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    mailbox: np.ndarray,
    critic: np.ndarray,
    torque: np.ndarray,
) -> None:
    """Do what `step` does in place: `state` is changed, `torque` is written.

    Args:
        params: Packed `ControlConfig`, see `layout.P`.
        state: See `layout.S`.
        reading: What the robot said, see `layout.R`.
        mailbox: What the host says, see `layout.M`.
        critic: Packed risk critic that passed `check_critic`, float32; may be empty.
        torque: Out, shape (7,) [N m].
    """
    _tick(params, state, reading, mailbox, critic, NO_RECORD, torque)


@kernel
def repeat(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    mailbox: np.ndarray,
    record: np.ndarray,
    torque: np.ndarray,
) -> None:
    """Do what `advance` did once, with what the critic said then instead of the critic.

    Args:
        params: Packed `ControlConfig`, see `layout.P`.
        state: See `layout.S`, changed in place.
        reading: What the robot said, see `layout.R`.
        mailbox: What the host said, see `layout.M`.
        record: Risk and thresholds of that tick: `risk, risk_on, risk_off` of its state, (3,).
        torque: Out, shape (7,) [N m].
    """
    _tick(params, state, reading, mailbox, NO_CRITIC, record, torque)


@kernel
def _tick(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    mailbox: np.ndarray,
    critic: np.ndarray,
    record: np.ndarray,
    torque: np.ndarray,
) -> None:
    fault = judge_state(params, state, reading)
    if fault != 0 and int(state[S.mode]) < FAULT:
        state[S.mode], state[S.fault] = FAULT, fault
    if int(state[S.mode]) >= FAULT or int(state[S.mode]) == IDLE:
        _let_go(params, state, reading, torque)
        return

    q = reading[R.q : R.q + 7]
    jacobian = np.empty((6, 7))
    pose = state[S.pose : S.pose + 7]
    target = state[S.target : S.target + 7]
    _look(params, state, reading, jacobian)

    rest = np.empty(7)
    starved = params[ON.energy] != 0.0 and state[S.tank] < params[P.tank_min]
    barriers = rest_torque(params, state, reading, jacobian, starved, rest)
    held_stiffness = state[S.stiffness : S.stiffness + 4]
    held_pull = state[S.share] * spring(params, held_stiffness, pose, target, np.empty(6))
    if state[S.tick] == 0.0:
        state[S.potential] = held_pull + barriers
    mode = int(state[S.mode])
    fresh = (mode in (FOLLOWING, HUMAN)) and state[S.stale] == 0.0
    healthy = settle(params, state, reading, held_pull + barriers, fresh or mode == HOLDING)
    if not healthy and params[ON.observer] != 0.0 and mode != SOFT_STOP:
        soft_stop(params, state, AUDIT)
    forget_credit(params, state, reading[R.elapsed])

    take_request(params, state, mailbox)
    share = watch(params, state, reading, mailbox)
    wanted, stiffness = np.empty(7), np.empty(4)
    _aim(params, state, wanted, stiffness)
    if params[ON.reflex] != 0.0:
        if record.size > 0:
            for i in range(3):
                state[S.risk + i] = record[i]
        else:
            _judge_risk(params, state, reading, critic, wanted, stiffness)
        _react(params, state, reading, wanted, stiffness)

    held = reading[R.held : R.held + 7]
    gate(params, state, jacobian, rest, held, wanted, stiffness, share, torque)
    if params[ON.observer] != 0.0:
        brake_excess(params, state, reading, torque)
    if bound_torque(torque, held, params[P.torque_rate]):
        state[S.clipped] += 1.0

    state[S.potential] = state[S.spring] + barriers
    state[S.q : S.q + 7] = q
    state[S.torque : S.torque + 7] = torque
    _sum_up(state, reading)


@kernel
def _look(params: np.ndarray, state: np.ndarray, reading: np.ndarray, jacobian: np.ndarray) -> None:
    # pose, twist, and every few ticks what the arm's inertia is like there
    q = reading[R.q : R.q + 7]
    forward(q, params[P.tool : P.tool + 3], state[S.pose : S.pose + 7], jacobian)
    for c in range(6):
        total = 0.0
        for i in range(7):
            total += jacobian[c, i] * reading[R.dq + i]
        state[S.twist + c] = total
    if int(state[S.tick]) % RESHAPE == 0:
        state[S.ratio] = state[S.asked + 4]
        if state[S.reflex] != 0.0:
            state[S.ratio] = max(state[S.ratio], params[P.reflex_damping_ratio])
        shape(params, state, reading, jacobian)
    blend_damping(state, 1.0 if state[S.tick] == 0.0 else BLEND)
    feel_contact(params, state, reading)
    feel_bias(state, reading)


@kernel
def _aim(params: np.ndarray, state: np.ndarray, wanted: np.ndarray, stiffness: np.ndarray) -> None:
    # where the path is now, within every limit of place and speed
    pose, target = state[S.pose : S.pose + 7], state[S.target : S.target + 7]
    if state[S.progress] < params[P.period]:
        state[S.progress] += 1.0
    along(
        state[S.start : S.start + 7],
        state[S.goal : S.goal + 7],
        state[S.progress] / params[P.period],
        wanted,
    )
    for i in range(4):
        stiffness[i] = state[S.asked + i]
    if bound_target(params, pose, target, speed_limit(params, state), wanted):
        state[S.leashed] += 1.0


@kernel
def _judge_risk(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    critic: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
) -> None:
    state[S.risk] = 0.0
    state[S.risk_on], state[S.risk_off] = critic[C.threshold_on], critic[C.threshold_off]
    if critic[C.heads] == 0:
        return
    inputs, scratch = np.empty(PLACED), np.empty(SCRATCH, np.float32)
    pose, twist = state[S.pose : S.pose + 7], state[S.twist : S.twist + 6]
    wrench = reading[R.wrench : R.wrench + 6]
    features(pose, twist, wrench, wanted, stiffness[:3], state[S.tank], inputs)
    low, high = params[P.box_low : P.box_low + 3], params[P.box_high : P.box_high + 3]
    place(pose, low, high, inputs)
    state[S.risk] = risk(critic, inputs, scratch)


@kernel
def _react(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    wanted: np.ndarray,
    stiffness: np.ndarray,
) -> None:
    state[S.risk_peak] = max(state[S.risk_peak], state[S.risk])
    on, off = state[S.risk_on], state[S.risk_off]
    latched = react(params, state, reading, on, off, wanted, stiffness)
    if latched and int(state[S.mode]) != SOFT_STOP:
        soft_stop(params, state, REFLEXES)


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
    state[S.tank_low] = min(state[S.tank_low], state[S.tank])
    state[S.tick] += 1.0
    state[S.ticks] += 1.0
