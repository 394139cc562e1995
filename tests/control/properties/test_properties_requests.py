"""Properties P5, P6: nonsense and silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, START, arm
from made_motion import Joints, begin, held_energy, shuttle
from past_ticks import past

from controllers.force_bias import min_stiffness_for_payload
from controllers.kinematics import TORQUE_MAX
from controllers.packed import CMD, MEASUREMENT_SIZE, STATE
from controllers.robot import REQUEST_SIZE, Fault, Mode, Request
from handrail.errors import ProtocolMismatch
from robot_env.arms.sim.mujoco_robot import MujocoRobot

PERIOD = 100  # [ticks]
LATE = int(CONFIG.stale_periods * PERIOD)  # [ticks]
STILL = np.zeros(7)

seeds = st.integers(0, 2**32 - 1)
number = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
odd = st.sampled_from([np.nan, np.inf, -np.inf, 1e9, 5e300, 5e-324, -5e-324, 0.0])


@pytest.fixture(scope="module")
def robot() -> MujocoRobot:
    return arm()


def is_good(command_buffer: np.ndarray, newest: float) -> bool:
    """Return whether the chain should take a request."""
    values = command_buffer[: CMD.gripper + 1]
    place, turn = (
        command_buffer[CMD.pose : CMD.pose + 3],
        command_buffer[CMD.pose + 3 : CMD.pose + 7],
    )
    if (
        not np.isfinite(values).all()
        or command_buffer[CMD.seq] <= newest
        or np.abs(place).max() > 10.0
    ):
        return False
    return bool(np.abs(turn).max() < 2.0 and abs(np.linalg.norm(turn) - 1.0) <= 1e-3)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.one_of(number, odd), st.integers(-3, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_p5_a_request_that_is_nonsense_is_dropped_and_counted(sequence):
    """NaN, inf, denormal, out of order: dropped, counted, the last good one kept; tau finite."""
    joints = Joints(CONFIG)
    state, command_buffer = joints.state, joints.command_buffer
    joints.ask(state[STATE.pose : STATE.pose + 7].copy())
    joints.tick(STILL)
    for index, value, ahead in sequence:
        joints.ask(state[STATE.pose : STATE.pose + 7].copy(), 500.0)
        command_buffer[CMD.seq] = state[STATE.last_seq_seen] + ahead
        command_buffer[CMD.pose + index] = value
        before = state.copy()
        joints.tick(STILL)
        assert np.isfinite(joints.torque).all()
        assert (np.abs(joints.torque) <= TORQUE_MAX).all()
        if command_buffer[CMD.seq] == before[STATE.last_seq_seen] or command_buffer[CMD.seq] < 0.0:
            assert state[STATE.dropped] == before[STATE.dropped]  # nothing new
        elif is_good(command_buffer, before[STATE.seq]):
            assert state[STATE.seq] == command_buffer[CMD.seq]
            assert state[STATE.dropped] == before[STATE.dropped]
            continue
        else:
            assert state[STATE.dropped] == before[STATE.dropped] + 1.0
        for part in (slice(STATE.goal, STATE.path_tick), slice(STATE.seq, STATE.seq + 1)):
            assert (state[part] == before[part]).all()
        assert state[STATE.gripper] == before[STATE.gripper]
        joints.tick(STILL)
        assert state[STATE.dropped] <= before[STATE.dropped] + 1.0, "each is counted once"


@given(st.integers(0, 40).filter(lambda size: size != REQUEST_SIZE))
def test_p5_a_request_of_the_wrong_shape_is_refused(size):
    """A request has 15 values; any other number is refused before the chain sees it."""
    with pytest.raises(ProtocolMismatch, match="15 values"):
        Request.unpack(np.zeros(size))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, MEASUREMENT_SIZE - 1),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.lists(st.floats(-0.9, 0.9), min_size=7, max_size=7),
    st.integers(1, 3),
)
def test_p5_a_state_that_is_not_finite_ramps_the_torque_to_zero_and_latches(
    part, value, share, times
):
    """The torque falls to zero by 0.999 N m a tick, finite always; only a reset leaves it."""
    joints = Joints(CONFIG)
    state = joints.state
    joints.newest = np.array(share) * TORQUE_MAX
    state[STATE.torque : STATE.torque + 7] = joints.newest
    for k in range(100):
        before = joints.newest.copy()
        joints.tick(STILL, spoil=(part, value) if k < times else None)
        assert np.isfinite(joints.torque).all()
        falls = np.maximum(np.abs(before) - CONFIG.torque_rate, 0.0)
        np.testing.assert_allclose(np.abs(joints.torque), falls, atol=1e-9)
        assert (state[STATE.mode], state[STATE.fault]) == (Mode.FAULT, Fault.STATE_NOT_FINITE)
        joints.ask(state[STATE.pose : STATE.pose + 7])
    assert np.abs(joints.torque).max() == 0.0
    joints.begin(state[STATE.q : STATE.q + 7].copy())
    joints.tick(STILL)
    assert joints.state[STATE.mode] == Mode.HOLDING


@settings(max_examples=10, deadline=None)
@given(seeds, st.lists(st.tuples(st.integers(0, 6), odd), min_size=1, max_size=8))
def test_p5_alive_good_requests_among_nonsense_are_followed_as_ever(robot, seed, spoilt):
    """Nonsense between good requests changes no bit of the motion, and the arm arrives."""
    runs = []
    for nonsense in (False, True):
        snapshot = begin(robot, seed).snapshot()
        for seq in range(8):
            target = START + np.array([0.0, 0.008 * (seq + 1), 0.0])
            robot.run(Request(2 * seq, 0, target, DOWN, 0.0), 50)
            index, value = spoilt[seq % len(spoilt)]
            pose = np.append(target, DOWN)
            pose[index] = value if not np.isfinite(value) else np.nan
            bad = Request(2 * seq + 1, 0, pose[:3], pose[3:], 0.0)
            snapshot = robot.run(bad if nonsense else None, 50)
        runs.append(past(robot, "reading.q", 800).tobytes())
        assert snapshot.position[1] > 0.045
    assert runs[0] == runs[1]
    assert robot.state[STATE.dropped] == 8.0


@settings(max_examples=15, deadline=None)
@given(seeds, st.booleans(), st.integers(2, 8), st.tuples(*[st.floats(-0.01, 0.01)] * 3))
def test_p6_a_silent_actor_s_arm_holds_softens_and_stops(robot, seed, heartbeat, periods, way):
    """Late target or heartbeat: hold, soften, soft stop; no new energy, and the speed falls."""
    snapshot = begin(robot, seed).snapshot()
    for seq in range(periods):
        target = snapshot.target_position + np.array(way)
        snapshot = robot.run(Request(seq, 0, target, DOWN, 0.0), PERIOD)
    robot.heartbeat_age = CONFIG.heartbeat + 1e-3 if heartbeat else 0.0
    wait = 1 if heartbeat else LATE - PERIOD + 1
    robot.run(None, wait - 1)
    stored, given = held_energy(CONFIG, robot.state), robot.work
    assert robot.run(None, 1).mode == Mode.HOLDING
    for _ in range(15):
        robot.run(None, 100)
        assert robot.work - given <= stored + 0.01
    mode, share = past(robot, "mode", 1501), past(robot, "stiffness_scale", 1501)
    place = past(robot, "pose", 1501)[:, :3]
    speed = np.linalg.norm(place[20:] - place[:-20], axis=1) / 0.02  # the sensor's is noisy
    stop = int(np.argmax(mode == Mode.SOFT_STOP))
    assert stop == pytest.approx(1000 * CONFIG.stop_time, abs=2)
    assert (mode[:stop] == Mode.HOLDING).all()
    soften = int(1000 * CONFIG.hold_time)
    assert (share[: soften - 1] == share[0]).all()
    assert (np.diff(share) <= 1e-12).all()
    carries = min_stiffness_for_payload(robot.params, robot.state) / CONFIG.stiffness[0]
    assert share[-1] == pytest.approx(max(CONFIG.stop_stiffness, carries))
    assert speed[300:].max() < 0.005
    assert robot.snapshot().fault == (Fault.HEARTBEAT_LOST if heartbeat else Fault.TARGET_STALE)
    assert shuttled(robot) == Mode.SOFT_STOP  # fresh requests re-arm nothing


def shuttled(robot: MujocoRobot) -> Mode:
    """Return the mode after a path was asked for."""
    robot.heartbeat_age = 0.0
    shuttle(robot, 4)
    return Mode(robot.snapshot().mode)


@settings(max_examples=8, deadline=None)
@given(seeds, st.integers(1, 900))
def test_p6_alive_an_actor_that_comes_back_goes_on(robot, seed, silence):
    """A fresh request ends a hold at once, a re-armed arm follows, and the path is completed."""
    begin(robot, seed)
    shuttle(robot, 4)
    robot.run(None, LATE - PERIOD + silence)
    assert robot.snapshot().mode == Mode.HOLDING
    seen, _ = shuttle(robot, 20)
    assert robot.snapshot().mode == Mode.FOLLOWING
    assert np.ptp(seen) > 0.06
    robot.run(None, LATE + 1100)
    robot.rearm()
    assert robot.run(None, 1).mode == Mode.HOLDING
    seen, _ = shuttle(robot, 20)
    assert np.ptp(seen) > 0.06
