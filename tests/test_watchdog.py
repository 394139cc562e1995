"""Stale requests, bad requests, bad states: what the chain does and when."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.chain import ControlConfig, initial_state, step
from controllers.kinematics import READY
from controllers.layout import READING_SIZE, M, R, S, empty_mailbox, pack_params
from controllers.robot import Fault, Mode, Request, Source
from robot_env.robots.mujoco import TRACE, MujocoConfig, MujocoRobot
from robot_env.robots.panda import scene

CONFIG = ControlConfig()
PARAMS = pack_params(CONFIG, 10.0)
WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".56 0 .3"/>'
DOWN = np.array([1.0, 0.0, 0.0, 0.0])
START = np.array([0.5, 0.0, 0.3])
LATE = int(CONFIG.stale_periods * 100)  # [ticks]


@pytest.fixture(scope="module")
def plant() -> MujocoRobot:
    return MujocoRobot(scene(WALL, gripper=False), MujocoConfig(), CONFIG, 10.0)


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


def rest() -> np.ndarray:
    reading = np.zeros(READING_SIZE)
    reading[R.q : R.q + 7], reading[R.elapsed] = READY, 1.0
    reading[R.mass : R.mass + 49] = np.diag([2.0, 2.0, 1.5, 1.5, 0.4, 0.4, 0.2]).ravel()
    return reading


def ask(seq: float, values=None) -> np.ndarray:
    mailbox = empty_mailbox()
    state = initial_state(PARAMS)
    mailbox[M.seq], mailbox[M.pose : M.pose + 7] = seq, state[S.pose : S.pose + 7]
    if values is not None:
        mailbox[M.pose : M.pose + 7], mailbox[M.gripper] = values[:7], values[7]
    return mailbox


def test_nobody_is_late_before_the_first_request(robot):
    snapshot = robot.run(None, 3000)
    assert (snapshot.mode, snapshot.fault) == (Mode.HOLDING, Fault.NONE)


def test_a_stale_target_is_held_then_softened_then_stopped(robot):
    move(robot, (0.0, 0.01, 0.0), 8)
    robot.run(None, 3000)
    trace = robot.history(3000)
    mode, share = trace[:, TRACE["mode"]].ravel(), trace[:, TRACE["share"]].ravel()
    held = int(np.argmax(mode == Mode.HOLDING))
    stopped = int(np.argmax(mode == Mode.SOFT_STOP))
    assert held == pytest.approx(LATE - 100, abs=2)  # the request was 100 ticks old already
    assert stopped - held == pytest.approx(1000 * CONFIG.stop_time, abs=2)
    ramp = held + int(1000 * CONFIG.hold_time)
    assert (share[held : ramp - 2] == 1.0).all()
    assert (np.diff(share[ramp : stopped + 1]) <= 1e-12).all()
    assert share[-1] == pytest.approx(CONFIG.stop_stiffness, abs=1e-9)
    assert robot.snapshot().fault == Fault.TARGET_STALE


def test_a_lost_heartbeat_holds_within_the_next_tick_and_the_arm_comes_to_rest(robot):
    snapshot = move(robot, (0.0, 0.01, 0.0), 8)
    assert snapshot.speed_peak > 0.08
    robot.heartbeat_age = CONFIG.heartbeat + 1e-3
    assert robot.run(None, 1).mode == Mode.HOLDING
    robot.run(None, 600)
    speed = np.linalg.norm(robot.history(600)[:, TRACE["speed"]], axis=1)
    assert speed[250:].max() < 0.005
    for _ in range(6):
        snapshot = robot.run(None, 100)
    assert (snapshot.mode, snapshot.fault) == (Mode.SOFT_STOP, Fault.HEARTBEAT_LOST)


def test_a_dead_actor_leaves_no_more_force_on_the_wall_than_the_clip_allows(robot):
    snapshot = move(robot, (0.01, 0.0, 0.0), 40)
    assert -snapshot.wrench[0] > 10.0
    before = snapshot.force_peak
    robot.heartbeat_age = 1.0
    force = robot.run(None, 300).force_peak
    assert force <= before + 2.0
    assert np.linalg.norm(robot.run(None, 1500).wrench[:3]) < 0.6 * before


def test_a_fresh_request_ends_a_hold(robot):
    move(robot, (0.0, 0.01, 0.0), 3)
    assert robot.run(None, 400).mode == Mode.HOLDING
    snapshot = move(robot, (0.0, 0.01, 0.0), 5)
    assert snapshot.mode == Mode.FOLLOWING
    assert snapshot.position[1] - START[1] > 0.03


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
    robot = MujocoRobot(scene("", gripper=False), real, CONFIG, 10.0)
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(3))
    height = move(robot, (0.0, 0.01, 0.0), 5).position[2]
    robot.stop()
    stopped = robot.run(None, 3000)
    assert height - stopped.position[2] < 0.008
    assert (stopped.stiffness[2] < 0.2 * CONFIG.stiffness[2]) == (weight == 0.0)


def test_a_change_of_authority_starts_from_the_measured_pose(robot):
    snapshot = move(robot, (0.01, 0.0, 0.0), 20)
    lead = snapshot.target_position[0] - snapshot.position[0]
    assert lead > 0.8 * CONFIG.clip
    same = Request(snapshot.request_seq + 1, Source.HUMAN, snapshot.position, DOWN, 0.0)
    snapshot = robot.run(same, 200)
    assert snapshot.mode == Mode.HUMAN
    assert abs(snapshot.target_position[0] - snapshot.position[0]) < 0.3 * lead
    torque = robot.history(150)[:, TRACE["torque"]]
    assert np.abs(np.diff(torque, axis=0)).max() <= CONFIG.torque_rate + 1e-9


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 7),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e9, 5e300]),
)
def test_a_request_that_is_no_pose_is_dropped_and_counted(index, value):
    good = ask(1.0)
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), good)
    assert state[S.mode] == Mode.FOLLOWING
    values = good[M.pose : M.pose + 8].copy()
    values[index] = value
    if index == 7 and math.isfinite(value):
        return  # a width is only clamped
    after, torque = step(PARAMS, state, rest(), ask(2.0, values))
    assert after[S.dropped] == 1.0
    assert after[S.seq] == 1.0
    assert (after[S.goal : S.goal + 7] == state[S.goal : S.goal + 7]).all()
    assert np.isfinite(torque).all()


def test_requests_out_of_order_are_dropped_once_each():
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(5.0))
    for _ in range(3):
        state, _ = step(PARAMS, state, rest(), ask(4.0))
    assert (state[S.seq], state[S.dropped]) == (5.0, 1.0)
    state, _ = step(PARAMS, state, rest(), ask(math.nan))
    state, _ = step(PARAMS, state, rest(), ask(math.nan))
    assert state[S.dropped] == 2.0
    state, _ = step(PARAMS, state, rest(), ask(6.0))
    assert (state[S.seq], state[S.dropped]) == (6.0, 2.0)


@pytest.mark.parametrize("part", [R.q + 2, R.dq, R.acted + 6, R.held + 1, R.mass + 8, R.wrench])
def test_a_state_that_is_not_finite_ramps_the_torque_to_zero_and_stays_down(part):
    state = initial_state(PARAMS)
    reading = rest()
    reading[R.held : R.held + 7] = state[S.torque : S.torque + 7] = [9, -9, 5, 5, 2, 2, 2]
    reading[part] = math.nan
    last = state[S.torque : S.torque + 7].copy()
    for _ in range(12):
        state, torque = step(PARAMS, state, reading, ask(1.0))
        assert np.isfinite(torque).all()
        assert np.abs(torque - last).max() <= 0.999 + 1e-9
        last = torque
        if part != R.held + 1:
            reading[R.held : R.held + 7] = torque
    assert (state[S.mode], state[S.fault]) == (Mode.FAULT, Fault.STATE_NOT_FINITE)
    assert np.abs(last).max() == 0.0 or part == R.held + 1
    state, _ = step(PARAMS, state, rest(), ask(2.0))
    assert state[S.mode] == Mode.FAULT


def test_joints_that_jump_are_a_fault_and_a_loss_of_packets_is_not():
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(1.0))
    jumped = rest()
    jumped[R.q + 3] += 0.02
    after, _ = step(PARAMS, state, jumped, ask(1.0))
    assert (after[S.mode], after[S.fault]) == (Mode.FAULT, Fault.STATE_JUMP)
    jumped[R.elapsed] = 10.0
    after, _ = step(PARAMS, state, jumped, ask(1.0))
    assert (after[S.mode], after[S.fault]) == (Mode.FOLLOWING, Fault.NONE)


@pytest.mark.parametrize(("force", "stopped"), [(149.0, False), (151.0, True)])
def test_more_force_than_the_limit_is_a_soft_stop_in_the_same_tick(force, stopped):
    assert CONFIG.force_limit == 150.0
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(1.0))
    reading = rest()
    reading[R.wrench : R.wrench + 3] = force * np.array([0.6, 0.0, -0.8])
    state, _ = step(PARAMS, state, reading, ask(1.0))
    wanted = (Mode.SOFT_STOP, Fault.FORCE_LIMIT) if stopped else (Mode.FOLLOWING, Fault.NONE)
    assert (state[S.mode], state[S.fault]) == wanted


def test_a_failed_energy_audit_is_a_soft_stop_in_the_same_tick():
    state, _ = step(PARAMS, initial_state(PARAMS), rest(), ask(1.0))
    state[S.audit] = CONFIG.tank_max - CONFIG.tank_min + 0.1
    state, _ = step(PARAMS, state, rest(), ask(1.0))
    assert (state[S.mode], state[S.fault]) == (Mode.SOFT_STOP, Fault.ENERGY_AUDIT)


def test_a_fault_is_left_only_by_a_reset_which_fills_the_tank(robot):
    move(robot, (0.0, 0.01, 0.0), 3)
    robot.state[S.q] += 0.1  # as if the joint had jumped
    snapshot = robot.run(None, 1)
    assert (snapshot.mode, snapshot.fault) == (Mode.FAULT, Fault.STATE_JUMP)
    robot.rearm()
    assert move(robot, (0.0, 0.01, 0.0), 3).mode == Mode.FAULT
    assert np.abs(robot.history(1)[:, TRACE["torque"]]).max() < 15.0  # damping alone
    robot.reset(robot.inverse_kinematics(START, DOWN), 0.0, np.random.default_rng(3))
    snapshot = robot.run(None, 1)
    assert (snapshot.mode, snapshot.fault) == (Mode.HOLDING, Fault.NONE)
    assert snapshot.tank == pytest.approx(CONFIG.tank_start, abs=1e-3)
