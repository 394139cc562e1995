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
from controllers.layout import P, R, S

RATE = 1.0  # [N m/tick], a Franka aborts above it
TINY = 1e-9


class Meter(NamedTuple):
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


_sizes = dict.fromkeys(Meter._fields, 1) | {"push": 3}
_starts = np.cumsum([0, *_sizes.values()]).tolist()
ME = Meter(*_starts[:-1])
METER_SIZE = _starts[-1]
LASTING = (ME.wall, ME.force)  # what a reset keeps: from, to


def restart(meter: np.ndarray) -> None:
    """Begin to measure anew; wall and push stay."""
    kept = meter[LASTING[0] : LASTING[1]].copy()
    meter[:] = 0.0
    meter[LASTING[0] : LASTING[1]] = kept
    meter[[ME.window, ME.excess, ME.active]] = -math.inf


@kernel
def push_tool(
    meter: np.ndarray,
    tool: np.ndarray,
    centre: np.ndarray,
    speed: float,
    payload: np.ndarray,
    applied: np.ndarray,
) -> None:
    """Write the force of wall, outside and payload on the hand.

    Args:
        meter: See `Meter`, changed in place.
        tool: Where the tool centre is, base frame, shape (3,) [m].
        centre: Hand's centre of mass, shape (3,) [m].
        speed: Of the tool along x [m/s].
        payload: Weight that nobody compensates, shape (3,) [N].
        applied: Out: force and torque on the hand's centre of mass, shape (6,) [N, N m].
    """
    force = 0.0
    depth = tool[0] - meter[ME.wall]
    if depth > 0.0:
        force = max(0.0, meter[ME.wall_stiffness] * depth + meter[ME.wall_damping] * speed)
        if meter[ME.force] == 0.0 and force > 0.0:
            meter[ME.touches] += 1.0
            if meter[ME.touches] == 1.0:
                meter[ME.speed] = speed
    meter[ME.force] = force
    meter[ME.force_peak] = max(meter[ME.force_peak], force)
    fx, fy, fz = meter[ME.push] - force, meter[ME.push + 1], meter[ME.push + 2]
    rx, ry, rz = tool[0] - centre[0], tool[1] - centre[1], tool[2] - centre[2]
    applied[0], applied[1], applied[2] = fx + payload[0], fy + payload[1], fz + payload[2]
    applied[3], applied[4], applied[5] = ry * fz - rz * fy, rz * fx - rx * fz, rx * fy - ry * fx


@kernel
def measure(
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
        meter: See `Meter`, changed in place.
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
        meter[ME.step_peak] = max(meter[ME.step_peak], abs(step))
        over = over or abs(torque[i]) > TORQUE_MAX[i] + TINY
        fast = fast or abs(step) > RATE + TINY
    meter[ME.torque_over] += 1.0 if over else 0.0
    meter[ME.rate_over] += 1.0 if fast else 0.0
    meter[ME.jerk_square] += square
    given = meter[ME.work] - meter[ME.supply]
    meter[ME.window] = max(meter[ME.window], -given - state[S.potential])
    meter[ME.active] = max(meter[ME.active], meter[ME.window] + given + state[S.potential])
    meter[ME.work] += work
    meter[ME.supply] += params[P.refill] * params[P.dt]
    meter[ME.supply] += max(0.0, state[S.credit] - meter[ME.credit])
    meter[ME.credit] = state[S.credit]
    given = meter[ME.work] - meter[ME.supply]
    meter[ME.excess] = max(meter[ME.excess], meter[ME.window] + given)
    meter[ME.stroke] = max(meter[ME.stroke], stroke)
    meter[ME.gated] += 1.0 if state[S.gate] < 1.0 else 0.0
    meter[ME.ticks] += 1.0


@kernel
def feel_wall(meter: np.ndarray, reading: np.ndarray) -> None:
    """Add the wall and the push to what the wrench sensor says; both act at the tool centre."""
    reading[R.wrench] += meter[ME.push] - meter[ME.force]
    reading[R.wrench + 1] += meter[ME.push + 1]
    reading[R.wrench + 2] += meter[ME.push + 2]
