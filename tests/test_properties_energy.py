"""Properties P1, P2, P3, P7, P8: what the controller gives to the arm is bounded and paid for.

Energy is measured by an independent meter, torque in effect times displacement; only P1 is about
the chain's own books. Each property has a twin that a frozen arm fails.
"""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, START, arm
from made_motion import Joints, begin, roam, shuttle, sway

from controllers.config import ControlConfig
from controllers.kinematics import DQ_MAX
from controllers.layout import S
from controllers.robot import Fault, Mode, Request
from robot_env.door import Door
from robot_env.grant import Keyring
from robot_env.host import HostCore
from robot_env.live import LiveServer
from robot_env.realtime import HostConfig
from robot_env.robots.meter import ME
from robot_env.robots.mujoco import TRACE, MujocoConfig, MujocoRobot
from robot_env.tasks import make

WALL = '<geom class="task" type="box" size=".02 .3 .3" pos=".62 0 .3" solref="-100000 -200"/>'
WIDE = ControlConfig(box_low=(0.2, -0.6, 0.0), box_high=(0.9, 0.6, 0.9), force_limit=1e9)
BOOKS = replace(CONFIG, harvest=1.0, tank_max=1e6, refill=0.0, human_credit=0.0, force_limit=1e9)
# the energy claim alone: nothing else limits the requests, hardly anything damps, little is allowed
BARE = ControlConfig(
    off=("leash", "box", "speed", "contact", "keep_out"),
    clip=0.03,
    force_limit=1e9,
    tank_start=0.15,
    tank_max=0.15,
    refill=0.0,
    harvest=1.0,
    joint_damping=0.0,
    posture_damping=0.0,
    posture_stiffness=0.0,
    damping_ratio_range=(0.01, 1.0),
)
REAL = MujocoConfig(delay=1, loss=0.01, loss_ticks=10)

seeds = st.integers(0, 2**32 - 1)
delays = st.integers(0, 2)


@pytest.fixture(scope="module")
def robot() -> MujocoRobot:
    return arm(WIDE, WALL)


def imbalance(joints: Joints) -> float:
    """Return by how much energy given out + stored + in the tank has changed [J]."""
    total = np.cumsum(joints.work) + np.array(joints.stored) + np.array(joints.tank)
    return float(np.ptp(total))


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
    assert joints.state[S.mode] in (Mode.FOLLOWING, Mode.HUMAN)


@settings(max_examples=20, deadline=None)
@given(seeds, delays, st.sampled_from([0.0, 0.02]), st.integers(1, 19), st.booleans())
def test_p2_energy_given_out_stays_within_every_window(seed, delay, loss, burst, swaying):
    """For every window E_out <= V_start + T_max - T_min + P dt + W_debit, for possible motion."""
    joints, rng = Joints(BARE, delay), np.random.default_rng(seed)
    if swaying:
        sway(joints, rng, 2000, loss, burst)
    else:
        roam(joints, rng, 2000, loss, burst, top=0.1)
    debit = joints.debit(burst if loss else 0)
    assert joints.worst_window() <= BARE.tank_max - BARE.tank_min + debit


@settings(max_examples=12, deadline=None)
@given(seeds, delays, st.sampled_from(["random", "bang_bang", "into_wall"]), st.integers(0, 10))
def test_p2_energy_given_out_stays_within_every_window_in_physics(robot, seed, delay, kind, burst):
    """The same on a simulated arm before a wall of 1e5 N/m, by the simulator's meter."""
    robot.config = replace(REAL, delay=delay, loss=0.01 if burst else 0.0, loss_ticks=max(1, burst))
    snapshot = begin(robot, seed).snapshot()
    rng = np.random.default_rng(seed)
    for seq in range(40):
        if kind == "random":
            target = snapshot.target_position + rng.uniform(-0.05, 0.05, 3)
        elif kind == "bang_bang":  # in phase with the motion: pumps as hard as a policy can
            target = START + 0.1 * np.sign(snapshot.twist[:3] + 1e-6)
        else:
            target = snapshot.target_position + np.array([0.02, 0.0, 0.0])
        stiffness = (3000.0,) * 3 + (100.0,) if seq % 4 < 2 else (200.0,) * 3 + (20.0,)
        snapshot = robot.run(Request(seq, 0, target, DOWN, 0.0, stiffness), 100)
    assert robot.energy_used <= 1.0
    assert snapshot.mode == Mode.FOLLOWING


def test_p2_alive_the_same_policy_breaks_the_bound_without_the_gate():
    """The attack is one: without its gate the chain gives out many times what is allowed."""
    off = replace(BARE, off=(*BARE.off, "energy", "torque", "observer"))
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
    assert starved.meter[ME.excess] < 0.2
    paid = begin(arm(replace(poor, refill=CONFIG.refill)))
    for k in range(40):
        way = np.array([0.0, 0.01 * min(k, 5), 0.0])
        paid.run(Request(k, 0, START + way, DOWN, 0.0), 100)
    assert abs(paid.snapshot().position[1] - 0.05) < 0.005


bursts = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 19)), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(seeds, delays, bursts)
def test_p7_lost_commands_are_settled_exactly(seed, delay, bursts):
    """While the arm goes on with its last command for 1 to 19 ticks, P1 holds as ever."""
    joints, rng = Joints(BOOKS, delay), np.random.default_rng(seed)
    way = rng.uniform(-0.3, 0.3, 7) * DQ_MAX
    for calm, burst in bursts:
        joints.ask_ahead(rng)
        for k in range(calm + burst):
            dq = joints.dq + np.clip(way - joints.dq, -0.01, 0.01)
            joints.tick(1e-3 * dq, lost=k >= calm)
        way = -way
    assert imbalance(joints) < 1e-9
    assert max(joints.step) <= CONFIG.torque_rate + 1e-9


@settings(max_examples=25, deadline=None)
@given(seeds, bursts)
def test_p7_ticks_that_the_host_missed_are_settled_exactly_and_move_no_reference(seed, bursts):
    """One reading of up to 19 ticks is settled as exactly; the target goes on by one tick."""
    joints, rng = Joints(BOOKS, hz=10.0), np.random.default_rng(seed)
    way = rng.uniform(-0.3, 0.3, 7) * DQ_MAX
    for calm, burst in bursts:
        joints.ask_ahead(rng)
        for elapsed in [1] * calm + [1 + burst]:
            before = joints.state[S.target : S.target + 3].copy()
            dq = joints.dq + np.clip(way - joints.dq, -0.01, 0.01)
            joints.tick(1e-3 * elapsed * dq, elapsed=elapsed)
            travel = np.linalg.norm(joints.state[S.target : S.target + 3] - before)
            assert travel <= CONFIG.max_speed * CONFIG.dt + 1e-12
        way = -way
    assert imbalance(joints) < 1e-9
    assert joints.state[S.mode] == Mode.FOLLOWING


class Late:
    """A clock that says how many ticks were missed."""

    woke, late = 0, 0

    def __init__(self, missed: int) -> None:
        self.missed = missed

    def wait(self) -> int:
        return 1 + self.missed

    def restart(self) -> None:
        pass


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 60))
@example(19)
@example(20)
def test_p7_twenty_missed_ticks_stop_the_arm_until_it_is_re_armed(server, missed):
    """Up to 19 are made up, 20 in a row are a soft stop; only an explicit call leaves it."""
    core, server = server
    snapshot, _ = core.reset(0)
    ask = Request(0, 0, snapshot.position, snapshot.target_quaternion, 0.0)
    core.robot.run(ask, 50)
    due = server._wait(Late(missed))
    snapshot = core.robot.run(ask._replace(seq=1), due)
    if missed < 20:
        assert due == 1 + missed
        assert snapshot.mode == Mode.FOLLOWING
        return
    assert due == 1
    assert (snapshot.mode, snapshot.fault) == (Mode.SOFT_STOP, Fault.OVERRUN)
    for seq in range(2, 5):
        assert core.robot.run(ask._replace(seq=seq), 100).mode == Mode.SOFT_STOP
    core.robot.rearm()
    assert core.robot.run(None, 1).mode == Mode.HOLDING
    assert core.robot.run(ask._replace(seq=9), 1).mode == Mode.FOLLOWING


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    core, door = HostCore(make("reach"), MujocoConfig(), CONFIG), Door(f"p7-{os.getpid()}")
    door.open(Keyring(tmp_path_factory.mktemp("p7") / "host.key", False))
    bell, wake = socket.socketpair()
    with bell, wake:
        live = LiveServer(core, door, HostConfig(), threading.Event(), wake)
        yield core, live
        live._aside.close()
    door.close()
    core.close()


def test_p7_alive_an_arm_whose_commands_get_lost_completes_its_path(robot):
    """With bursts of 19 lost commands beginning in 1 % of ticks it still goes to and fro."""
    robot.config = replace(REAL, loss=0.01, loss_ticks=19)
    seen, gated = shuttle(begin(robot), 60)
    assert gated <= 0.05 * 60 * 100
    assert seen.max() > 0.03
    assert seen.min() < -0.03
    assert robot.snapshot().mode == Mode.FOLLOWING


steps = st.lists(st.tuples(*[st.floats(-0.008, 0.008)] * 3), min_size=3, max_size=12)


def follow(robot: MujocoRobot, seed: int, way: list, stiffness: float = 0.0) -> tuple[bytes, int]:
    """Return the bytes of what happened in every tick, and how many were gated."""
    snapshot, gated = begin(robot, seed).snapshot(), 0
    stiff = (stiffness,) * 3 + (stiffness / 20.0,)
    for seq, step in enumerate(way):
        target = snapshot.target_position + np.array(step)
        snapshot = robot.run(Request(seq, 0, target, DOWN, 0.0, stiff), 100)
        gated += snapshot.gated_ticks
        if snapshot.gated_ticks == robot.state[S.leashed] == 0.0:
            assert (snapshot.target_position == target).all()
    return robot.history(100 * len(way)).tobytes() + robot.state.tobytes(), gated


@pytest.fixture(scope="module")
def ungated() -> MujocoRobot:
    return arm(replace(WIDE, off=("energy", "torque")), WALL)


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
    assert robot.history(1)[0, TRACE["pose"]][1] > 0.05
    robot.config = ungated.config = REAL  # after a loss the torque is far from what is asked
    greedy = [(0.0, 0.08 * (-1) ** k, 0.0) for k in range(10)]
    with_gate, gated = follow(robot, 0, greedy, 3000.0)
    without, _ = follow(ungated, 0, greedy, 3000.0)
    assert gated > 0
    assert with_gate != without
