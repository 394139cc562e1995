"""Is the state believable, is the request fresh, and what mode follows.

| since the request went stale            | mode      | what happens                           |
|-----------------------------------------|-----------|----------------------------------------|
| target older than 2.5 policy periods,   | HOLDING   | target drawn back to the tool, full    |
| or heartbeat older than 50 ms           |           | stiffness; a fresh request goes on     |
| 0.3 s                                   | HOLDING   | stiffness ramps down, damping stays    |
| 1 s                                     | SOFT_STOP | a tenth of the stiffness, until re-arm |

(Defaults of `ControlConfig`.) A state that is not finite, or moved faster than the joints can, is a
FAULT: torque ramps to zero, damped, until the next reset.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW
from controllers.layout import READING_SIZE, M, P, R, S
from controllers.robot import Fault, Mode

IDLE, HOLDING, FOLLOWING = int(Mode.IDLE), int(Mode.HOLDING), int(Mode.FOLLOWING)
HUMAN, SOFT_STOP, FAULT = int(Mode.HUMAN), int(Mode.SOFT_STOP), int(Mode.FAULT)
NOT_FINITE, JUMP = int(Fault.STATE_NOT_FINITE), int(Fault.STATE_JUMP)
STALE, LOST = int(Fault.TARGET_STALE), int(Fault.HEARTBEAT_LOST)
JOINT, FORCE = int(Fault.JOINT_LIMIT), int(Fault.FORCE_LIMIT)

MAX_WIDTH = 0.08  # [m], the gripper's opening
UNIT = 1e-3  # [-], how far a quaternion's length may be from 1


@kernel
def judge_state(params: np.ndarray, state: np.ndarray, reading: np.ndarray) -> int:
    """Return the fault that the measured state shows, or 0.

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain after the last tick.
        reading: Of this tick.
    """
    for i in range(READING_SIZE):
        if not math.isfinite(reading[i]):
            return NOT_FINITE
    for i in range(7):
        reach = 1.5 * DQ_MAX[i] * params[P.dt] * reading[R.elapsed]
        if abs(reading[R.q + i] - state[S.q + i]) > reach:
            return JUMP
        if not Q_LOW[i] - 0.01 <= reading[R.q + i] <= Q_HIGH[i] + 0.01:
            return JOINT
    return 0


@kernel
def is_usable(mailbox: np.ndarray, seq: float) -> bool:
    """Return whether a request is finite, in order, and a pose.

    Args:
        mailbox: With the request.
        seq: Of the newest accepted request, -1 for none [-].
    """
    for i in range(M.seq, M.gripper + 1):
        if not math.isfinite(mailbox[i]):
            return False
    length = 0.0
    for i in range(3, 7):
        length += mailbox[M.pose + i] * mailbox[M.pose + i]
    far = 0.0
    for i in range(3):
        far = max(far, abs(mailbox[M.pose + i]))
    return mailbox[M.seq] > seq and abs(math.sqrt(length) - 1.0) <= UNIT and far <= 10.0


@kernel
def take_request(state: np.ndarray, mailbox: np.ndarray) -> None:
    """Begin the path to a new request if it is usable; count it as dropped if not.

    A change of authority starts from the measured pose, so that nobody inherits another's pull.

    Args:
        state: Changed in place.
        mailbox: Newest request.
    """
    new = mailbox[M.seq]
    if new == state[S.seen] or (math.isfinite(new) and new < 0.0):
        return
    if not math.isfinite(new) and not math.isfinite(state[S.seen]):
        return
    state[S.seen] = new
    mode = int(state[S.mode])
    if not is_usable(mailbox, state[S.seq]):
        state[S.dropped] += 1.0
        return
    state[S.seq] = new
    if mode in (SOFT_STOP, FAULT, IDLE):
        return
    source = mailbox[M.source]
    begin = S.pose if source != state[S.source] or state[S.seq] < 0.0 else S.target
    for i in range(7):
        state[S.start + i] = state[begin + i]
        state[S.goal + i] = mailbox[M.pose + i]
    length = 0.0
    for i in range(3, 7):
        length += state[S.goal + i] * state[S.goal + i]
    for i in range(3, 7):
        state[S.goal + i] /= math.sqrt(length)
    state[S.source] = source
    state[S.gripper] = min(max(mailbox[M.gripper], 0.0), MAX_WIDTH)
    state[S.progress], state[S.age], state[S.stale] = 0.0, 0.0, 0.0
    state[S.mode] = HUMAN if source == 1.0 else FOLLOWING


@kernel
def watch(params: np.ndarray, state: np.ndarray, reading: np.ndarray, mailbox: np.ndarray) -> float:
    """Move the mode along; return the share of the stiffness that it wants [-].

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place; `pose` is already this tick's.
        reading: Of this tick.
        mailbox: Newest request, heartbeat and orders.
    """
    if mailbox[M.rearm] != 0.0 and int(state[S.mode]) == SOFT_STOP:
        state[S.mode], state[S.fault], state[S.stale] = HOLDING, 0.0, 0.0
        state[S.source] = -1.0
        state[S.age] = -1.0  # nobody is late before the next request
        _hold(params, state)
    mode = int(state[S.mode])
    force = 0.0
    for i in range(3):
        force += reading[R.wrench + i] * reading[R.wrench + i]
    if mode != SOFT_STOP:
        if mailbox[M.stop] != 0.0:
            _stop(params, state, int(mailbox[M.stop]))
        elif force > params[P.force_limit] * params[P.force_limit]:
            _stop(params, state, FORCE)
    mode = int(state[S.mode])
    if mode in (FOLLOWING, HUMAN) or (mode == HOLDING and state[S.age] >= 0.0):
        state[S.age] += reading[R.elapsed]
        lost = mailbox[M.heartbeat] > params[P.heartbeat]
        late = state[S.age] > params[P.stale_periods] * params[P.period]
        if lost or late:
            if mode != HOLDING:
                state[S.mode] = HOLDING
                _hold(params, state)
            state[S.stale] += reading[R.elapsed]
            if state[S.stale] * params[P.dt] > params[P.stop_time]:
                _stop(params, state, LOST if lost else STALE)
    mode = int(state[S.mode])
    step = params[P.dt] / params[P.recovery_time]
    if mode == SOFT_STOP:
        return min(state[S.share] + step, params[P.stop_stiffness])
    held = state[S.stale] * params[P.dt] - params[P.hold_time]
    wanted = 1.0
    if held > 0.0:
        ramp = min(1.0, held / (params[P.stop_time] - params[P.hold_time]))
        wanted = 1.0 - ramp * (1.0 - params[P.stop_stiffness])
    return min(wanted, state[S.share] + step)


@kernel
def _hold(params: np.ndarray, state: np.ndarray) -> None:
    # a quarter of the clip keeps most of what the spring carried at rest, and brakes motion
    bound = 0.25 * params[P.clip]
    for i in range(3):
        pull = state[S.target + i] - state[S.pose + i]
        state[S.goal + i] = state[S.pose + i] + max(-bound, min(bound, pull))
    for i in range(3, 7):
        state[S.goal + i] = state[S.target + i]
    for i in range(7):
        state[S.start + i] = state[S.goal + i]
    state[S.progress] = params[P.period]
    state[S.source] = -1.0


@kernel
def _stop(params: np.ndarray, state: np.ndarray, fault: int) -> None:
    _hold(params, state)
    state[S.mode], state[S.fault] = SOFT_STOP, fault
