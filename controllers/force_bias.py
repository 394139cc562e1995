"""The force on the tool at rest: payload and sensor bias, which a spring let go of must carry.

Source:
    Half a kilogram that nobody knows of sinks 138 mm in 5 s on a spring of 200 N/m whose target
    follows; a spring that carries twice the force at rest keeps it.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.packed import MEAS, PARAM, STATE

PAYLOAD_FACTOR = 2.0  # [-], times the force at rest that a soft spring must still carry
REST_SPEED = 5e-3  # [m/s], slower than that the force on the tool is its bias
SMOOTHING = 0.01  # [-], per tick, of that bias


@kernel
def estimate_bias(state: np.ndarray, measurement: np.ndarray) -> None:
    """Learn the force on the tool while it hangs at rest in free space, before any request.

    Args:
        state: Changed in place: `force_bias`.
        measurement: Of this tick.
    """
    speed = 0.0
    for i in range(3):
        speed += state[STATE.twist + i] * state[STATE.twist + i]
    if state[STATE.seq] < 0.0 and speed < REST_SPEED * REST_SPEED:
        for i in range(3):
            state[STATE.force_bias + i] += SMOOTHING * (
                measurement[MEAS.wrench + i] - state[STATE.force_bias + i]
            )


@kernel
def contact_force(state: np.ndarray, measurement: np.ndarray, force: np.ndarray) -> float:
    """Return the size of the force on the tool beyond what it was at rest [N].

    Args:
        state: With `force_bias`.
        measurement: Of this tick.
        force: Out: of the environment on the tool, base frame, shape (3,) [N].
    """
    square = 0.0
    for i in range(3):
        force[i] = measurement[MEAS.wrench + i] - state[STATE.force_bias + i]
        square += force[i] * force[i]
    return math.sqrt(square)


@kernel
def min_stiffness_for_payload(params: np.ndarray, state: np.ndarray) -> float:
    """Return the stiffness that carries the force at rest within the greatest stretch [N/m].

    Args:
        params: Packed `ControlConfig`.
        state: With `force_bias`.
    """
    square = 0.0
    for i in range(3):
        square += state[STATE.force_bias + i] * state[STATE.force_bias + i]
    return PAYLOAD_FACTOR * math.sqrt(square) / params[PARAM.max_stretch]
