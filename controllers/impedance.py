"""The virtual spring and damper at the tool, and what else pulls on the joints.

    F = g K clip(x_d - x) - D v,    tau = J^T F + N tau_posture + tau_damping + tau_repulsion

Clipping a diagonal spring element by element makes it the gradient of a Huber potential, so that it
stays a passive spring whose pull is bounded by K c. Rotation is clipped by norm.

Sources:
    N. Hogan, "Impedance Control: An Approach to Manipulation", 1985.
    O. Khatib, "A Unified Approach for Motion and Force Control of Robot Manipulators", 1987:
    dynamically consistent inverse.
    A. Albu-Schäffer, C. Ott, U. Frese, G. Hirzinger, "Cartesian Impedance Control of Redundant
    Robots: Recent Results with the DLR-Light-Weight-Arms", 2003: factorised damping.
"""

from __future__ import annotations

import math

import numpy as np

from controllers.jacobi import symmetric_eigen
from controllers.joint_limit_avoidance import joint_speed_limit, limit_repulsion, overspeed_damping
from controllers.kernel import kernel
from controllers.packed import MEAS, PARAM, STATE
from controllers.rotation import between

REGULARISATION = 1e-4  # [1/kg, 1/(kg m^2)], added to the inverse task inertia near singularities


@kernel
def spring(
    params: np.ndarray,
    stiffness: np.ndarray,
    pose: np.ndarray,
    target: np.ndarray,
    force: np.ndarray,
) -> float:
    """Write the full spring's wrench on the tool and return its potential [J].

    Args:
        params: Packed `ControlConfig`.
        stiffness: x, y, z [N/m], rotational [N m/rad], shape (4,).
        pose: Of the tool, shape (7,).
        target: Of the spring's other end, shape (7,).
        force: Out, shape (6,), base frame [N, N m].
    """
    energy, clip = 0.0, params[PARAM.max_stretch]
    for i in range(3):
        error = target[i] - pose[i]
        reach = min(abs(error), clip)
        energy += stiffness[i] * reach * (abs(error) - 0.5 * reach)
        force[i] = stiffness[i] * max(-clip, min(clip, error))
    phi = between(
        (pose[3], pose[4], pose[5], pose[6]), (target[3], target[4], target[5], target[6])
    )
    angle = math.sqrt(phi[0] * phi[0] + phi[1] * phi[1] + phi[2] * phi[2])
    reach = min(angle, params[PARAM.max_rotational_stretch])
    energy += stiffness[3] * reach * (angle - 0.5 * reach)
    scale = stiffness[3] if angle <= reach else stiffness[3] * reach / angle
    for i in range(3):
        force[3 + i] = scale * phi[i]
    return energy


@kernel
def update_task_inertia(
    params: np.ndarray, state: np.ndarray, measurement: np.ndarray, jacobian: np.ndarray
) -> None:
    """Write damping and dynamically consistent inverse for this pose.

    The task inertia is L = (J M^-1 J^T)^-1.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `damping_goal` and `jacobian_inverse`.
        measurement: Of this tick.
        jacobian: Shape (6, 7).
    """
    chol = np.empty((7, 7))
    for i in range(7):
        for j in range(i + 1):
            total = measurement[MEAS.mass_matrix + 7 * i + j]
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
            total = REGULARISATION if i == j else 0.0
            for k in range(7):
                total += jacobian[i, k] * lift[k, j]
            for k in range(j):
                total -= low[i, k] * low[j, k]
            low[i, j] = math.sqrt(max(total, 1e-12)) if i == j else total / low[j, j]
    lifted = np.empty((6, 6))  # Q0 = low^-T, so that the task inertia is Q0 Q0^T
    for c in range(6):
        for i in range(5, -1, -1):
            total = 1.0 if i == c else 0.0
            for k in range(i + 1, 6):
                total -= low[k, i] * lifted[k, c]
            lifted[i, c] = total / low[i, i]
    design_damping(params, state, low, lifted)
    for i in range(7):
        half = np.empty(6)
        for c in range(6):
            half[c] = 0.0
            for k in range(6):
                half[c] += lift[i, k] * lifted[k, c]
        for c in range(6):
            total = 0.0
            for k in range(6):
                total += half[k] * lifted[c, k]
            state[STATE.jacobian_inverse + 6 * i + c] = total


@kernel
def design_damping(
    params: np.ndarray, state: np.ndarray, low: np.ndarray, lifted: np.ndarray
) -> None:
    """Write the damping that gives every mode of arm and spring the same damping ratio.

    With L = Q0 Q0^T and K = Q0 (U diag(k) U^T) Q0^T: D = Q0 U diag(2 z sqrt(k)) U^T Q0^T. Each mode
    is damped at least k dt (1/2 + d) with d = 1 tick of delay (sampled springs leak that much), and
    at most where a few more ticks of damping would turn the motion round.

    Args:
        params: Packed `ControlConfig`.
        state: Changed in place: `damping_goal`.
        low: Cholesky factor of L^-1, shape (6, 6).
        lifted: Q0, its inverse transposed, shape (6, 6).
    """
    dt = params[PARAM.dt]
    modes, vectors = np.empty((6, 6)), np.empty((6, 6))
    for i in range(6):
        for j in range(6):
            total = 0.0
            for k in range(max(i, j), 6):
                total += low[k, i] * state[STATE.stiffness + min(k, 3)] * low[k, j]
            modes[i, j] = total
    symmetric_eigen(modes, vectors)
    axes = np.empty((6, 6))  # Q0 U
    for i in range(6):
        for j in range(6):
            total = 0.0
            for k in range(6):
                total += lifted[i, k] * vectors[k, j]
            axes[i, j] = total
    rates = np.empty(6)
    for i in range(6):
        mode = max(modes[i, i], 0.0)
        wanted = 2.0 * state[STATE.damping_ratio] * math.sqrt(mode)
        rates[i] = min(max(wanted, 1.5 * dt * mode), 0.25 / dt)
    for i in range(6):
        for j in range(i + 1):
            total = 0.0
            for k in range(6):
                total += axes[i, k] * rates[k] * axes[j, k]
            state[STATE.damping_goal + 6 * i + j] = state[STATE.damping_goal + 6 * j + i] = total


@kernel
def blend_damping(state: np.ndarray, part: float) -> None:
    """Move the damping a part of the way to its goal; between two that damp, all damp."""
    for i in range(36):
        state[STATE.damping + i] += part * (
            state[STATE.damping_goal + i] - state[STATE.damping + i]
        )


@kernel
def non_spring_torque(
    params: np.ndarray,
    state: np.ndarray,
    measurement: np.ndarray,
    jacobian: np.ndarray,
    starved: bool,
    out: np.ndarray,
) -> float:
    """Write every torque but the spring's and return the joint limits' repulsive potential [J].

    Args:
        params: Packed `ControlConfig`.
        state: Of the chain.
        measurement: Of this tick.
        jacobian: Shape (6, 7).
        starved: The tank is empty: nothing that could drive, only what damps.
        out: Shape (7,), [N m].
    """
    null = np.empty(7)
    bound = params[PARAM.posture_torque]
    stiffness = 0.0 if starved else params[PARAM.posture_stiffness]
    for i in range(7):
        pull = stiffness * (state[STATE.posture + i] - measurement[MEAS.q + i])
        pull -= params[PARAM.posture_damping] * measurement[MEAS.dq + i]
        null[i] = max(-bound, min(bound, pull))
    wrench = np.empty(6)
    for c in range(6):
        total = 0.0
        for k in range(6):
            total += state[STATE.damping + 6 * c + k] * state[STATE.twist + k]
        for i in range(7):
            total += state[STATE.jacobian_inverse + 6 * i + c] * null[i]
        wrench[c] = total
    damping = params[PARAM.joint_damping] * (5.0 if starved else 1.0)
    potential = 0.0
    for i in range(7):
        total = null[i] - damping * measurement[MEAS.dq + i]
        for c in range(6):
            total -= jacobian[c, i] * wrench[c]
        push, energy = limit_repulsion(
            measurement[MEAS.q + i],
            params[PARAM.q_low + i],
            params[PARAM.q_high + i],
            params[PARAM.joint_margin],
            params[PARAM.joint_repulsion],
        )
        top = joint_speed_limit(params, i, measurement[MEAS.q + i], measurement[MEAS.dq + i])
        total += push + overspeed_damping(
            measurement[MEAS.dq + i],
            top,
            params[PARAM.speed_share],
            params[PARAM.overspeed_damping],
        )
        potential += energy
        out[i] = total
    return potential
