"""Properties P4, P9, P10: torque, its rate and its continuity; the reflex."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, PARAMS, START, alarm, arm
from made_motion import Joints, begin, held_energy, shuttle
from past_ticks import motion_bytes

from controllers.chain import initial_state
from controllers.command import accept_command
from controllers.config import ControlConfig
from controllers.impedance import spring
from controllers.kinematics import DQ_MAX, READY, TORQUE_MAX
from controllers.packed import CMD, MEAS, MEASUREMENT_SIZE, STATE
from controllers.robot import Fault, Mode, Request
from controllers.rotation import exp, multiply
from robot_env.arms.sim.mujoco_robot import MujocoRobot

RATE = CONFIG.torque_rate + 1e-9
MODES = (Mode.HOLDING, Mode.FOLLOWING, Mode.HUMAN, Mode.SOFT_STOP, Mode.FAULT)  # of the chain
EVENTS = (
    "near", "far", "nonsense", "human", "silent", "dead", "stop", "rearm", "lost", "missed",
    "alarm", "force", "jump", "spoil", "reset",
)  # fmt: skip

seeds = st.integers(0, 2**32 - 1)
turns = st.tuples(*[st.floats(-0.6, 0.6)] * 3)


@pytest.fixture(scope="module")
def robot() -> MujocoRobot:
    return arm()


def disturb(joints: Joints, event: str, rng: np.random.Generator, ticks: int) -> list[np.ndarray]:
    """Let something happen, and return the torques of the ticks after it."""
    state, command_buffer, torques = joints.state, joints.command_buffer, []
    pose = state[STATE.target : STATE.target + 7].copy()
    command_buffer[CMD.stop] = command_buffer[CMD.rearm] = command_buffer[CMD.heartbeat] = 0.0
    joints.critic = alarm(1.0 if event == "alarm" else -1.0)
    joints.measurement[MEAS.wrench : MEAS.wrench + 6] = rng.normal(
        0.0, 200.0 if event == "force" else 1.0, 6
    )
    if event in ("near", "far", "lost", "missed", "human"):
        pose[:3] += rng.uniform(-1.0, 1.0, 3) * (1.0 if event == "far" else 0.02)
        pose[3:] = multiply(exp(tuple(rng.uniform(-0.5, 0.5, 3))), tuple(pose[3:]))
        joints.ask(pose, rng.uniform(0.0, 4000.0), int(event == "human"))
        command_buffer[CMD.damping_ratio] = rng.uniform(0.0, 2.0)
    elif event == "nonsense":
        joints.ask(pose)
        command_buffer[CMD.pose + rng.integers(0, 12)] = rng.choice([np.nan, np.inf, 1e300, 5e-324])
    elif event == "dead":
        command_buffer[CMD.heartbeat] = 1.0
    elif event == "stop":
        command_buffer[CMD.stop] = float(Fault.COMMANDED)
    elif event == "rearm":
        command_buffer[CMD.rearm] = 1.0
    elif event == "reset":
        joints.begin(joints.measurement[MEAS.q : MEAS.q + 7].copy())
    home = READY - joints.measurement[MEAS.q : MEAS.q + 7]
    way = rng.uniform(-0.5, 0.5, 7) * DQ_MAX + home
    spoil = (int(rng.integers(0, MEASUREMENT_SIZE)), np.nan) if event == "spoil" else None
    for k in range(ticks):
        elapsed = int(rng.integers(1, 20)) if event == "missed" and k % 20 == 19 else 1
        moved = 1e-3 * elapsed * np.clip(way, -DQ_MAX, DQ_MAX)
        if event == "jump" and k == ticks // 2:
            moved = rng.uniform(-0.5, 0.5, 7)
        lost = event == "lost" and k % 40 < 19
        before = joints.newest
        torque = joints.tick(0.2 * moved, lost, elapsed, spoil if k == ticks // 2 else None).copy()
        torques.append(torque - before)
        assert np.isfinite(torque).all(), event
        assert (np.abs(torque) <= TORQUE_MAX).all(), event
        assert (np.abs(torque - before) <= RATE).all(), event
    return torques


@pytest.mark.slow
def test_p4_torque_and_its_rate_hold_in_every_tick():
    """|tau| and |dtau| <= 0.999 N m: first tick, resets, NaN, mode switches; 1e5 ticks and more."""
    modes = Counter()

    @settings(max_examples=75, deadline=None)
    @given(seeds, st.lists(st.sampled_from(EVENTS), min_size=20, max_size=20))
    def hold(seed, events):
        joints, rng = Joints(CONFIG, hz=10.0), np.random.default_rng(seed)
        for event in events:
            if joints.state[STATE.mode] == Mode.FAULT:
                disturb(joints, "reset", rng, 1)
            if joints.state[STATE.mode] == Mode.SOFT_STOP and rng.random() < 0.5:
                disturb(joints, "rearm", rng, 1)
            disturb(joints, event, rng, 80)
            modes[int(joints.state[STATE.mode])] += 80

    hold()
    assert modes.total() >= 100_000
    assert min(modes[mode] for mode in MODES) > 1000, modes


def test_p4_alive_the_limits_are_reached_and_a_gentle_policy_meets_none(robot):
    """The largest step is taken where it is needed; a benign motion is clipped in no tick."""
    joints, rng = Joints(CONFIG), np.random.default_rng(0)
    steps = [disturb(joints, "far" if k % 2 else "near", rng, 100) for k in range(20)]
    assert np.abs(steps).max() > 0.9 * CONFIG.torque_rate
    seen, gated = shuttle(begin(robot), 40)
    assert np.ptp(seen) > 0.07
    assert gated == 0
    assert robot.state[STATE.torque_limited_ticks] == 0.0


def pull(angle: float, axis: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """Return what a spring pulls with whose end is turned away from the tool (6,) [N, N m]."""
    state, force = initial_state(PARAMS), np.empty(6)
    target = state[STATE.target : STATE.target + 7]
    here = tuple(state[STATE.pose + 3 : STATE.pose + 7])
    target[3:] = sign * np.array(multiply(exp(tuple(angle * axis)), here))
    spring(
        PARAMS,
        state[STATE.stiffness : STATE.stiffness + 4],
        state[STATE.pose : STATE.pose + 7],
        target,
        force,
    )
    return force


axes = st.tuples(*[st.floats(-1.0, 1.0)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)


@settings(max_examples=300, deadline=None)
@given(axes, axes, st.floats(0.0, 6.283), st.floats(1e-6, 1e-3), st.sampled_from([1.0, -1.0]))
def test_p9_the_force_is_continuous_and_bounded_over_the_double_cover(a, b, angle, step, sign):
    """q and -q pull alike; continuous but within 1e-3 of 180 degrees, and bounded there too."""
    axis, way = (np.array(v) / np.linalg.norm(v) for v in (a, b))
    here = pull(angle, axis)
    assert (here == pull(angle, axis, -1.0)).all()
    bound = CONFIG.rotational_stiffness * CONFIG.max_rotational_stretch
    assert np.linalg.norm(here[3:]) <= bound * (1.0 + 1e-9)
    if abs(angle - np.pi) < 1e-3 + step:
        return
    turned = multiply(exp(tuple(step * way)), exp(tuple(angle * axis)))
    vector = np.array(turned[:3])
    beyond = 2.0 * np.arctan2(np.linalg.norm(vector), turned[3])
    near = pull(float(beyond), vector / max(np.linalg.norm(vector), 1e-300), sign)
    change = np.linalg.norm(near[3:] - here[3:])
    assert change <= 0.5 * np.pi * CONFIG.rotational_stiffness * step * 1.01 + 1e-9


@settings(max_examples=25, deadline=None)
@given(seeds, st.lists(st.tuples(turns, st.booleans()), min_size=2, max_size=6))
def test_p9_a_policy_that_flips_its_quaternion_s_sign_changes_no_torque(seed, sequence):
    """q and -q in a request give the same torques bit for bit."""
    runs = []
    for flipping in (False, True):
        joints, rng, torques = Joints(CONFIG), np.random.default_rng(seed), []
        for turn, flip in sequence:
            pose = joints.state[STATE.pose : STATE.pose + 7].copy()
            pose[3:] = multiply(exp(turn), tuple(joints.state[STATE.pose + 3 : STATE.pose + 7]))
            assume(abs(pose[6]) > 0.0)
            pose[3:] *= -1.0 if flip and flipping else 1.0
            joints.ask(pose)
            way = rng.uniform(-0.2, 0.2, 7)
            torques += [joints.tick(1e-3 * way).copy() for _ in range(40)]
        runs.append(np.array(torques).tobytes())
    assert runs[0] == runs[1]


@settings(max_examples=25, deadline=None)
@given(axes, st.floats(-1e-3, 1e-3))
def test_p9_at_rest_a_request_turned_by_180_degrees_pulls_one_way(axis, off):
    """Near the antipode the pull is bounded and doesn't change its sign while the arm rests."""
    joints = Joints(ControlConfig(max_tilt=4.0), hz=10.0)
    pose = joints.state[STATE.pose : STATE.pose + 7].copy()
    turn = (np.pi + off) * np.array(axis) / np.linalg.norm(axis)
    pose[3:] = multiply(exp(tuple(turn)), tuple(pose[3:]))
    joints.ask(pose)
    pulls = np.array([joints.tick(np.zeros(7)).copy() for _ in range(400)])
    size = np.linalg.norm(pulls, axis=1)
    assert size.max() > 1.0
    assert np.abs(np.diff(pulls, axis=0)).max() <= RATE
    along = np.einsum("ij,ij->i", pulls[1:], pulls[:-1])
    assert (along >= 0.0).all()


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.floats(0.0, 3.0), st.floats(0.998, 1.002)), turns)
def test_p9_a_quaternion_that_is_no_rotation_is_refused(length, turn):
    """Farther than 1e-3 from unit length: dropped and counted; nearer: taken at unit length."""
    state, joints = initial_state(PARAMS), Joints(CONFIG)
    assume(abs(abs(length - 1.0) - 1e-3) > 1e-9)
    pose = state[STATE.pose : STATE.pose + 7].copy()
    pose[3:] = length * np.array(multiply(exp(turn), tuple(pose[3:])))
    joints.ask(pose)
    accept_command(PARAMS, state, joints.command_buffer)
    good = abs(length - 1.0) <= 1e-3
    assert state[STATE.dropped] == float(not good)
    assert state[STATE.mode] == (Mode.FOLLOWING if good else Mode.HOLDING)
    assert np.linalg.norm(state[STATE.goal + 3 : STATE.goal + 7]) == pytest.approx(1.0)


def test_p9_alive_a_turn_is_completed(robot):
    """A tool that is asked to turn by 0.3 rad, in either cover, turns by it."""
    snapshot = begin(robot).snapshot()
    goal = np.array(multiply(exp((0.0, 0.0, 0.3)), tuple(DOWN)))
    for seq in range(12):
        sign = -1.0 if seq % 2 else 1.0
        snapshot = robot.run(Request(seq, 0, START, sign * goal, 0.0), 100)
    assert abs(snapshot.quaternion @ goal) > np.cos(0.5 * 0.03)


def stretched(offset: tuple, stiffness: float, force: tuple) -> Joints:
    """Return an arm at rest whose spring is stretched."""
    joints = Joints(CONFIG, hz=10.0)
    pose = joints.state[STATE.pose : STATE.pose + 7].copy()
    pose[:3] += offset
    joints.ask(pose, stiffness)
    joints.measurement[MEAS.wrench : MEAS.wrench + 3] = force
    for _ in range(220):
        joints.tick(np.zeros(7))
    return joints


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[st.floats(-0.012, 0.012)] * 3),
    st.floats(50.0, 3000.0),
    st.tuples(*[st.floats(-40.0, 40.0)] * 3),
)
def test_p10_the_reflex_acts_in_the_tick_of_the_alarm(offset, stiffness, force):
    """Reference and stiffness fall in the alarm's tick; torque follows by 0.999 N m a tick."""
    joints = stretched(offset, stiffness, force)
    state, before = joints.state, joints.state.copy()
    held, count = [held_energy(CONFIG, state)], len(joints.step)
    joints.critic = alarm()
    joints.tick(np.zeros(7))
    assert state[STATE.reflex_active] == 1.0
    soft = min(before[STATE.stiffness], CONFIG.reflex_stiffness)
    assert state[STATE.stiffness_cap] == CONFIG.reflex_stiffness
    if before[STATE.stiffness] > soft:
        assert (state[STATE.stiffness : STATE.stiffness + 3] < before[STATE.stiffness]).all()
    refuge, target = (state[at : at + 3].copy() for at in (STATE.retreat_pose, STATE.target))
    moved = np.linalg.norm(target - before[STATE.target : STATE.target + 3])
    if np.linalg.norm(refuge - before[STATE.target : STATE.target + 3]) > 1e-6:
        assert moved > 0.0
    for _ in range(60):
        held.append(held_energy(CONFIG, state))
        joints.tick(np.zeros(7))
    assert max(held) <= held[0] + 1e-12
    assert max(joints.step[count:]) <= RATE
    np.testing.assert_allclose(state[STATE.stiffness : STATE.stiffness + 3], soft)
    np.testing.assert_allclose(state[STATE.target : STATE.target + 3], refuge, atol=1e-9)


@settings(max_examples=10, deadline=None)
@given(seeds)
def test_p10_alive_a_quiet_critic_changes_no_bit_and_an_alarm_passes(robot, seed):
    """A risk below its threshold is as no critic; after an alarm the arm completes its path."""
    runs = []
    for critic in (Joints(CONFIG).critic, alarm(-1.0)):
        begin(robot, seed).critic = critic
        shuttle(robot, 8)
        runs.append(motion_bytes(robot, 800))
    assert runs[0] == runs[1]
    begin(robot, seed).critic = alarm()
    shuttle(robot, 1)
    assert robot.state[STATE.reflex_ticks] > 90.0
    robot.critic = alarm(-1.0)
    seen, _ = shuttle(robot, 20)
    assert seen.max() > 0.03
    np.testing.assert_allclose(robot.snapshot().stiffness[:3], CONFIG.stiffness)
