"""Properties P5, P6, P11, P13: nonsense, silence, replay, and two who want the arm."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, START, alarm, arm
from made_motion import Joints, begin, held_energy, shuttle

from controllers.bias import least_stiffness
from controllers.kinematics import TORQUE_MAX
from controllers.layout import READING_SIZE, M, S
from controllers.robot import REQUEST_SIZE, Fault, Mode, Request
from handrail.errors import ProtocolMismatch, RunFolderError
from robot_env import doorbell
from robot_env.door import Door, Session
from robot_env.grant import Keyring
from robot_env.recorder.recorder import describe
from robot_env.recorder.recording import Recording
from robot_env.recorder.replay import replay
from robot_env.recorder.ring import NAME, Ring
from robot_env.recorder.tail import read_ring
from robot_env.recorder.write import save
from robot_env.robots.mujoco import TRACE, MujocoConfig, MujocoRobot
from robot_env.tasks import make

PERIOD = 100  # [ticks]
LATE = int(CONFIG.stale_periods * PERIOD)  # [ticks]
STILL = np.zeros(7)

seeds = st.integers(0, 2**32 - 1)
number = st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=True)
odd = st.sampled_from([np.nan, np.inf, -np.inf, 1e9, 5e300, 5e-324, -5e-324, 0.0])


@pytest.fixture(scope="module")
def robot() -> MujocoRobot:
    return arm()


def is_good(mailbox: np.ndarray, newest: float) -> bool:
    """Return whether the chain should take a request."""
    values = mailbox[: M.gripper + 1]
    place, turn = mailbox[M.pose : M.pose + 3], mailbox[M.pose + 3 : M.pose + 7]
    if not np.isfinite(values).all() or mailbox[M.seq] <= newest or np.abs(place).max() > 10.0:
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
    state, mailbox = joints.state, joints.mailbox
    joints.ask(state[S.pose : S.pose + 7].copy())
    joints.tick(STILL)
    for index, value, ahead in sequence:
        joints.ask(state[S.pose : S.pose + 7].copy(), 500.0)
        mailbox[M.seq] = state[S.seen] + ahead
        mailbox[M.pose + index] = value
        before = state.copy()
        joints.tick(STILL)
        assert np.isfinite(joints.torque).all()
        assert (np.abs(joints.torque) <= TORQUE_MAX).all()
        if mailbox[M.seq] == before[S.seen] or mailbox[M.seq] < 0.0:
            assert state[S.dropped] == before[S.dropped]  # nothing new
        elif is_good(mailbox, before[S.seq]):
            assert state[S.seq] == mailbox[M.seq]
            assert state[S.dropped] == before[S.dropped]
            continue
        else:
            assert state[S.dropped] == before[S.dropped] + 1.0
        for part in (slice(S.goal, S.progress), slice(S.seq, S.seq + 1)):
            assert (state[part] == before[part]).all()
        assert state[S.gripper] == before[S.gripper]
        joints.tick(STILL)
        assert state[S.dropped] <= before[S.dropped] + 1.0, "each is counted once"


@given(st.integers(0, 40).filter(lambda size: size != REQUEST_SIZE))
def test_p5_a_request_of_the_wrong_shape_is_refused(size):
    """A request has 15 values; any other number is refused before the chain sees it."""
    with pytest.raises(ProtocolMismatch, match="15 values"):
        Request.unpack(np.zeros(size))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, READING_SIZE - 1),
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
    state[S.torque : S.torque + 7] = joints.newest
    for k in range(100):
        before = joints.newest.copy()
        joints.tick(STILL, spoil=(part, value) if k < times else None)
        assert np.isfinite(joints.torque).all()
        falls = np.maximum(np.abs(before) - CONFIG.torque_rate, 0.0)
        np.testing.assert_allclose(np.abs(joints.torque), falls, atol=1e-9)
        assert (state[S.mode], state[S.fault]) == (Mode.FAULT, Fault.STATE_NOT_FINITE)
        joints.ask(state[S.pose : S.pose + 7])
    assert np.abs(joints.torque).max() == 0.0
    joints.begin(state[S.q : S.q + 7].copy())
    joints.tick(STILL)
    assert joints.state[S.mode] == Mode.HOLDING


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
        runs.append(robot.history(800)[:, TRACE["q"]].tobytes())
        assert snapshot.position[1] > 0.045
    assert runs[0] == runs[1]
    assert robot.state[S.dropped] == 8.0


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
    trace = robot.history(1501)
    mode, share = trace[:, TRACE["mode"]].ravel(), trace[:, TRACE["share"]].ravel()
    speed = np.linalg.norm(trace[:, TRACE["speed"]], axis=1)
    stop = int(np.argmax(mode == Mode.SOFT_STOP))
    assert stop == pytest.approx(1000 * CONFIG.stop_time, abs=2)
    assert (mode[:stop] == Mode.HOLDING).all()
    soften = int(1000 * CONFIG.hold_time)
    assert (share[: soften - 1] == share[0]).all()
    assert (np.diff(share) <= 1e-12).all()
    carries = least_stiffness(robot.params, robot.state) / CONFIG.stiffness[0]
    assert share[-1] == pytest.approx(max(CONFIG.stop_stiffness, carries))
    assert speed[250:].max() < 0.005
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


@pytest.fixture(scope="module")
def arms() -> MujocoRobot:
    """Return an arm of its own: its recorder's ring goes away with its folder."""
    return arm()


asked = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.tuples(*[st.floats(-0.03, 0.03)] * 3),
        st.sampled_from([0.0, 200.0, 3000.0, np.nan]),
        st.sampled_from(["", "alarm", "stop", "rearm", "heart"]),
    ),
    min_size=2,
    max_size=8,
)


def record(robot: MujocoRobot, seed: int, sequence: list, folder: Path) -> Recording:
    """Return what the flight recorder kept of an episode."""
    ring = Ring(folder / NAME, 2.0, CONFIG.dt, describe(robot.params, CONFIG, realtime=False))
    robot.tape, robot.config = ring.tape, MujocoConfig(loss=0.01, loss_ticks=10)
    snapshot = begin(robot, seed).snapshot()
    for seq, (source, way, stiffness, event) in enumerate(sequence):
        robot.critic = alarm(1.0 if event == "alarm" else -1.0)
        robot.heartbeat_age = 1.0 if event == "heart" else 0.0
        if event == "stop":
            robot.stop()
        elif event == "rearm":
            robot.rearm()
        target, stiff = snapshot.target_position + np.array(way), (stiffness,) * 3 + (0.0,)
        snapshot = robot.run(Request(seq, source, target, DOWN, 0.0, stiff), PERIOD)
    return Recording(save(read_ring(ring.path), folder, "p11", 10))


@settings(max_examples=10, deadline=None)
@given(seed=seeds, sequence=asked)
def test_p11_the_same_states_and_requests_give_the_same_torques(arms, seed, sequence):
    """A replay of the flight recorder's log gives every torque bit for bit."""
    with tempfile.TemporaryDirectory() as folder:
        recording = record(arms, seed, sequence, Path(folder))
        verdict = replay(recording)
        assert verdict.ticks >= PERIOD * len(sequence) - 1
        assert verdict.different == verdict.gaps == 0


@settings(max_examples=5, deadline=None)
@given(seeds, st.integers(50, 250), st.integers(0, 6))
def test_p11_alive_another_state_gives_another_torque(arms, seed, row, joint):
    """Torques that are replayed aren't constant: a thousandth of an encoder's step shows."""
    with tempfile.TemporaryDirectory() as folder:
        sequence = [(0, (0.0, 0.01, 0.0), 0.0, "")] * 3
        recording = record(arms, seed, sequence, Path(folder))
        assert np.ptp(recording["tick.torque"], axis=0).max() > 0.5
        q = recording.column("reading", "q")
        q[row, joint] += 1e-8
        assert replay(recording).different > 0


class Guests:
    """Clients at a host's door, as sockets."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.door, self.holder = run_id, Door(run_id), None
        self.folder = tempfile.TemporaryDirectory()
        self.keyring = Keyring(Path(self.folder.name) / "host.key", False)
        self.door.open(self.keyring)
        self.conns: dict[int, socket.socket] = {}

    def knock(self, who: int) -> tuple[bytes, bool]:
        """Return what a client is told, and whether it got the shared memory to write to."""
        conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        conn.connect(doorbell.address(self.run_id))
        session = self.door.accept(
            self.holder, lambda conn, pid: Session(conn, pid, make("reach").spec, realtime=True)
        )
        self.holder = self.holder or session
        kind, payload, fd = doorbell.receive(conn)
        if fd is not None:
            os.close(fd)
        if kind == doorbell.WELCOME:
            self.conns[who] = conn
        else:
            assert f"process {os.getpid()} has authority" in payload["message"]
            conn.close()
        return kind, fd is not None

    def leave(self, who: int) -> None:
        """Hang up."""
        conn = self.conns.pop(who, None)
        if conn is not None and self.holder is not None:
            conn.close()
            self.holder.close()
            self.holder = None

    def close(self) -> None:
        """Send everybody away."""
        for who in list(self.conns):
            self.leave(who)
        self.door.close()
        self.keyring.close()
        self.folder.cleanup()


visits = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=12)


@settings(max_examples=25, deadline=None)
@given(visits)
def test_p13_of_two_writers_the_second_is_refused(sequence):
    """While one client has authority any other is told so, and gets nothing to write to."""
    with contextlib.closing(Guests("p13")) as guests:
        has = None
        for who, comes in sequence:
            if comes and who != has:
                kind, may_write = guests.knock(who)
                assert may_write == (has is None)
                assert kind == (doorbell.WELCOME if has is None else doorbell.ERROR)
                has = who if has is None else has
            elif not comes and who == has:
                guests.leave(who)
                has = None
        with pytest.raises(RunFolderError, match="another robot host"):
            Door("p13")


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6))
def test_p13_alive_the_next_writer_is_let_in_when_the_first_has_gone(count):
    """One after the other everybody gets the arm, and a new host the name."""
    for _ in range(2):
        with contextlib.closing(Guests("p13")) as guests:
            for who in range(count):
                assert guests.knock(who) == (doorbell.WELCOME, True)
                guests.leave(who)
