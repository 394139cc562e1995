"""The control chain once more, as vectorised numpy: what compiling it is measured against.

It is written from the equations, not from the compiled code, and covers a tick that the gate grants
in whole; a test holds the two to the same torques.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from controllers.config import ControlConfig
from controllers.joint_limits import PANDA, JointLimits
from controllers.kinematics import (
    FLANGE,
    HAND_ANGLE,
    LINKS,
    READY,
    TOOL,
    TORQUE_MAX,
)
from handrail.risk_critic.format import RiskCritic

REGULARISATION = 1e-4  # [1/kg], as in controllers.impedance
INERTIA_UPDATE_TICKS = 8  # [ticks]
DAMPING_BLEND = 0.05  # [-]


@dataclass
class Seen:
    """What the robot says at a tick."""

    q: np.ndarray  # (7,) [rad]
    dq: np.ndarray  # (7,) [rad/s]
    applied_torque: np.ndarray  # (7,) [N m]
    commanded_torque: np.ndarray  # (7,) [N m]
    mass_matrix: np.ndarray  # (7, 7) [kg m^2]
    wrench: np.ndarray  # (6,) [N, N m]


@dataclass
class Memory:
    """What the chain keeps from tick to tick."""

    position: np.ndarray  # (3,) of the target [m]
    rotation: np.ndarray  # (3, 3) of the target
    stiffness: np.ndarray  # (4,)
    goal: np.ndarray  # (3,) where the path leads [m]
    start: np.ndarray  # (3,) where it begins [m]
    path_tick: int = 10**9  # [ticks] along it
    q: np.ndarray = field(default_factory=lambda: READY.copy())
    posture: np.ndarray = field(default_factory=lambda: READY.copy())
    tank: float = 1.0  # [J]
    potential: float | None = None  # [J]
    passivity_balance: float = 0.0  # [J]
    ticks_since_contact: float = 1e9  # [ticks]
    force_bias: np.ndarray = field(default_factory=lambda: np.zeros(3))  # force at rest [N]
    damping: np.ndarray = field(default_factory=lambda: np.zeros((6, 6)))
    damping_goal: np.ndarray = field(default_factory=lambda: np.zeros((6, 6)))
    jacobian_inverse: np.ndarray = field(default_factory=lambda: np.zeros((7, 6)))
    tick: int = 0
    gated: int = 0


def kinematics(q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return position (3,) and rotation (3, 3) of the tool, and its Jacobian (6, 7)."""
    frame = np.eye(4)
    origins, axes = np.empty((7, 3)), np.empty((7, 3))
    for i, (a, sa, ca, d) in enumerate(LINKS):
        s, c = np.sin(q[i]), np.cos(q[i])
        frame = frame @ np.array(
            [
                [c, -s, 0.0, a],
                [s * ca, c * ca, -sa, -d * sa],
                [s * sa, c * sa, ca, d * ca],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        origins[i], axes[i] = frame[:3, 3], frame[:3, 2]
    s, c = np.sin(HAND_ANGLE), np.cos(HAND_ANGLE)
    rotation = frame[:3, :3] @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    position = frame[:3, 3] + rotation @ (np.array([0.0, 0.0, FLANGE]) + np.array(TOOL))
    return position, rotation, np.vstack([np.cross(axes, position - origins).T, axes.T])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Return the rotation vector of a matrix, (3,) [rad]."""
    skew = rotation - rotation.T
    axis = 0.5 * np.array([skew[2, 1], skew[0, 2], skew[1, 0]])
    sine, cosine = np.linalg.norm(axis), 0.5 * (np.trace(rotation) - 1.0)
    return axis if sine < 1e-9 else axis * (np.arctan2(sine, cosine) / sine)


def spring(
    config: ControlConfig, stiffness: np.ndarray, error: np.ndarray, phi: np.ndarray
) -> tuple[np.ndarray, float]:
    """Return the spring's wrench (6,) and potential [J]."""
    reach = np.minimum(np.abs(error), config.max_stretch)
    force = stiffness[:3] * np.sign(error) * reach
    energy = np.sum(stiffness[:3] * reach * (np.abs(error) - 0.5 * reach))
    angle = np.linalg.norm(phi)
    short = min(angle, config.max_rotational_stretch)
    energy += stiffness[3] * short * (angle - 0.5 * short)
    moment = stiffness[3] * phi * (short / angle if angle > short else 1.0)
    return np.concatenate([force, moment]), float(energy)


def shape(config: ControlConfig, memory: Memory, mass: np.ndarray, jacobian: np.ndarray) -> None:
    """Renew factorised damping and consistent inverse."""
    lift = np.linalg.solve(mass, jacobian.T)
    low = np.linalg.cholesky(jacobian @ lift + REGULARISATION * np.eye(6))
    lifted = np.linalg.inv(low).T
    gains = np.concatenate([memory.stiffness[:3], np.full(3, memory.stiffness[3])])
    modes, vectors = np.linalg.eigh(low.T @ (gains[:, None] * low))
    modes = np.maximum(modes, 0.0)
    rates = 2.0 * config.damping_ratio * np.sqrt(modes)
    rates = np.minimum(np.maximum(rates, 1.5 * config.dt * modes), 0.25 / config.dt)
    axes = lifted @ vectors
    memory.damping_goal = (axes * rates) @ axes.T
    memory.jacobian_inverse = lift @ (lifted @ lifted.T)


def risk(critic: RiskCritic, features: np.ndarray) -> float:
    """Return the risk by the most pessimistic head [-]."""
    x = np.clip((features - critic.mean) * critic.inverse_std, -10.0, 10.0)
    out = np.repeat(x[None], critic.heads, 0)
    for layer in critic.layers[:-1]:
        out = np.maximum(np.einsum("hi,hio->ho", out, layer.kernel) + layer.bias, 0.0)
    last = critic.layers[-1]
    logits = np.einsum("hi,hio->ho", out, last.kernel) + last.bias
    return float(1.0 / (1.0 + np.exp(-logits.max())))


def top_speed(joints: JointLimits, q: np.ndarray, dq: np.ndarray) -> np.ndarray:
    """Return how fast each joint may move where it is (7,) [rad/s]."""
    left = np.maximum(np.where(dq > 0.0, joints.high - q, q - joints.low), 0.0)
    near = np.maximum(np.sqrt(2.0 * joints.slowing * left) - joints.offset, 0.0)
    return np.where(joints.slowing > 0.0, np.minimum(joints.speed, near), joints.speed)


def tick(
    config: ControlConfig,
    memory: Memory,
    seen: Seen,
    critic: RiskCritic,
    period: int,
    joints: JointLimits = PANDA,
):
    """Return the torque of a tick (7,) and the risk; `memory` is changed.

    Args:
        config: Table [control].
        memory: Of the last tick.
        seen: Of this one.
        critic: Risk critic.
        period: Of the policy [ticks].
        joints: Limits of the arm.
    """
    every = (
        seen.q,
        seen.dq,
        seen.applied_torque,
        seen.commanded_torque,
        seen.mass_matrix,
        seen.wrench,
    )
    valid = all(np.isfinite(part).all() for part in every)
    valid = valid and (np.abs(seen.q - memory.q) <= 1.5 * joints.speed * config.dt).all()
    inside = ((seen.q >= joints.low - 0.01) & (seen.q <= joints.high + 0.01)).all()
    if not valid or not inside:
        raise ValueError("the state can't be trusted")
    position, rotation, jacobian = kinematics(seen.q)
    twist = jacobian @ seen.dq
    if memory.tick % INERTIA_UPDATE_TICKS == 0:
        shape(config, memory, seen.mass_matrix, jacobian)
    part = 1.0 if memory.tick == 0 else DAMPING_BLEND
    memory.damping = memory.damping + part * (memory.damping_goal - memory.damping)
    if memory.tick == 0 and np.linalg.norm(twist[:3]) < 5e-3:  # requests come from then on
        memory.force_bias = 0.01 * seen.wrench[:3]
    touch = np.linalg.norm(seen.wrench[:3] - memory.force_bias) > config.contact_force_threshold
    memory.ticks_since_contact = 0.0 if touch else memory.ticks_since_contact + 1.0

    null = config.posture_stiffness * (memory.posture - seen.q) - config.posture_damping * seen.dq
    null = np.clip(null, -config.posture_torque, config.posture_torque)
    wrench = memory.damping @ twist + memory.jacobian_inverse.T @ null
    depth = np.minimum(seen.q - (joints.low + config.joint_margin), 0.0)
    depth = depth + np.maximum(seen.q - (joints.high - config.joint_margin), 0.0)
    top = top_speed(joints, seen.q, seen.dq)
    excess = np.maximum(np.abs(seen.dq) - config.speed_share * top, 0.0)
    rest = null - config.joint_damping * seen.dq - jacobian.T @ wrench
    stiff = max(config.joint_repulsion, joints.repulsion)
    rest = rest - stiff * depth - config.overspeed_damping * excess * np.sign(seen.dq)
    barriers = 0.5 * stiff * float(depth @ depth)

    phi = rotation_vector(memory.rotation @ rotation.T)
    _, pull = spring(config, memory.stiffness, memory.position - position, phi)
    potential = pull + barriers
    memory.potential = potential if memory.potential is None else memory.potential
    moved = seen.q - memory.q
    work = float(seen.applied_torque @ moved)
    left = memory.potential - potential - work
    tank = memory.tank + (config.dissipation_credit * left if left > 0.0 else left)
    supply = config.refill * config.dt
    if tank < config.tank_start:
        tank = min(tank + supply, config.tank_start)
    memory.tank = min(tank, config.tank_max)
    memory.passivity_balance = max(memory.passivity_balance, -memory.potential) + work - supply

    memory.path_tick = min(memory.path_tick + 1, period)
    wanted = memory.start + memory.path_tick / period * (memory.goal - memory.start)
    reach = config.target_error_ratio * config.max_stretch
    wanted = np.clip(wanted, position - reach, position + reach)
    wanted = np.clip(wanted, config.box_low, config.box_high)
    slow = memory.ticks_since_contact * config.dt < config.contact_time
    step = (config.contact_speed if slow else config.max_speed) * config.dt
    way = wanted - memory.position
    far = np.linalg.norm(way)
    if far > step:
        wanted = memory.position + way * (step / far)

    features = np.concatenate(
        [wanted - position, phi, twist, seen.wrench, memory.stiffness[:3], [memory.tank]]
    )
    danger = risk(critic, features) if critic.heads else 0.0

    force, energy = spring(config, memory.stiffness, wanted - position, phi)
    torque = jacobian.T @ force + rest
    cost = energy - pull
    fits = cost <= memory.tank - config.tank_min
    fits = fits and (np.abs(torque) <= config.torque_share * TORQUE_MAX).all()
    fits = fits and (np.abs(torque - seen.commanded_torque) <= config.torque_rate).all()
    memory.gated += not fits
    memory.position, memory.tank = wanted, min(memory.tank - cost, config.tank_max)
    memory.potential = energy + barriers
    memory.q, memory.tick = seen.q.copy(), memory.tick + 1
    torque = np.clip(
        torque,
        seen.commanded_torque - config.torque_rate,
        seen.commanded_torque + config.torque_rate,
    )
    return np.clip(torque, -TORQUE_MAX, TORQUE_MAX), danger
