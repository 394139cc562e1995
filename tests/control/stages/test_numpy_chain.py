"""The compiled chain against the same equations written as vectorised numpy, by another hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.kit.numpy_chain import Memory, Seen, kinematics, tick
from controllers.chain import advance, initial_state
from controllers.config import ControlConfig
from controllers.joint_limits import FR3, PANDA
from controllers.kinematics import READY, pose_of
from controllers.packed import CMD, MEASUREMENT_SIZE, STATE, empty_command_buffer, pack_params
from controllers.rotation import conjugate, multiply
from handrail.risk_critic.format import Layer, RiskCritic, pack_critic


def critic_of(rng: np.random.Generator, hidden: int = 16) -> RiskCritic:
    sizes = [22, hidden, hidden, 1]
    layers = tuple(
        Layer(
            rng.standard_normal((2, a, b)).astype(np.float32) / np.sqrt(a),
            rng.standard_normal((2, b)).astype(np.float32),
        )
        for a, b in pairwise(sizes)
    )
    mean, rate = np.zeros(22, np.float32), np.full(22, 0.3, np.float32)
    return RiskCritic(1, mean, rate, layers, 1.0, 0.9)


NEAR = np.array([*READY[:5], FR3.low[5] + 0.095, READY[6]])  # where an FR3's barrier acts


@pytest.mark.parametrize(
    ("seed", "joints", "where", "around"),
    [*((n, PANDA, READY, 0.02) for n in range(4)), (4, FR3, NEAR, 0.001)],
)
def test_both_chains_give_the_same_torques(seed, joints, where, around):
    rng = np.random.default_rng(seed)
    config, period = ControlConfig(tank_start=50.0, tank_max=100.0, max_tilt=3.1), 100
    params, critic = pack_params(config, 10.0, joints=joints), critic_of(rng)
    packed = pack_critic(critic)
    half = rng.standard_normal((7, 7))
    mass = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]) + 0.01 * half @ half.T
    begin = where + rng.uniform(-around, around, 7)
    state, command_buffer = initial_state(params, begin), empty_command_buffer()
    position, rotation, _ = kinematics(begin)
    stiffness = np.array([*config.stiffness, config.rotational_stiffness])
    memory = Memory(position, rotation, stiffness, position, position, tank=50.0)
    memory.q, memory.posture = begin.copy(), begin.copy()
    np.testing.assert_allclose(state[STATE.pose : STATE.pose + 3], position, atol=1e-12)
    measurement, torque, q = np.zeros(MEASUREMENT_SIZE), np.empty(7), begin.copy()
    held, acted, phase, largest = np.zeros(7), np.zeros(7), rng.uniform(0, 6, 7), 0.0
    for k in range(500):
        if k % 200 == 0:  # the first one comes at rest, where target and tool are one
            goal = state[STATE.target : STATE.target + 7].copy()
            goal[:3] += rng.uniform(-0.006, 0.006, 3)
            command_buffer[CMD.seq], command_buffer[CMD.pose : CMD.pose + 7] = k, goal
            memory.start, memory.goal, memory.path_tick = memory.position, goal[:3], 0
        command_buffer[CMD.heartbeat] = 0.0
        dq = 0.05 * np.sin(0.02 * k) * np.cos(phase)
        q = q + 1e-3 * dq
        force = 2.0 * rng.standard_normal(6)
        seen = Seen(q.copy(), dq, acted, held, mass, force)
        measurement[:] = np.concatenate([q, dq, acted, held, mass.ravel(), force, [1.0]])
        advance(params, state, measurement, command_buffer, packed, torque)
        expected, danger = tick(config, memory, seen, critic, period, joints)
        np.testing.assert_allclose(torque, expected, atol=1e-8, err_msg=f"tick {k}")
        assert state[STATE.tank] == pytest.approx(memory.tank, abs=1e-9)
        assert state[STATE.risk] == pytest.approx(danger, abs=1e-5)
        assert state[STATE.passivity_balance] == pytest.approx(memory.passivity_balance, abs=1e-9)
        largest = max(largest, float(np.abs(torque).max()))
        acted, held = held, torque.copy()
    assert memory.gated == 0
    assert state[STATE.gated_ticks] == 0.0
    assert largest > 1.0


def test_the_numpy_chain_knows_the_same_kinematics():
    rng = np.random.default_rng(3)
    for _ in range(20):
        q = READY + rng.uniform(-0.5, 0.5, 7)
        position, rotation, jacobian = kinematics(q)
        pose = pose_of(q)
        np.testing.assert_allclose(pose[:3], position, atol=1e-12)
        step = 1e-7
        for i in range(7):
            moved, _, _ = kinematics(q + step * np.eye(7)[i])
            np.testing.assert_allclose((moved - position) / step, jacobian[:3, i], atol=1e-5)
        z = multiply(multiply(tuple(pose[3:]), (0.0, 0.0, 1.0, 0.0)), conjugate(tuple(pose[3:])))
        np.testing.assert_allclose(z[:3], rotation[:, 2], atol=1e-9)
