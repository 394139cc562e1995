"""Property P7: what lost commands and missed ticks do to books, reference and mode."""

from __future__ import annotations

import os
import socket
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, arm
from made_motion import BOOKS, Joints, begin, imbalance, shuttle

from controllers.kinematics import DQ_MAX
from controllers.packed import STATE
from controllers.robot import Fault, Mode, Request
from robot_env.arms.sim.config import MujocoConfig
from robot_env.host.authorization import HostKey
from robot_env.host.config import HostConfig
from robot_env.host.core import HostCore
from robot_env.host.realtime_server import RealtimeServer
from robot_env.host.socket import HostSocket
from robot_env.tasks import make

seeds = st.integers(0, 2**32 - 1)
delays = st.integers(0, 2)
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
            before = joints.state[STATE.target : STATE.target + 3].copy()
            dq = joints.dq + np.clip(way - joints.dq, -0.01, 0.01)
            joints.tick(1e-3 * elapsed * dq, elapsed=elapsed)
            travel = np.linalg.norm(joints.state[STATE.target : STATE.target + 3] - before)
            assert travel <= CONFIG.max_speed * CONFIG.dt + 1e-12
        way = -way
    assert imbalance(joints) < 1e-9
    assert joints.state[STATE.mode] == Mode.FOLLOWING


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
    core, door = HostCore(make("reach"), MujocoConfig(), CONFIG), HostSocket(f"p7-{os.getpid()}")
    door.open(HostKey(tmp_path_factory.mktemp("p7") / "host.key", False))
    bell, wake = socket.socketpair()
    with bell, wake:
        live = RealtimeServer(core, door, HostConfig(), threading.Event(), wake)
        yield core, live
        live._worker.close()
    door.close()
    core.close()


def test_p7_alive_an_arm_whose_commands_get_lost_completes_its_path():
    """With bursts of 19 lost commands beginning in 1 % of ticks it still goes to and fro."""
    robot = arm()
    robot.config = MujocoConfig(loss=0.01, loss_ticks=19)
    seen, gated = shuttle(begin(robot), 60)
    assert gated <= 0.05 * 60 * 100
    assert seen.max() > 0.03
    assert seen.min() < -0.03
    assert robot.snapshot().mode == Mode.FOLLOWING
