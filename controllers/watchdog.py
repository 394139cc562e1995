"""Is the request fresh, did anybody order a stop, and what mode follows.

| since the request went stale            | mode      | what happens                           |
|-----------------------------------------|-----------|----------------------------------------|
| target older than 2.5 policy periods,   | HOLDING   | target drawn back to the tool, full    |
| or heartbeat older than 50 ms           |           | stiffness; a fresh request goes on     |
| 0.3 s                                   | HOLDING   | stiffness ramps down, damping stays    |
| 1 s                                     | SOFT_STOP | a tenth of the stiffness, or what the  |
|                                         |           | force at rest needs, until re-arm      |

(Defaults of `ControlConfig`.) A state that is not finite, or moved faster than the joints can, is a
FAULT: torque ramps to zero, damped, until the next reset.
"""

from __future__ import annotations

import numpy as np

from controllers.authority import PERSON, take_back
from controllers.bias import least_stiffness
from controllers.kernel import kernel
from controllers.layout import M, P, R, S
from controllers.robot import Fault, Mode

HOLDING, FOLLOWING = int(Mode.HOLDING), int(Mode.FOLLOWING)
HUMAN, SOFT_STOP = int(Mode.HUMAN), int(Mode.SOFT_STOP)
STALE, LOST = int(Fault.TARGET_STALE), int(Fault.HEARTBEAT_LOST)
FORCE = int(Fault.FORCE_LIMIT)


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
        hold(params, state)
    mode = int(state[S.mode])
    force = 0.0
    for i in range(3):
        force += reading[R.wrench + i] * reading[R.wrench + i]
    if mode != SOFT_STOP:
        if mailbox[M.stop] != 0.0:
            soft_stop(params, state, int(mailbox[M.stop]))
        elif force > params[P.force_limit] * params[P.force_limit]:
            soft_stop(params, state, FORCE)
    mode = int(state[S.mode])
    if mode in (FOLLOWING, HUMAN) or (mode == HOLDING and state[S.age] >= 0.0):
        state[S.age] += reading[R.elapsed]
        lost = mailbox[M.heartbeat] > params[P.heartbeat]
        late = state[S.age] > params[P.stale_periods] * params[P.period]
        if lost or late:
            if mode != HOLDING:
                state[S.mode] = HOLDING
                hold(params, state)
            state[S.stale] += reading[R.elapsed]
            if state[S.stale] * params[P.dt] > params[P.stop_time]:
                soft_stop(params, state, LOST if lost else STALE)
    mode = int(state[S.mode])
    step = params[P.dt] / params[P.recovery_time]
    left = _left(params, state)
    if mode == SOFT_STOP:
        return min(state[S.share] + step, left)
    held = state[S.stale] * params[P.dt] - params[P.hold_time]
    wanted = 1.0
    if held > 0.0:
        ramp = min(1.0, held / (params[P.stop_time] - params[P.hold_time]))
        wanted = 1.0 - ramp * (1.0 - left)
    return min(wanted, state[S.share] + step)


@kernel
def _left(params: np.ndarray, state: np.ndarray) -> float:
    # share of the stiffness that a stopped arm keeps: at least what carries its payload's error
    weakest = min(state[S.stiffness], min(state[S.stiffness + 1], state[S.stiffness + 2]))
    carries = least_stiffness(params, state) / max(weakest, 1e-9)
    return min(1.0, max(params[P.stop_stiffness], carries))


@kernel
def hold(params: np.ndarray, state: np.ndarray) -> None:
    """Draw the target back to the tool; nobody has authority afterwards."""
    # a quarter of the clip keeps most of what the spring carried at rest, and brakes motion
    bound = 0.25 * params[P.clip]
    if state[S.source] == PERSON:
        take_back(params, state)
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
def soft_stop(params: np.ndarray, state: np.ndarray, fault: int) -> None:
    """Hold with little stiffness until somebody re-arms."""
    hold(params, state)
    state[S.mode], state[S.fault] = SOFT_STOP, fault
