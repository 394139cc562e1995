"""The virtual spring and damper at the tool, and what else pulls on the joints.

    F = g K clip(x_d - x) - D v,    tau = J^T F + N tau_posture + tau_damping + tau_barrier

Clipping a diagonal spring element by element makes it the gradient of a Huber potential, so that it
stays a passive spring whose pull is bounded by K c. Rotation is clipped by norm.

Sources:
    N. Hogan, "Impedance Control: An Approach to Manipulation", 1985.
    O. Khatib, "A Unified Approach for Motion and Force Control of Robot Manipulators", 1987:
    dynamically consistent inverse.
    A. Albu-Schäffer, C. Ott, G. Hirzinger, "A Unified Passivity-based Control Framework for
    Position, Torque and Impedance Control of Flexible Joint Robots", 2007: damping from inertia.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.kernel import kernel
from controllers.kinematics import Q_HIGH, Q_LOW
from controllers.layout import P, R, S
from controllers.limits import barrier, brake
from controllers.rotation import between

REGULAR = 1e-4  # [1/kg, 1/(kg m^2)], added to the inverse task inertia near singularities


@kernel
def spring(params: np.ndarray, pose: np.ndarray, target: np.ndarray, force: np.ndarray) -> float:
    """Write the full spring's wrench on the tool and return its potential [J].

    Args:
        params: Packed `ControlConfig`.
        pose: Of the tool, shape (7,).
        target: Of the spring's other end, shape (7,).
        force: Out, shape (6,), base frame [N, N m].
    """
    energy, clip = 0.0, params[P.clip]
    for i in range(3):
        stiffness = params[P.stiffness + i]
        error = target[i] - pose[i]
        reach = min(abs(error), clip)
        energy += stiffness * reach * (abs(error) - 0.5 * reach)
        force[i] = stiffness * max(-clip, min(clip, error))
    phi = between(
        (pose[3], pose[4], pose[5], pose[6]), (target[3], target[4], target[5], target[6])
    )
    angle = math.sqrt(phi[0] * phi[0] + phi[1] * phi[1] + phi[2] * phi[2])
    reach = min(angle, params[P.rotational_clip])
    stiffness = params[P.rotational_stiffness]
    energy += stiffness * reach * (angle - 0.5 * reach)
    scale = stiffness if angle <= reach else stiffness * reach / angle
    for i in range(3):
        force[3 + i] = scale * phi[i]
    return energy


@kernel
def shape(params: np.ndarray, state: np.ndarray, reading: np.ndarray, jacobian: np.ndarray) -> None:
    """Write the axes' damping and the dynamically consistent inverse for this pose.

    With the task inertia L = (J M^-1 J^T)^-1: D_i = 2 z sqrt(K_i L_ii), at least K_i dt (1/2 + d)
    with d = 1 tick of delay (sampled springs leak that much), at most where one more tick of
    damping would turn the motion round.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `damping` and `projector`.
        reading: Of this tick.
        jacobian: Shape (6, 7).
    """
    chol = np.empty((7, 7))
    for i in range(7):
        for j in range(i + 1):
            total = reading[R.mass + 7 * i + j]
            for k in range(j):
                total -= chol[i, k] * chol[j, k]
            chol[i, j] = math.sqrt(max(total, 1e-9)) if i == j else total / chol[j, j]
    lift = np.empty((7, 6))  # M^-1 J^T
    for c in range(6):
        for i in range(7):
            total = jacobian[c, i]
            for k in range(i):
                total -= chol[i, k] * lift[k, c]
            lift[i, c] = total / chol[i, i]
        for i in range(6, -1, -1):
            total = lift[i, c]
            for k in range(i + 1, 7):
                total -= chol[k, i] * lift[k, c]
            lift[i, c] = total / chol[i, i]
    low = np.empty((6, 6))  # Cholesky factor of J M^-1 J^T
    for i in range(6):
        for j in range(i + 1):
            total = REGULAR if i == j else 0.0
            for k in range(7):
                total += jacobian[i, k] * lift[k, j]
            for k in range(j):
                total -= low[i, k] * low[j, k]
            low[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / low[j, j]
    inertia = np.empty((6, 6))
    for c in range(6):
        for i in range(6):
            total = 1.0 if i == c else 0.0
            for k in range(i):
                total -= low[i, k] * inertia[k, c]
            inertia[i, c] = total / low[i, i]
        for i in range(5, -1, -1):
            total = inertia[i, c]
            for k in range(i + 1, 6):
                total -= low[k, i] * inertia[k, c]
            inertia[i, c] = total / low[i, i]
    dt = params[P.dt]
    for i in range(6):
        stiffness = params[P.stiffness + i] if i < 3 else params[P.rotational_stiffness]
        floor = 1.5 * stiffness * dt
        # along one axis with the others free the arm weighs 1 / (J M^-1 J^T)_ii, less than L_ii
        free = 0.0
        for k in range(i + 1):
            free += low[i, k] * low[i, k]
        wanted = 2.0 * params[P.damping_ratio] * math.sqrt(stiffness * inertia[i, i])
        state[S.damping + i] = max(floor, min(wanted, 0.25 / (free * dt)))
    for i in range(7):
        for c in range(6):
            total = 0.0
            for k in range(6):
                total += lift[i, k] * inertia[k, c]
            state[S.projector + 6 * i + c] = total


@kernel
def rest_torque(
    params: np.ndarray,
    state: np.ndarray,
    reading: np.ndarray,
    jacobian: np.ndarray,
    starved: bool,
    out: np.ndarray,
) -> float:
    """Write every torque but the spring's and return the barriers' potential [J].

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain.
        reading: Of this tick.
        jacobian: Shape (6, 7).
        starved: The tank is empty: nothing that could drive, only what damps.
        out: Shape (7,), [N m].
    """
    null = np.empty(7)
    bound = params[P.posture_torque]
    stiffness = 0.0 if starved else params[P.posture_stiffness]
    for i in range(7):
        pull = stiffness * (state[S.posture + i] - reading[R.q + i])
        pull -= params[P.posture_damping] * reading[R.dq + i]
        null[i] = max(-bound, min(bound, pull))
    wrench = np.empty(6)
    for c in range(6):
        total = state[S.damping + c] * state[S.twist + c]
        for i in range(7):
            total += state[S.projector + 6 * i + c] * null[i]
        wrench[c] = total
    damping = params[P.joint_damping] * (5.0 if starved else 1.0)
    potential = 0.0
    for i in range(7):
        total = null[i] - damping * reading[R.dq + i]
        for c in range(6):
            total -= jacobian[c, i] * wrench[c]
        push, energy = barrier(
            reading[R.q + i],
            Q_LOW[i],
            Q_HIGH[i],
            params[P.joint_margin],
            params[P.joint_barrier],
        )
        total += push + brake(reading[R.dq + i], i, params[P.speed_share], params[P.speed_braking])
        potential += energy
        out[i] = total
    return potential
