"""Limits of the target, the joints and the torque.

Only |tau| and |dtau| hold whatever happens; positions, velocities and forces are bounded for a
known payload and no outside force beyond what the joints can carry.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.kinematics import DQ_MAX, TORQUE_MAX
from controllers.layout import P
from controllers.rotation import between, turn, z_axis


@kernel
def bound_target(
    params: np.ndarray, pose: np.ndarray, previous: np.ndarray, wanted: np.ndarray
) -> bool:
    """Bring a wanted target within leash, box, cone and speed; return whether it changed.

    The leash comes first, so that it can't pull the target out of the box. Speed comes last: a
    target between two that are allowed is allowed too.

    Args:
        params: Packed `ControlConfig`.
        pose: Of the tool, shape (7,).
        previous: Target of the last tick, shape (7,).
        wanted: Target of this tick, shape (7,), changed in place.
    """
    changed = False
    reach = params[P.leash] * params[P.clip]
    for i in range(3):
        low = max(pose[i] - reach, params[P.box_low + i])
        high = min(pose[i] + reach, params[P.box_high + i])
        if pose[i] + reach < params[P.box_low + i]:  # the tool is outside: the box wins
            high = params[P.box_low + i]
        if pose[i] - reach > params[P.box_high + i]:
            low = params[P.box_high + i]
        if wanted[i] < low or wanted[i] > high:
            wanted[i] = min(max(wanted[i], low), high)
            changed = True
    here = (pose[3], pose[4], pose[5], pose[6])
    aim = (wanted[3], wanted[4], wanted[5], wanted[6])
    phi = between(here, aim)
    angle = math.sqrt(phi[0] * phi[0] + phi[1] * phi[1] + phi[2] * phi[2])
    limit = params[P.leash] * params[P.rotational_clip]
    if angle > limit:
        aim = turn(here, phi, limit / angle)
        changed = True
    axis = z_axis(aim)
    tilt = math.acos(max(-1.0, min(1.0, -axis[2])))
    if tilt > params[P.cone]:
        # turn back about the horizontal axis that raises the tilt
        length = math.hypot(axis[0], axis[1])
        if length > 1e-9:
            back = (-axis[1] / length, axis[0] / length, 0.0)
            aim = turn(aim, back, tilt - params[P.cone])
            changed = True
    step = params[P.max_speed] * params[P.dt]
    moved = 0.0
    for i in range(3):
        moved += (wanted[i] - previous[i]) * (wanted[i] - previous[i])
    moved = math.sqrt(moved)
    if moved > step:
        for i in range(3):
            wanted[i] = previous[i] + (wanted[i] - previous[i]) * (step / moved)
        changed = True
    before = (previous[3], previous[4], previous[5], previous[6])
    phi = between(before, aim)
    angle = math.sqrt(phi[0] * phi[0] + phi[1] * phi[1] + phi[2] * phi[2])
    step = params[P.max_rotation_speed] * params[P.dt]
    if angle > step:
        aim = turn(before, phi, step / angle)
        changed = True
    wanted[3], wanted[4], wanted[5], wanted[6] = aim
    return changed


@kernel
def barrier(
    q: float, low: float, high: float, margin: float, stiffness: float
) -> tuple[float, float]:
    """Return the torque [N m] and potential [J] that keep a joint off its limits.

    Args:
        q: Joint angle [rad].
        low: Limit [rad].
        high: Limit [rad].
        margin: Where the repulsive spring begins, before the limit [rad].
        stiffness: Of that spring [N m/rad].
    """
    depth = 0.0
    if q < low + margin:
        depth = low + margin - q
    elif q > high - margin:
        depth = high - margin - q
    return stiffness * depth, 0.5 * stiffness * depth * depth


@kernel
def brake(dq: float, joint: int, share: float, damping: float) -> float:
    """Return the torque that opposes a joint faster than a share of its limit [N m]."""
    excess = abs(dq) - share * DQ_MAX[joint]
    if excess <= 0.0:
        return 0.0
    return -math.copysign(damping * excess, dq)


@kernel
def bound_torque(torque: np.ndarray, held: np.ndarray, rate: float) -> bool:
    """Clip each joint's torque and its step, the last line; return whether it acted.

    Args:
        torque: Wished, shape (7,), changed in place [N m].
        held: What the robot holds until this command takes effect, shape (7,) [N m].
        rate: Largest step [N m/tick].
    """
    acted = False
    for i in range(7):
        limit = TORQUE_MAX[i]
        here = max(-limit, min(limit, held[i]))  # no arm holds more than it can give
        low, high = max(-limit, here - rate), min(limit, here + rate)
        wished = torque[i]
        if not math.isfinite(wished):
            wished = 0.0
        torque[i] = min(max(wished, low), high)
        acted = acted or torque[i] != wished
    return acted
