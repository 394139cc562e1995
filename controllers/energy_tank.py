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
from controllers.packed import MEAS, PARAM, STATE


@kernel
def update_tank(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, potential: float, refill: bool
) -> bool:
    """Book what the torque in effect did since the last one; return False on a failed audit.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place; `q` and `potential` are still those of the last tick.
        measurement: Of this tick.
        potential: Of all springs, at the new joints with the old target [J].
        refill: The controller is healthy and following, so that the tank may refill.
    """
    work, debit = 0.0, 0.0
    for i in range(7):
        moved = measurement[MEAS.q + i] - state[STATE.q + i]
        work += measurement[MEAS.applied_torque + i] * moved
        debit += TORQUE_MAX[i] * abs(moved)
    left = state[STATE.potential] - potential - work
    tank = state[STATE.tank] + (params[PARAM.dissipation_credit] * left if left > 0.0 else left)
    supply = params[PARAM.refill] * params[PARAM.dt] * measurement[MEAS.elapsed]
    if refill and tank < params[PARAM.tank_start]:
        tank = min(tank + supply, params[PARAM.tank_start])
    state[STATE.tank] = min(tank, params[PARAM.tank_max])
    state[STATE.work] += work
    state[STATE.energy_out] += work
    state[STATE.passivity_balance] = (
        max(state[STATE.passivity_balance], -state[STATE.potential]) + work - supply
    )
    return (
        state[STATE.passivity_balance]
        <= params[PARAM.tank_max] - params[PARAM.tank_min] + 2.0 * debit + 1e-9
    )
