"""Stale requests, bad requests, bad states: what the chain does and when."""

import math

import numpy as np
import pytest
from made_chain import CONFIG, DOWN, PARAMS, START, rest
from past_ticks import past, remembering

from controllers.chain import initial_state, step
from controllers.force_bias import min_stiffness_for_payload
from controllers.packed import CMD, MEAS, STATE, empty_command_buffer
from controllers.robot import Authority, Fault, Mode, Request
from robot_env.arms.panda_mjcf import build_scene
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot

WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".56 0 .3"/>'


@pytest.fixture(scope="module")
def plant() -> MujocoRobot:
    return remembering(MujocoRobot(build_scene(WALL, gripper=False), MujocoConfig(), CONFIG, 10.0))


@pytest.fixture
def robot(plant: MujocoRobot) -> MujocoRobot:
    plant.heartbeat_age = 0.0
    plant.reset(plant.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(3))
    return plant


def move(robot: MujocoRobot, way: tuple[float, float, float], periods: int, source: int = 0):
    snapshot = robot.snapshot()
    for _ in range(periods):
        target = snapshot.target_position + np.array(way)
        request = Request(snapshot.request_seq + 1, source, target, DOWN, 0.0)
        snapshot = robot.run(request, 100)
    return snapshot


def ask(seq: float) -> np.ndarray:
    command_buffer, state = empty_command_buffer(), initial_state(PARAMS)
    command_buffer[CMD.seq], command_buffer[CMD.pose : CMD.pose + 7] = (
        seq,
        state[STATE.pose : STATE.pose + 7],
    )
    return command_buffer


def test_nobody_is_late_before_the_first_request(robot):
    snapshot = robot.run(None, 3000)
    assert (snapshot.mode, snapshot.fault) == (Mode.HOLDING, Fault.NONE)


def test_a_dead_actor_leaves_no_more_force_on_the_wall_than_the_clip_allows(robot):
    snapshot = move(robot, (0.01, 0.0, 0.0), 40)
    assert -snapshot.wrench[0] > 10.0
    before = snapshot.force_peak
    robot.heartbeat_age = 1.0
    force = robot.run(None, 300).force_peak
    assert force <= before + 2.0
    assert np.linalg.norm(robot.run(None, 1500).wrench[:3]) < 0.6 * before


def test_a_soft_stop_is_left_only_by_rearming(robot):
    move(robot, (0.0, 0.01, 0.0), 3)
    robot.stop()
    assert robot.run(None, 10).mode == Mode.SOFT_STOP
    assert robot.snapshot().fault == Fault.COMMANDED
    assert move(robot, (0.0, 0.01, 0.0), 3).mode == Mode.SOFT_STOP
    robot.rearm()
    assert robot.run(None, 10).mode == Mode.HOLDING
    snapshot = move(robot, (0.0, 0.01, 0.0), 5)
    assert (snapshot.mode, snapshot.fault) == (Mode.FOLLOWING, Fault.NONE)


@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_a_soft_stop_carries_a_payload_that_nobody_told_it_of(weight):
    real = MujocoConfig(payload_error=(weight, weight))
    robot = MujocoRobot(build_scene("", gripper=False), real, CONFIG, 10.0)
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(3))
    height = move(robot, (0.0, 0.01, 0.0), 5).position[2]
    robot.stop()
    stopped = robot.run(None, 3000)
    assert height - stopped.position[2] < 0.008
    assert (stopped.stiffness[2] < 0.2 * CONFIG.stiffness[2]) == (weight == 0.0)


@pytest.mark.parametrize("weakest", range(3))
def test_a_stopped_arm_carries_its_payload_on_its_weakest_axis(weakest):
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    command_buffer[CMD.stop] = Fault.COMMANDED
    soft = np.full(3, 1200.0)
    soft[weakest] = 500.0
    state[STATE.stiffness : STATE.stiffness + 3] = state[
        STATE.commanded_gains : STATE.commanded_gains + 3
    ] = soft
    state[STATE.force_bias + weakest] = 2.0
    for _ in range(20):
        state, _ = step(PARAMS, state, rest(), command_buffer)
    least = min_stiffness_for_payload(PARAMS, state)
    assert least < 500.0
    assert state[STATE.stiffness_scale] == pytest.approx(least / 500.0)


def test_a_change_of_authority_starts_from_the_measured_pose(robot):
    snapshot = move(robot, (0.01, 0.0, 0.0), 20)
    lead = snapshot.target_position[0] - snapshot.position[0]
    assert lead > 0.8 * CONFIG.max_stretch
    same = Request(snapshot.request_seq + 1, Authority.HUMAN, snapshot.position, DOWN, 0.0)
    snapshot = robot.run(same, 200)
    assert snapshot.mode == Mode.HUMAN
    assert abs(snapshot.target_position[0] - snapshot.position[0]) < 0.3 * lead
    torque = past(robot, "tick.torque", 150)
    assert np.abs(np.diff(torque, axis=0)).max() <= CONFIG.torque_rate + 1e-9


def test_requests_out_of_order_are_dropped_once_each():
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(5.0))
    for _ in range(3):
        state, _ = step(PARAMS, state, rest(), ask(4.0))
    assert (state[STATE.seq], state[STATE.dropped]) == (5.0, 1.0)
    state, _ = step(PARAMS, state, rest(), ask(math.nan))
    state, _ = step(PARAMS, state, rest(), ask(math.nan))
    assert state[STATE.dropped] == 2.0
    state, _ = step(PARAMS, state, rest(), ask(6.0))
    assert (state[STATE.seq], state[STATE.dropped]) == (6.0, 2.0)


def test_joints_that_jump_are_a_fault_and_a_loss_of_packets_is_not():
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(1.0))
    jumped = rest()
    jumped[MEAS.q + 3] += 0.02
    after, _ = step(PARAMS, state, jumped, ask(1.0))
    assert (after[STATE.mode], after[STATE.fault]) == (Mode.FAULT, Fault.STATE_JUMP)
    jumped[MEAS.elapsed] = 10.0
    after, _ = step(PARAMS, state, jumped, ask(1.0))
    assert (after[STATE.mode], after[STATE.fault]) == (Mode.FOLLOWING, Fault.NONE)


@pytest.mark.parametrize(("force", "stopped"), [(149.0, False), (151.0, True)])
def test_more_force_than_the_limit_is_a_soft_stop_in_the_same_tick(force, stopped):
    assert CONFIG.force_limit == 150.0
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(1.0))
    measurement = rest()
    measurement[MEAS.wrench : MEAS.wrench + 3] = force * np.array([0.6, 0.0, -0.8])
    state, _ = step(PARAMS, state, measurement, ask(1.0))
    wanted = (Mode.SOFT_STOP, Fault.FORCE_LIMIT) if stopped else (Mode.FOLLOWING, Fault.NONE)
    assert (state[STATE.mode], state[STATE.fault]) == wanted


def test_a_failed_energy_audit_is_a_soft_stop_in_the_same_tick():
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(1.0))
    state[STATE.passivity_balance] = CONFIG.tank_max - CONFIG.tank_min + 0.1
    state, _ = step(PARAMS, state, rest(), ask(1.0))
    assert (state[STATE.mode], state[STATE.fault]) == (Mode.SOFT_STOP, Fault.ENERGY_AUDIT)


def test_a_fault_is_left_only_by_a_reset_which_fills_the_tank(robot):
    move(robot, (0.0, 0.01, 0.0), 3)
    robot.state[STATE.q] += 0.1  # as if the joint had jumped
    snapshot = robot.run(None, 1)
    assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.STATE_JUMP)
    robot.rearm()
    assert move(robot, (0.0, 0.01, 0.0), 3).mode == Mode.FAULT
    assert np.abs(past(robot, "tick.torque", 1)).max() < 15.0  # damping alone
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(3))
    snapshot = robot.run(None, 1)
    assert (snapshot.mode, snapshot.fault) == (Mode.HOLDING, Fault.NONE)
    assert snapshot.tank == pytest.approx(CONFIG.tank_start, abs=1e-3)
