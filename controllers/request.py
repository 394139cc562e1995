"""Is the newest request usable, and what does it begin?"""

from __future__ import annotations

import math

import numpy as np

from controllers.authority import hand_over
from controllers.kernel import kernel
from controllers.layout import M, P, S
from controllers.robot import Mode

SOFT_STOP, FAULT, IDLE = int(Mode.SOFT_STOP), int(Mode.FAULT), int(Mode.IDLE)
MAX_WIDTH = 0.08  # [m], the gripper's opening
UNIT = 1e-3  # [-], how far a quaternion's length may be from 1
FAR = 10.0  # [m], no target is farther from the base


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
    return mailbox[M.seq] > seq and abs(math.sqrt(length) - 1.0) <= UNIT and far <= FAR


@kernel
def take_request(params: np.ndarray, state: np.ndarray, mailbox: np.ndarray) -> None:
    """Begin the path to a new request if it is usable; count it as dropped if not.

    A change of authority starts from the measured pose, so that nobody inherits another's pull.

    Args:
        params: Packed `ControlConfig`.
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
    begin = S.pose if hand_over(params, state, mailbox[M.source]) else S.target
    for i in range(7):
        state[S.start + i] = state[begin + i]
        state[S.goal + i] = mailbox[M.pose + i]
    length = 0.0
    for i in range(3, 7):
        length += state[S.goal + i] * state[S.goal + i]
    for i in range(3, 7):
        state[S.goal + i] /= math.sqrt(length)
    for i in range(4):
        low = params[P.stiffness_range] if i < 3 else params[P.rotational_stiffness_range]
        high = params[P.stiffness_range + 1]
        usual = params[P.stiffness + i]
        if i == 3:
            high = params[P.rotational_stiffness_range + 1]
            usual = params[P.rotational_stiffness]
        wanted = mailbox[M.stiffness + i]
        state[S.asked + i] = usual if wanted == 0.0 else max(low, min(high, wanted))
    ratio = mailbox[M.ratio]
    low, high = params[P.damping_ratio_range], params[P.damping_ratio_range + 1]
    state[S.asked + 4] = params[P.damping_ratio] if ratio == 0.0 else max(low, min(high, ratio))
    state[S.gripper] = min(max(mailbox[M.gripper], 0.0), MAX_WIDTH)
    state[S.progress], state[S.age], state[S.stale] = 0.0, 0.0, 0.0
