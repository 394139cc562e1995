"""What a request may ask and what a measured state may be."""

from __future__ import annotations

import numpy as np
import pytest
from made_chain import CONFIG, DOWN, PARAMS, arm, rest

from controllers.chain import initial_state
from controllers.command import accept_command
from controllers.config import ControlConfig
from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW, READY
from controllers.packed import CMD, MEAS, STATE, empty_command_buffer
from controllers.robot import Fault, Mode, Request
from controllers.state_check import check_measurement


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_may_move_as_fast_as_it_can_and_no_faster(joint):
    for share, fault in ((1.4, 0), (-1.4, 0), (1.6, Fault.STATE_JUMP), (-1.6, Fault.STATE_JUMP)):
        state, measurement = initial_state(PARAMS), rest()
        measurement[MEAS.q + joint] += share * DQ_MAX[joint] * CONFIG.dt
        assert check_measurement(PARAMS, state, measurement) == fault
        measurement[MEAS.elapsed] = 3.0  # after two lost states it may have gone farther
        measurement[MEAS.q + joint] = READY[joint] + 3.0 * share * DQ_MAX[joint] * CONFIG.dt
        assert check_measurement(PARAMS, state, measurement) == fault


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_may_be_as_far_beyond_its_range_as_encoders_err(joint):
    for limit, sign in ((Q_LOW, -1.0), (Q_HIGH, 1.0)):
        for beyond, fault in ((0.009, 0), (0.011, Fault.JOINT_LIMIT)):
            state, measurement = initial_state(PARAMS), rest()
            measurement[MEAS.q + joint] = state[STATE.q + joint] = limit[joint] + sign * beyond
            assert check_measurement(PARAMS, state, measurement) == fault


@pytest.mark.parametrize(
    ("asked", "given"),
    [(-0.02, 0.0), (0.0, 0.0), (0.03, 0.03), (0.08, 0.08), (0.2, 0.08)],
)
def test_the_gripper_is_asked_for_no_more_than_it_can(asked, given):
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    command_buffer[CMD.seq], command_buffer[CMD.gripper] = 0, asked
    command_buffer[CMD.pose : CMD.pose + 7] = state[STATE.pose : STATE.pose + 7]
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.gripper] == given


@pytest.mark.parametrize(
    ("asked", "given"), [(0.0, 0.8), (0.1, 0.3), (0.3, 0.3), (1.0, 1.0), (1.5, 1.5), (9.0, 1.5)]
)
def test_a_request_sets_the_damping_ratio_within_its_range(asked, given):
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    command_buffer[CMD.seq], command_buffer[CMD.damping_ratio] = 0, asked
    command_buffer[CMD.pose : CMD.pose + 7] = state[STATE.pose : STATE.pose + 7]
    command_buffer[CMD.stiffness : CMD.stiffness + 4] = [1.0, 777.0, 1e9, 9999.0]
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.commanded_gains : STATE.commanded_gains + 5].tolist() == [
        50.0,
        777.0,
        3000.0,
        150.0,
        given,
    ]


@pytest.mark.parametrize("length", [0.0, 0.998, 1.002, 2.0, np.nan])
def test_a_quaternion_that_is_none_is_refused(length):
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    command_buffer[CMD.seq] = 0
    command_buffer[CMD.pose : CMD.pose + 7] = state[STATE.pose : STATE.pose + 7]
    command_buffer[CMD.pose + 3 : CMD.pose + 7] *= length
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.dropped] == 1.0
    assert state[STATE.mode] == Mode.HOLDING
    command_buffer[CMD.seq] = 1
    command_buffer[CMD.pose + 3 : CMD.pose + 7] = [0.9995, 0.0, 0.0, 0.0]
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.mode] == Mode.FOLLOWING
    assert np.linalg.norm(state[STATE.goal + 3 : STATE.goal + 7]) == pytest.approx(1.0)


def test_a_request_from_far_away_or_from_yesterday_is_refused():
    state, command_buffer = initial_state(PARAMS), empty_command_buffer()
    command_buffer[CMD.seq] = 5
    command_buffer[CMD.pose : CMD.pose + 7] = state[STATE.pose : STATE.pose + 7]
    command_buffer[CMD.pose] = 10.1
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.dropped] == 1.0
    command_buffer[CMD.seq], command_buffer[CMD.pose] = 6, 0.5
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.seq] == 6.0
    command_buffer[CMD.seq] = 4
    accept_command(PARAMS, state, command_buffer)
    assert state[STATE.dropped] == 2.0
    assert state[STATE.seq] == 6.0


def test_a_request_sets_stiffness_and_nought_asks_for_the_configs():
    robot = arm()
    snapshot = robot.snapshot()
    soft = Request(0, 0, snapshot.position, DOWN, 0.0, (300.0, 400.0, 9e9, 1.0), 1.0)
    snapshot = robot.run(soft, 100)
    np.testing.assert_allclose(snapshot.stiffness, [300.0, 400.0, 3000.0, 5.0])
    snapshot = robot.run(Request(1, 0, snapshot.position, DOWN, 0.0), 100)
    np.testing.assert_allclose(snapshot.stiffness, [1500.0, 1500.0, 1500.0, 80.0])


def test_stiffening_a_stretched_spring_is_paid_for():
    robot = arm(ControlConfig(refill=0.0))
    snapshot = robot.snapshot()
    ahead = snapshot.position + np.array([0.0, 0.0, 0.012])
    for seq in range(4):
        snapshot = robot.run(Request(seq, 0, ahead, DOWN, 0.0, (100.0,) * 3 + (80.0,)), 100)
    stretch = abs(snapshot.target_position[2] - snapshot.position[2])
    before = snapshot.energy_injected
    snapshot = robot.run(Request(9, 0, ahead, DOWN, 0.0, (100.0, 100.0, 3000.0, 80.0)), 100)
    assert stretch > 0.002
    assert snapshot.energy_injected - before > 0.5 * 0.5 * 2900.0 * stretch**2
