"""Properties P1, P2, P3, P8: what the controller gives to the arm is bounded and paid for.

Energy is measured by an independent meter, torque in effect times displacement; only P1 is about
the chain's own books. Each property has a twin that a frozen arm fails.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, START, arm
from made_motion import BOOKS, Joints, begin, imbalance, roam, shuttle, sway
from past_ticks import motion_bytes, past

from controllers.config import ControlConfig
from controllers.packed import STATE
from controllers.robot import Mode, Request
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.energy_meter import METER
from robot_env.arms.sim.mujoco_robot import MujocoRobot

WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".62 0 .3" solref="-100000 -200"/>'
WIDE = ControlConfig(box_low=(0.2, -0.6, 0.0), box_high=(0.9, 0.6, 0.9), force_limit=1e9)
# the energy claim alone: nothing else limits the requests, hardly anything damps, little is allowed
BARE = ControlConfig(
    disabled_stages=("target_error", "box", "speed", "contact", "keep_out"),
    max_stretch=0.03,
    force_limit=1e9,
    tank_start=0.15,
    tank_max=0.15,
    refill=0.0,
    dissipation_credit=1.0,
    joint_damping=0.0,
    posture_damping=0.0,
    posture_stiffness=0.0,
    damping_ratio_range=(0.01, 1.0),
)
REAL = MujocoConfig(delay=1, loss=0.01, loss_ticks=10)
LOOSE = MujocoConfig(friction=(0.0, 0.0), damping=(0.0, 0.0), payload_error=(0.0, 0.0))

seeds = st.integers(0, 2**32 - 1)
delays = st.integers(0, 2)


@pytest.fixture(scope="module")
def robot() -> MujocoRobot:
    return arm(WIDE, WALL)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(seeds, delays)
def test_p1_books_balance_exactly_over_4000_random_ticks(seed, delay):
    """With all dissipation credited and no cap, E_out + V + T doesn't change by 1e-9 J."""
    joints, rng = Joints(BOOKS, delay), np.random.default_rng(seed)
    roam(joints, rng, 4000)
    assert len(joints.work) == 4000
    assert imbalance(joints) < 1e-9


def test_p1_alive_much_energy_goes_through_the_books():
    """The books that balance are those of an arm that is given energy, and gives it back."""
    joints = Joints(BOOKS, 1)
    roam(joints, np.random.default_rng(0), 4000)
    work = np.array(joints.work)
    assert work[work > 0.0].sum() > 1.0
    assert work[work < 0.0].sum() < -1.0
    assert np.ptp(joints.stored) > 0.1
    assert joints.state[STATE.mode] in (Mode.FOLLOWING, Mode.HUMAN)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seeds, delays, st.sampled_from([0.0, 0.02]), st.integers(1, 19), st.booleans())
@example(0, 2, 0.0, 1, True)  # what a chain that books the torque it sent doesn't see
@example(4, 2, 0.02, 10, True)
def test_p2_energy_given_out_stays_within_every_window(seed, delay, loss, burst, swaying):
    """For every window E_out <= V_start + T_max - T_min + P dt + W_debit, for possible motion."""
    joints, rng = Joints(BARE, delay), np.random.default_rng(seed)
    if swaying:
        sway(joints, rng, 3000, loss, burst)
    else:
        roam(joints, rng, 2000, loss, burst, top=0.1)
    debit = joints.debit(burst if loss else 0)
    assert joints.worst_window() <= BARE.tank_max - BARE.tank_min + debit


@pytest.fixture(scope="module")
def attacked() -> list[MujocoRobot]:
    """Return two arms with little energy and nothing that brakes them; one has no gate."""
    tight = replace(BARE, tank_start=0.4, tank_max=0.4)
    bare = replace(tight, disabled_stages=(*BARE.disabled_stages, "energy", "torque", "passivity"))
    return [arm(control, WALL) for control in (tight, bare)]


def attack(robot: MujocoRobot, seed: int, delay: int, kind: str, burst: int) -> float:
    """Return the share of the allowed energy that a policy draws, by the simulator's meter."""
    loss = 0.01 if burst else 0.0
    robot.config = replace(LOOSE, delay=delay, loss=loss, loss_ticks=max(1, burst))
    snapshot, rng = begin(robot, seed).snapshot(), np.random.default_rng(seed)
    for seq in range(200):
        target = snapshot.target_position
        if kind == "random":
            target = target + rng.uniform(-0.05, 0.05, 3)
        elif kind == "in_phase":  # with the motion: pumps as hard as a policy can
            target = START + 0.1 * np.sign(snapshot.twist[:3] + 1e-6)
        else:
            target = target + np.array([0.02, 0.0, 0.0])
        stiffness = (3000.0,) * 3 + (100.0,) if seq // 10 % 2 else (200.0,) * 3 + (20.0,)
        snapshot = robot.run(Request(seq, 0, target, DOWN, 0.0, stiffness), 20)
    assert snapshot.mode == Mode.FOLLOWING
    return robot.energy_used


@settings(max_examples=12, deadline=None)
@given(seeds, delays, st.sampled_from(["random", "in_phase", "into_wall"]), st.integers(0, 10))
def test_p2_energy_stays_within_every_window_in_physics(attacked, seed, delay, kind, burst):
    """The same on a simulated arm before a wall of 1e5 N/m, by the simulator's meter."""
    assert attack(attacked[0], seed, delay, kind, burst) <= 1.0


def test_p2_alive_the_same_requests_break_the_bound_without_the_gate(attacked):
    """The attack is one: without its gate the chain gives out many times what is allowed."""
    assert attack(attacked[1], 0, 1, "in_phase", 3) > 2.0
    off = replace(BARE, disabled_stages=(*BARE.disabled_stages, "energy", "torque", "passivity"))
    joints = Joints(off, 1)
    roam(joints, np.random.default_rng(0), 2000, 0.02, 3, top=0.1)
    assert joints.worst_window() > 5.0 * (BARE.tank_max - BARE.tank_min + joints.debit(3))


def test_p2_alive_a_benign_motion_is_completed_without_the_gate(robot):
    """Of +-50 mm at 0.1 m/s against friction, a tick late and with losses, 1 % is gated at most."""
    robot.config = replace(REAL, friction=(0.8, 0.8))  # two or three joints move: > 5 N at the tool
    seen, gated = shuttle(begin(robot), 200)
    assert gated <= 0.01 * 200 * 100
    assert seen.max() > 0.038
    assert seen.min() < -0.038
    assert robot.snapshot().tank > 0.5


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seeds, delays, st.sampled_from([0.0, 0.02]), st.sampled_from([0.1, 0.4, 1.0]))
def test_p3_the_tank_stays_between_its_floor_and_its_top(seed, delay, loss, start):
    """T in [T_min, T_max] while gate and shrink act; what a tick took below is paid back."""
    control = replace(CONFIG, tank_start=start, tank_max=start, refill=0.0, force_limit=1e9)
    joints, rng = Joints(control, delay), np.random.default_rng(seed)
    roam(joints, rng, 2000, loss, 10)
    tank = np.array(joints.tank)
    assert tank.max() <= control.tank_max
    assert tank.min() >= control.tank_min - 0.01


def test_p3_alive_a_tank_at_its_floor_is_reached_pays_nothing_and_recovers(robot):
    """Without refill a greedy policy is gated and gets nothing; with it a slow one arrives."""
    poor = replace(CONFIG, tank_start=0.06, refill=0.0)
    starved = begin(arm(poor))
    _, gated = shuttle(starved, 40, 0.08)
    assert gated > 500
    assert starved.meter[METER.excess] < 0.2
    paid = begin(arm(replace(poor, refill=CONFIG.refill)))
    for k in range(40):
        way = np.array([0.0, 0.01 * min(k, 5), 0.0])
        paid.run(Request(k, 0, START + way, DOWN, 0.0), 100)
    assert abs(paid.snapshot().position[1] - 0.05) < 0.005


steps = st.lists(st.tuples(*[st.floats(-0.008, 0.008)] * 3), min_size=3, max_size=12)


def follow(robot: MujocoRobot, seed: int, way: list, stiffness: float = 0.0) -> tuple[bytes, int]:
    """Return the bytes of what happened in every tick, and how many were gated."""
    snapshot, gated = begin(robot, seed).snapshot(), 0
    stiff = (stiffness,) * 3 + (stiffness / 20.0,)
    for seq, step in enumerate(way):
        target = snapshot.target_position + np.array(step)
        snapshot = robot.run(Request(seq, 0, target, DOWN, 0.0, stiff), 100)
        gated += snapshot.gated_ticks
        if snapshot.gated_ticks == robot.state[STATE.target_limited_ticks] == 0.0:
            assert (snapshot.target_position == target).all()
    return motion_bytes(robot, 100 * len(way)) + robot.state.tobytes(), gated


@pytest.fixture(scope="module")
def ungated() -> MujocoRobot:
    return arm(replace(WIDE, disabled_stages=("energy", "torque")), WALL)


@settings(max_examples=20, deadline=None)
@given(seeds, steps)
def test_p8_the_gate_leaves_a_benign_policy_alone_bit_for_bit(robot, ungated, seed, steps):
    """b = 1 is bit-exact: where tank and torque suffice, the same bytes as without a gate."""
    robot.config = ungated.config = MujocoConfig()
    with_gate, gated = follow(robot, seed, steps)
    without, _ = follow(ungated, seed, steps)
    assert gated == 0
    assert with_gate == without


def test_p8_alive_the_benign_policy_moves_and_a_greedy_one_meets_the_gate(robot, ungated):
    """Transparency is not for want of a gate, nor of motion."""
    robot.config = ungated.config = MujocoConfig()
    follow(robot, 0, [(0.0, 0.008, 0.0)] * 10)
    assert past(robot, "pose", 1)[0, 1] > 0.05
    robot.config = ungated.config = REAL  # after a loss the torque is far from what is asked
    greedy = [(0.0, 0.08 * (-1) ** k, 0.0) for k in range(10)]
    with_gate, gated = follow(robot, 0, greedy, 3000.0)
    without, _ = follow(ungated, 0, greedy, 3000.0)
    assert gated > 0
    assert with_gate != without
