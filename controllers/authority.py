"""Who has the arm: stop over human over policy, and what a person is lent at a take-over.

The host grants the source of a request; a message can't name itself human. What a person is lent
is bounded over time, and what is left of it goes back at the hand-back, so that flickering between
human and policy fills no tank.
"""

from __future__ import annotations

import numpy as np

from controllers.kernel import kernel
from controllers.layout import P, S
from controllers.robot import Mode, Source

PERSON = float(Source.HUMAN)
HUMAN, FOLLOWING = int(Mode.HUMAN), int(Mode.FOLLOWING)


@kernel
def hand_over(params: np.ndarray, state: np.ndarray, source: float) -> bool:
    """Give the arm to the source of an accepted request; return whether it changed hands.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: mode, source, tank and what is lent.
        source: `Source`, granted by the host.
    """
    changed = source != state[S.source]
    if changed and state[S.source] == PERSON:
        take_back(params, state)
    if changed and source == PERSON:
        lend(params, state)
    state[S.source] = source
    state[S.mode] = HUMAN if source == PERSON else FOLLOWING
    return changed


@kernel
def lend(params: np.ndarray, state: np.ndarray) -> None:
    """Add to the tank what a person may still be lent in this window, up to its top."""
    room = params[P.tank_max] - state[S.tank]
    amount = max(0.0, min(params[P.human_credit] - state[S.credit], room))
    state[S.tank] += amount
    state[S.lent] += amount
    state[S.credit] += amount
    state[S.audit] -= amount


@kernel
def take_back(params: np.ndarray, state: np.ndarray) -> None:
    """Take what a person has left of what it was lent."""
    left = max(0.0, min(state[S.lent], state[S.tank] - params[P.tank_min]))
    state[S.tank] -= left
    state[S.audit] += left
    state[S.lent] = 0.0


@kernel
def forget_credit(params: np.ndarray, state: np.ndarray, elapsed: float) -> None:
    """Let the count of what was lent leak away over the window.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place.
        elapsed: Since the last reading [ticks].
    """
    leak = params[P.human_credit] * params[P.dt] * elapsed / params[P.human_window]
    state[S.credit] = max(0.0, state[S.credit] - leak)
