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

from controllers.kernel import kernel
from controllers.kinematics import TORQUE_MAX
from controllers.layout import P, R, S


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
    state[S.work_sum] += work
    state[S.audit] = max(state[S.audit], -state[S.potential]) + work - supply
    return state[S.audit] <= params[P.tank_max] - params[P.tank_min] + 2.0 * debit + 1e-9
