"""Who has the arm: stop over human over policy, and what a person is lent at a take-over.

The host grants the authority of a request; a message can't name itself human. What a person is lent
is bounded over time, and what is left of it goes back at the hand-back, so that flickering between
human and policy fills no tank.
"""

from __future__ import annotations

import numpy as np

from controllers.kernel import kernel
from controllers.packed import PARAM, STATE
from controllers.robot import Authority, Mode

HUMAN_AUTHORITY = float(Authority.HUMAN)
HUMAN, FOLLOWING = int(Mode.HUMAN), int(Mode.FOLLOWING)


@kernel
def transfer_authority(params: np.ndarray, state: np.ndarray, authority: float) -> bool:
    """Give the arm to whom an accepted request is from; return whether it changed hands.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: mode, authority, tank and what is lent.
        authority: `Authority`, granted by the host.
    """
    changed = authority != state[STATE.authority]
    if changed and state[STATE.authority] == HUMAN_AUTHORITY:
        reclaim_loan(params, state)
    if changed and authority == HUMAN_AUTHORITY:
        lend_energy(params, state)
    state[STATE.authority] = authority
    state[STATE.mode] = HUMAN if authority == HUMAN_AUTHORITY else FOLLOWING
    return changed


@kernel
def lend_energy(params: np.ndarray, state: np.ndarray) -> None:
    """Add to the tank what a person may still be lent in this window, up to its top."""
    room = params[PARAM.tank_max] - state[STATE.tank]
    amount = max(0.0, min(params[PARAM.human_energy_loan] - state[STATE.loan_in_window], room))
    state[STATE.tank] += amount
    state[STATE.loaned_energy] += amount
    state[STATE.loan_in_window] += amount
    state[STATE.passivity_balance] -= amount


@kernel
def reclaim_loan(params: np.ndarray, state: np.ndarray) -> None:
    """Take what a person has left of what it was lent."""
    left = max(0.0, min(state[STATE.loaned_energy], state[STATE.tank] - params[PARAM.tank_min]))
    state[STATE.tank] -= left
    state[STATE.passivity_balance] += left
    state[STATE.loaned_energy] = 0.0


@kernel
def decay_loan_window(params: np.ndarray, state: np.ndarray, elapsed: float) -> None:
    """Let the count of what was lent leak away over the window.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place.
        elapsed: Since the last measurement [ticks].
    """
    leak = (
        params[PARAM.human_energy_loan]
        * params[PARAM.dt]
        * elapsed
        / params[PARAM.human_loan_window]
    )
    state[STATE.loan_in_window] = max(0.0, state[STATE.loan_in_window] - leak)
