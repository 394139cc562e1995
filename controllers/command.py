"""Is the newest request usable, and what does it begin?"""

from __future__ import annotations

import math

import numpy as np

from controllers.authority import transfer_authority
from controllers.kernel import kernel
from controllers.packed import CMD, PARAM, STATE
from controllers.robot import Mode

SOFT_STOP, FAULT, IDLE = int(Mode.SOFT_STOP), int(Mode.FAULT), int(Mode.IDLE)
MAX_GRIPPER_WIDTH = 0.08  # [m], the gripper's opening
UNIT_TOLERANCE = 1e-3  # [-], how far a quaternion's length may be from 1
MAX_DISTANCE = 10.0  # [m], no target is farther from the base


@kernel
def is_valid(command_buffer: np.ndarray, seq: float) -> bool:
    """Return whether a request is finite, in order, and a pose.

    Args:
        command_buffer: With the request.
        seq: Of the newest accepted request, -1 for none [-].
    """
    for i in range(CMD.seq, CMD.gripper + 1):
        if not math.isfinite(command_buffer[i]):
            return False
    length = 0.0
    for i in range(3, 7):
        length += command_buffer[CMD.pose + i] * command_buffer[CMD.pose + i]
    far = 0.0
    for i in range(3):
        far = max(far, abs(command_buffer[CMD.pose + i]))
    return (
        command_buffer[CMD.seq] > seq
        and abs(math.sqrt(length) - 1.0) <= UNIT_TOLERANCE
        and far <= MAX_DISTANCE
    )


@kernel
def accept_command(params: np.ndarray, state: np.ndarray, command_buffer: np.ndarray) -> None:
    """Begin the path to a new request if it is usable; count it as dropped if not.

    A change of authority starts from the measured pose, so that nobody inherits another's pull.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place.
        command_buffer: Newest request.
    """
    new = command_buffer[CMD.seq]
    if new == state[STATE.last_seq_seen] or (math.isfinite(new) and new < 0.0):
        return
    if not math.isfinite(new) and not math.isfinite(state[STATE.last_seq_seen]):
        return
    state[STATE.last_seq_seen] = new
    mode = int(state[STATE.mode])
    if not is_valid(command_buffer, state[STATE.seq]):
        state[STATE.dropped] += 1.0
        return
    state[STATE.seq] = new
    if mode in (SOFT_STOP, FAULT, IDLE):
        return
    begin = (
        STATE.pose
        if transfer_authority(params, state, command_buffer[CMD.authority])
        else STATE.target
    )
    for i in range(7):
        state[STATE.start + i] = state[begin + i]
        state[STATE.goal + i] = command_buffer[CMD.pose + i]
    length = 0.0
    for i in range(3, 7):
        length += state[STATE.goal + i] * state[STATE.goal + i]
    for i in range(3, 7):
        state[STATE.goal + i] /= math.sqrt(length)
    for i in range(4):
        low = params[PARAM.stiffness_range] if i < 3 else params[PARAM.rotational_stiffness_range]
        high = params[PARAM.stiffness_range + 1]
        usual = params[PARAM.stiffness + i]
        if i == 3:
            high = params[PARAM.rotational_stiffness_range + 1]
            usual = params[PARAM.rotational_stiffness]
        wanted = command_buffer[CMD.stiffness + i]
        state[STATE.commanded_gains + i] = usual if wanted == 0.0 else max(low, min(high, wanted))
    ratio = command_buffer[CMD.damping_ratio]
    low, high = params[PARAM.damping_ratio_range], params[PARAM.damping_ratio_range + 1]
    state[STATE.commanded_gains + 4] = (
        params[PARAM.damping_ratio] if ratio == 0.0 else max(low, min(high, ratio))
    )
    state[STATE.gripper] = min(max(command_buffer[CMD.gripper], 0.0), MAX_GRIPPER_WIDTH)
    state[STATE.path_tick], state[STATE.request_age], state[STATE.ticks_stale] = 0.0, 0.0, 0.0
