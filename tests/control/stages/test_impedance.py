"""The spring is a spring: bounded, the gradient of its potential, blind to quaternion signs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.config import ControlConfig
from controllers.impedance import non_spring_torque, spring, update_task_inertia
from controllers.kinematics import READY, forward
from controllers.packed import MEAS, MEASUREMENT_SIZE, PARAM, STATE, pack_params
from controllers.rotation import exp, multiply
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot

CONFIG = ControlConfig()
PARAMS = pack_params(CONFIG, 10.0)
STIFFNESS = np.array([*CONFIG.stiffness, CONFIG.rotational_stiffness])
HERE = np.array([0.4, 0.1, 0.3, 1.0, 0.0, 0.0, 0.0])

offsets = st.tuples(*[st.floats(-0.05, 0.05)] * 3, *[st.floats(-1.7, 1.7)] * 3).map(np.array)


def pose_at(offset: np.ndarray) -> np.ndarray:
    return np.concatenate(
        [HERE[:3] + offset[:3], multiply(exp(tuple(offset[3:])), tuple(HERE[3:]))]
    )


def pull(offset: np.ndarray) -> tuple[float, np.ndarray]:
    force = np.empty(6)
    return spring(PARAMS, STIFFNESS, HERE, pose_at(offset), force), force


@settings(max_examples=200, deadline=None)
@given(offsets)
def test_pull_is_bounded_whatever_the_target(offset):
    energy, force = pull(offset)
    assert energy >= 0.0
    assert (np.abs(force[:3]) <= np.array(CONFIG.stiffness) * CONFIG.max_stretch + 1e-9).all()
    torque = CONFIG.rotational_stiffness * CONFIG.max_rotational_stretch
    assert np.linalg.norm(force[3:]) <= torque + 1e-9


@settings(max_examples=100, deadline=None)
@given(offsets)
def test_pull_is_the_gradient_of_the_potential(offset):
    _, force = pull(offset)
    step = 1e-6
    for axis in range(6):
        moved = HERE.copy()
        if axis < 3:
            moved[axis] += step
        else:
            moved[3:] = multiply(exp(tuple(step * np.eye(3)[axis - 3])), tuple(HERE[3:]))
        forward_energy = spring(PARAMS, STIFFNESS, moved, pose_at(offset), np.empty(6))
        slope = (forward_energy - pull(offset)[0]) / step
        assert -slope == pytest.approx(force[axis], abs=0.01)


@settings(max_examples=100, deadline=None)
@given(offsets)
def test_a_quaternion_and_its_negative_are_the_same_target(offset):
    target, force, other = pose_at(offset), np.empty(6), np.empty(6)
    energy = spring(PARAMS, STIFFNESS, HERE, target, force)
    target[3:] *= -1.0
    assert spring(PARAMS, STIFFNESS, HERE, target, other) == energy
    assert (force == other).all()


def shaped() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    robot = MujocoRobot(build_scene("", gripper=False), MujocoConfig(), CONFIG, 10.0)
    robot.run(None, 1)
    measurement = robot._measurement
    jacobian, pose = np.empty((6, 7)), np.empty(7)
    forward(measurement[MEAS.q : MEAS.q + 7], PARAMS[PARAM.tool : PARAM.tool + 3], pose, jacobian)
    update_task_inertia(PARAMS, robot.state, measurement, jacobian)
    return robot.state, measurement, jacobian


def test_posture_does_not_push_the_tool():
    state, measurement, jacobian = shaped()
    mass = measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49].reshape(7, 7)
    state[STATE.posture : STATE.posture + 7] = READY + 0.3
    state[STATE.twist : STATE.twist + 6] = 0.0
    measurement[MEAS.dq : MEAS.dq + 7] = 0.0
    torque = np.empty(7)
    non_spring_torque(PARAMS, state, measurement, jacobian, False, torque)
    assert np.abs(torque).max() > 0.5
    acceleration = jacobian @ np.linalg.solve(mass, torque)
    free = jacobian @ np.linalg.solve(mass, np.clip(torque, -1.0, 1.0) + 1.0)
    assert np.abs(acceleration).max() < 0.01 * np.abs(free).max()


def test_damping_takes_energy_out_in_every_direction():
    state, measurement, jacobian = shaped()
    rng = np.random.default_rng(0)
    state[STATE.posture : STATE.posture + 7] = measurement[MEAS.q : MEAS.q + 7]
    for _ in range(200):
        dq = rng.uniform(-1.0, 1.0, 7)
        measurement[MEAS.dq : MEAS.dq + 7] = dq
        state[STATE.twist : STATE.twist + 6] = jacobian @ dq
        torque = np.empty(7)
        non_spring_torque(PARAMS, state, measurement, jacobian, True, torque)
        assert torque @ dq < 0.0


def test_damping_stays_within_what_sampling_allows():
    state, measurement, jacobian = shaped()
    damping = state[STATE.damping_goal : STATE.damping_goal + 36].reshape(6, 6)
    mobility = jacobian @ np.linalg.solve(
        measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49].reshape(7, 7), jacobian.T
    )
    stiffness = np.diag([*CONFIG.stiffness, *[CONFIG.rotational_stiffness] * 3])
    assert np.linalg.eigvalsh(damping - 1.5 * stiffness * CONFIG.dt).min() > 0.0
    assert np.abs(np.linalg.eigvals(damping @ mobility)).max() * CONFIG.dt < 0.26


@pytest.mark.parametrize("ratio", [0.4, 0.8, 1.0])
def test_every_mode_of_arm_and_spring_has_the_same_damping_ratio(ratio):
    state, measurement, jacobian = shaped()
    state[STATE.damping_ratio] = ratio
    update_task_inertia(PARAMS, state, measurement, jacobian)
    damping = state[STATE.damping_goal : STATE.damping_goal + 36].reshape(6, 6)
    mobility = jacobian @ np.linalg.solve(
        measurement[MEAS.mass_matrix : MEAS.mass_matrix + 49].reshape(7, 7), jacobian.T
    )
    stiffness = np.diag([*CONFIG.stiffness, *[CONFIG.rotational_stiffness] * 3])
    zero, one = np.zeros((6, 6)), np.eye(6)
    system = np.block([[zero, one], [-mobility @ stiffness, -mobility @ damping]])
    poles = np.linalg.eigvals(system)
    np.testing.assert_allclose(-poles.real / np.abs(poles), ratio, atol=0.02)
    assert measurement.size == MEASUREMENT_SIZE
