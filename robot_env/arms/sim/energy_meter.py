"""What the simulation alone knows: energy, limits and forces, apart from the chain's books.

Also what pushes on the tool beyond the scene's contacts: a wall that is a spring and damper of
known stiffness (a simulator's soft contact is not), and an outside force.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from controllers.kernel import kernel
from controllers.kinematics import TORQUE_MAX
from controllers.packed import MEAS, PARAM, STATE

RATE = 1.0  # [N m/tick], a Franka aborts above it
TINY = 1e-9


class EnergyMeter(NamedTuple):
    """Offsets into the meter's packed array."""

    work: int  # [J] given to the arm since reset, from true motion and torque
    supply: int  # [J] allowed since reset: refill and what people were lent
    credit: int  # [J] that the chain counted as lent at the last tick
    window: int  # [J] largest of stored - given out over window beginnings, supply taken off
    excess: int  # [J] largest over windows of given out - stored at the beginning - supply
    active: int  # [J] the same, with what the springs hold at the end of the window on top
    stroke: int  # [J] largest of |torque| |motion| in a tick: what a tick can't be billed for
    torque_over: int  # ticks with a torque beyond the joint's limit
    rate_over: int  # ticks with a step of torque beyond 1 N m
    step_peak: int  # [N m] largest step of torque
    jerk_square: int  # [N^2 m^2] sum of the squared steps of torque
    gated: int  # ticks that the gate held something back
    clipped: int  # ticks in which the last line acted
    ticks: int  # since reset
    wall: int  # [m] where the wall's face is, along x; nan for none
    wall_stiffness: int  # [N/m]
    wall_damping: int  # [N s/m]
    push: int  # (3,) outside force on the tool, base frame [N]
    force: int  # [N] of the wall on the tool now
    force_peak: int  # [N]
    touches: int  # times that the tool came to the wall
    speed: int  # [m/s] of the tool at the first touch


_sizes = dict.fromkeys(EnergyMeter._fields, 1) | {"push": 3}
_starts = np.cumsum([0, *_sizes.values()]).tolist()
METER = EnergyMeter(*_starts[:-1])
METER_SIZE = _starts[-1]
LASTING = (METER.wall, METER.force)  # what a reset keeps: from, to


def reset_meter(meter: np.ndarray) -> None:
    """Begin to measure anew; wall and push stay."""
    kept = meter[LASTING[0] : LASTING[1]].copy()
    meter[:] = 0.0
    meter[LASTING[0] : LASTING[1]] = kept
    meter[[METER.window, METER.excess, METER.active]] = -math.inf


@kernel
def apply_external_force(
    meter: np.ndarray,
    tool: np.ndarray,
    centre: np.ndarray,
    speed: float,
    payload: np.ndarray,
    applied: np.ndarray,
) -> None:
    """Write the force of wall, outside and payload on the hand.

    Args:
        meter: See `EnergyMeter`, changed in place.
        tool: Where the tool centre is, base frame, shape (3,) [m].
        centre: Hand's centre of mass, shape (3,) [m].
        speed: Of the tool along x [m/s].
        payload: Weight that nobody compensates, shape (3,) [N].
        applied: Out: force and torque on the hand's centre of mass, shape (6,) [N, N m].
    """
    force = 0.0
    depth = tool[0] - meter[METER.wall]
    if depth > 0.0:
        force = max(0.0, meter[METER.wall_stiffness] * depth + meter[METER.wall_damping] * speed)
        if meter[METER.force] == 0.0 and force > 0.0:
            meter[METER.touches] += 1.0
            if meter[METER.touches] == 1.0:
                meter[METER.speed] = speed
    meter[METER.force] = force
    meter[METER.force_peak] = max(meter[METER.force_peak], force)
    fx, fy, fz = meter[METER.push] - force, meter[METER.push + 1], meter[METER.push + 2]
    rx, ry, rz = tool[0] - centre[0], tool[1] - centre[1], tool[2] - centre[2]
    applied[0], applied[1], applied[2] = fx + payload[0], fy + payload[1], fz + payload[2]
    applied[3], applied[4], applied[5] = ry * fz - rz * fy, rz * fx - rx * fz, rx * fy - ry * fx


@kernel
def measure_tick(
    meter: np.ndarray,
    params: np.ndarray,
    state: np.ndarray,
    last: np.ndarray,
    torque: np.ndarray,
    before: np.ndarray,
    qpos: np.ndarray,
) -> None:
    """Book a tick: the torque that acted over the true motion.

    Args:
        meter: See `EnergyMeter`, changed in place.
        params: Packed `ControlConfig`, for the refill.
        state: Of the chain, for what its springs hold and what it lent.
        last: Torque that acted in the tick before, shape (7,) [N m].
        torque: Torque that acted in this one, shape (7,) [N m].
        before: Joint angles before the tick, shape (7,) [rad].
        qpos: Joint angles after it, arm first [rad].
    """
    work, stroke, square = 0.0, 0.0, 0.0
    over, fast = False, False
    for i in range(7):
        moved = qpos[i] - before[i]
        work += torque[i] * moved
        stroke += abs(torque[i] * moved)
        step = torque[i] - last[i]
        square += step * step
        meter[METER.step_peak] = max(meter[METER.step_peak], abs(step))
        over = over or abs(torque[i]) > TORQUE_MAX[i] + TINY
        fast = fast or abs(step) > RATE + TINY
    meter[METER.torque_over] += 1.0 if over else 0.0
    meter[METER.rate_over] += 1.0 if fast else 0.0
    meter[METER.jerk_square] += square
    given = meter[METER.work] - meter[METER.supply]
    meter[METER.window] = max(meter[METER.window], -given - state[STATE.potential])
    meter[METER.active] = max(
        meter[METER.active], meter[METER.window] + given + state[STATE.potential]
    )
    meter[METER.work] += work
    meter[METER.supply] += params[PARAM.refill] * params[PARAM.dt]
    meter[METER.supply] += max(0.0, state[STATE.loan_in_window] - meter[METER.credit])
    meter[METER.credit] = state[STATE.loan_in_window]
    given = meter[METER.work] - meter[METER.supply]
    meter[METER.excess] = max(meter[METER.excess], meter[METER.window] + given)
    meter[METER.stroke] = max(meter[METER.stroke], stroke)
    meter[METER.gated] += 1.0 if state[STATE.gate] < 1.0 else 0.0
    meter[METER.ticks] += 1.0


@kernel
def add_wall_to_wrench(meter: np.ndarray, measurement: np.ndarray) -> None:
    """Add the wall and the push to what the wrench sensor says; both act at the tool centre."""
    measurement[MEAS.wrench] += meter[METER.push] - meter[METER.force]
    measurement[MEAS.wrench + 1] += meter[METER.push + 1]
    measurement[MEAS.wrench + 2] += meter[METER.push + 2]
