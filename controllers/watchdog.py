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

from controllers.authority import HUMAN_AUTHORITY, reclaim_loan
from controllers.force_bias import min_stiffness_for_payload
from controllers.kernel import kernel
from controllers.packed import CMD, MEAS, PARAM, STATE
from controllers.robot import Fault, Mode

HOLDING, FOLLOWING = int(Mode.HOLDING), int(Mode.FOLLOWING)
HUMAN, SOFT_STOP = int(Mode.HUMAN), int(Mode.SOFT_STOP)
STALE, LOST = int(Fault.TARGET_STALE), int(Fault.HEARTBEAT_LOST)
FORCE = int(Fault.FORCE_LIMIT)


@kernel
def update_mode(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, command_buffer: np.ndarray
) -> float:
    """Move the mode along; return the share of the stiffness that it wants [-].

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place; `pose` is already this tick's.
        measurement: Of this tick.
        command_buffer: Newest request, heartbeat and orders.
    """
    if command_buffer[CMD.rearm] != 0.0 and int(state[STATE.mode]) == SOFT_STOP:
        state[STATE.mode], state[STATE.fault], state[STATE.ticks_stale] = HOLDING, 0.0, 0.0
        state[STATE.authority] = -1.0
        state[STATE.request_age] = -1.0  # nobody is late before the next request
        hold(params, state)
    mode = int(state[STATE.mode])
    force = 0.0
    for i in range(3):
        force += measurement[MEAS.wrench + i] * measurement[MEAS.wrench + i]
    if mode != SOFT_STOP:
        if command_buffer[CMD.stop] != 0.0:
            soft_stop(params, state, int(command_buffer[CMD.stop]))
        elif force > params[PARAM.force_limit] * params[PARAM.force_limit]:
            soft_stop(params, state, FORCE)
    mode = int(state[STATE.mode])
    if mode in (FOLLOWING, HUMAN) or (mode == HOLDING and state[STATE.request_age] >= 0.0):
        state[STATE.request_age] += measurement[MEAS.elapsed]
        lost = command_buffer[CMD.heartbeat] > params[PARAM.heartbeat]
        late = state[STATE.request_age] > params[PARAM.stale_periods] * params[PARAM.period]
        if lost or late:
            if mode != HOLDING:
                state[STATE.mode] = HOLDING
                hold(params, state)
            state[STATE.ticks_stale] += measurement[MEAS.elapsed]
            if state[STATE.ticks_stale] * params[PARAM.dt] > params[PARAM.stop_time]:
                soft_stop(params, state, LOST if lost else STALE)
    mode = int(state[STATE.mode])
    step = params[PARAM.dt] / params[PARAM.recovery_time]
    left = _remaining_stiffness(params, state)
    if mode == SOFT_STOP:
        return min(state[STATE.stiffness_scale] + step, left)
    held = state[STATE.ticks_stale] * params[PARAM.dt] - params[PARAM.hold_time]
    wanted = 1.0
    if held > 0.0:
        ramp = min(1.0, held / (params[PARAM.stop_time] - params[PARAM.hold_time]))
        wanted = 1.0 - ramp * (1.0 - left)
    return min(wanted, state[STATE.stiffness_scale] + step)


@kernel
def _remaining_stiffness(params: np.ndarray, state: np.ndarray) -> float:
    # share of the stiffness that a stopped arm keeps: at least what carries its payload's error
    weakest = min(
        state[STATE.stiffness], min(state[STATE.stiffness + 1], state[STATE.stiffness + 2])
    )
    carries = min_stiffness_for_payload(params, state) / max(weakest, 1e-9)
    return min(1.0, max(params[PARAM.stop_stiffness], carries))


@kernel
def hold(params: np.ndarray, state: np.ndarray) -> None:
    """Draw the target back to the tool; nobody has authority afterwards."""
    # a quarter of the clip keeps most of what the spring carried at rest, and brakes motion
    bound = 0.25 * params[PARAM.max_stretch]
    if state[STATE.authority] == HUMAN_AUTHORITY:
        reclaim_loan(params, state)
    for i in range(3):
        pull = state[STATE.target + i] - state[STATE.pose + i]
        state[STATE.goal + i] = state[STATE.pose + i] + max(-bound, min(bound, pull))
    for i in range(3, 7):
        state[STATE.goal + i] = state[STATE.target + i]
    for i in range(7):
        state[STATE.start + i] = state[STATE.goal + i]
    state[STATE.path_tick] = params[PARAM.period]
    state[STATE.authority] = -1.0


@kernel
def soft_stop(params: np.ndarray, state: np.ndarray, fault: int) -> None:
    """Hold with little stiffness until somebody re-arms."""
    hold(params, state)
    state[STATE.mode], state[STATE.fault] = SOFT_STOP, fault
