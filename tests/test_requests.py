"""What a request may ask and what a measured state may be."""

from __future__ import annotations

import numpy as np
import pytest
from made_chain import CONFIG, DOWN, PARAMS, arm, rest

from controllers.chain import initial_state
from controllers.config import ControlConfig
from controllers.kinematics import DQ_MAX, Q_HIGH, Q_LOW, READY
from controllers.layout import M, R, S, empty_mailbox
from controllers.request import take_request
from controllers.robot import Fault, Mode, Request
from controllers.validity import judge_state


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_may_move_as_fast_as_it_can_and_no_faster(joint):
    for share, fault in ((1.4, 0), (-1.4, 0), (1.6, Fault.STATE_JUMP), (-1.6, Fault.STATE_JUMP)):
        state, reading = initial_state(PARAMS), rest()
        reading[R.q + joint] += share * DQ_MAX[joint] * CONFIG.dt
        assert judge_state(PARAMS, state, reading) == fault
        reading[R.elapsed] = 3.0  # after two lost states it may have gone farther
        reading[R.q + joint] = READY[joint] + 3.0 * share * DQ_MAX[joint] * CONFIG.dt
        assert judge_state(PARAMS, state, reading) == fault


@pytest.mark.parametrize("joint", range(7))
def test_a_joint_may_be_as_far_beyond_its_range_as_encoders_err(joint):
    for limit, sign in ((Q_LOW, -1.0), (Q_HIGH, 1.0)):
        for beyond, fault in ((0.009, 0), (0.011, Fault.JOINT_LIMIT)):
            state, reading = initial_state(PARAMS), rest()
            reading[R.q + joint] = state[S.q + joint] = limit[joint] + sign * beyond
            assert judge_state(PARAMS, state, reading) == fault


@pytest.mark.parametrize(
    ("asked", "given"),
    [(-0.02, 0.0), (0.0, 0.0), (0.03, 0.03), (0.08, 0.08), (0.2, 0.08)],
)
def test_the_gripper_is_asked_for_no_more_than_it_can(asked, given):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq], mailbox[M.gripper] = 0, asked
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    take_request(PARAMS, state, mailbox)
    assert state[S.gripper] == given


@pytest.mark.parametrize(
    ("asked", "given"), [(0.0, 0.8), (0.1, 0.3), (0.3, 0.3), (1.0, 1.0), (1.5, 1.5), (9.0, 1.5)]
)
def test_a_request_sets_the_damping_ratio_within_its_range(asked, given):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq], mailbox[M.ratio] = 0, asked
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    mailbox[M.stiffness : M.stiffness + 4] = [1.0, 777.0, 1e9, 9999.0]
    take_request(PARAMS, state, mailbox)
    assert state[S.asked : S.asked + 5].tolist() == [50.0, 777.0, 3000.0, 150.0, given]


@pytest.mark.parametrize("length", [0.0, 0.998, 1.002, 2.0, np.nan])
def test_a_quaternion_that_is_none_is_refused(length):
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq] = 0
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    mailbox[M.pose + 3 : M.pose + 7] *= length
    take_request(PARAMS, state, mailbox)
    assert state[S.dropped] == 1.0
    assert state[S.mode] == Mode.HOLDING
    mailbox[M.seq] = 1
    mailbox[M.pose + 3 : M.pose + 7] = [0.9995, 0.0, 0.0, 0.0]
    take_request(PARAMS, state, mailbox)
    assert state[S.mode] == Mode.FOLLOWING
    assert np.linalg.norm(state[S.goal + 3 : S.goal + 7]) == pytest.approx(1.0)


def test_a_request_from_far_away_or_from_yesterday_is_refused():
    state, mailbox = initial_state(PARAMS), empty_mailbox()
    mailbox[M.seq] = 5
    mailbox[M.pose : M.pose + 7] = state[S.pose : S.pose + 7]
    mailbox[M.pose] = 10.1
    take_request(PARAMS, state, mailbox)
    assert state[S.dropped] == 1.0
    mailbox[M.seq], mailbox[M.pose] = 6, 0.5
    take_request(PARAMS, state, mailbox)
    assert state[S.seq] == 6.0
    mailbox[M.seq] = 4
    take_request(PARAMS, state, mailbox)
    assert state[S.dropped] == 2.0
    assert state[S.seq] == 6.0


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
