"""Properties P11, P12, P13: a replay, the memory of a tick, and two who want the arm."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import socket
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_chain import CONFIG, DOWN, alarm, arm
from made_motion import Joints, begin

from controllers.chain import advance
from controllers.packed import CMD, MEAS, STATE
from controllers.robot import Mode, Request
from handrail.errors import RunFolderError
from robot_env.arms.sim.config import MujocoConfig
from robot_env.arms.sim.mujoco_robot import MujocoRobot
from robot_env.host import messages
from robot_env.host.authorization import HostKey
from robot_env.host.socket import ClientSession, HostSocket
from robot_env.recorder.mcap_writer import save
from robot_env.recorder.recorder import describe
from robot_env.recorder.recording import Recording
from robot_env.recorder.replay import replay
from robot_env.recorder.ring import NAME, Ring
from robot_env.recorder.ring_recovery import read_ring
from robot_env.tasks import make

PERIOD = 100  # [ticks]
RUN = f"p13-{os.getpid()}"

seeds = st.integers(0, 2**32 - 1)


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
    robot.ring_view, robot.config = ring.ring_view, MujocoConfig(loss=0.01, loss_ticks=10)
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
    """Torques that are replayed aren't constant: one step of one joint's encoder shows."""
    with tempfile.TemporaryDirectory() as folder:
        sequence = [(0, (0.0, 0.01, 0.0), 0.0, "")] * 3
        recording = record(arms, seed, sequence, Path(folder))
        assert np.ptp(recording["tick.torque"], axis=0).max() > 0.5
        q = recording.column("reading", "q")
        q[row, joint] += 1e-5
        assert replay(recording).different > 0


HEAP = (
    "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks",
    "keepcost",
)  # fmt: skip


class Heap(ctypes.Structure):
    """What glibc says of its heap."""

    _fields_ = tuple((name, ctypes.c_size_t) for name in HEAP)


def in_use() -> int:
    """Return bytes of the C heap that are in use."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Heap
    found = mallinfo()
    return found.uordblks + found.hblkhd


def growth(ticks: int, leak: list | None = None) -> tuple[int, int, int]:
    """Return what ticks leave behind: bytes of the C heap, of Python's, and page faults."""
    joints, rng = Joints(CONFIG, hz=10.0), np.random.default_rng(0)
    measurement, way = joints.measurement, 1e-3 * rng.uniform(-0.1, 0.1, 7)
    args = (
        joints.params,
        joints.state,
        measurement,
        joints.command_buffer,
        alarm(-1.0),
        joints.torque,
    )
    joints.ask(joints.state[STATE.pose : STATE.pose + 7])
    q, command_buffer = measurement[MEAS.q : MEAS.q + 7], joints.command_buffer

    def run(count: int) -> None:
        for k in range(count):
            if k % 100 == 0:
                command_buffer[CMD.seq] += 1.0
                way[:] *= -1.0
            q[:] += way
            advance(*args)
            if leak is not None:
                leak.append(joints.torque.copy())

    run(2000)
    gc.collect()
    gc.disable()
    try:
        heap, faults = in_use(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        run(ticks)
        heap = in_use() - heap
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - faults
        tracemalloc.start()
        run(100)
        before = tracemalloc.get_traced_memory()[0]
        run(ticks // 10)
        objects = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert joints.state[STATE.mode] == Mode.FOLLOWING
    assert joints.state[STATE.tick] > ticks
    return heap, objects, faults


@pytest.mark.wallclock
def test_p12_ticks_keep_no_memory_and_meet_no_page_fault():
    """Neither heap grows, no page faults; scratch arrays come from the C heap and go back."""
    heap, objects, faults = growth(20_000)
    assert heap < 20_000  # a byte a tick: the interpreter's own come and go
    assert objects < 2000
    assert faults < 50


def test_p12_alive_memory_that_is_kept_is_seen():
    """The same measure sees a tick that keeps a single small array."""
    heap, objects, _ = growth(20_000, leak=[])
    assert heap > 20_000 * 56
    assert objects > 2000 * 56


class Guests:
    """Clients at a host's door, as sockets."""

    def __init__(self, run_id: str) -> None:
        self.run_id, self.door, self.holder = run_id, HostSocket(run_id), None
        self.folder = tempfile.TemporaryDirectory()
        self.host_key = HostKey(Path(self.folder.name) / "host.key", False)
        self.door.open(self.host_key)
        self.conns: dict[int, socket.socket] = {}

    def knock(self, who: int) -> tuple[bytes, bool]:
        """Return what a client is told, and whether it got the shared memory to write to."""
        conn = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        conn.connect(messages.address(self.run_id))
        session = self.door.accept(
            self.holder,
            lambda conn, pid: ClientSession(conn, pid, make("reach").spec, realtime=True),
        )
        self.holder = self.holder or session
        kind, payload, fd = messages.receive(conn)
        if fd is not None:
            os.close(fd)
        if kind == messages.WELCOME:
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
        self.host_key.close()
        self.folder.cleanup()


visits = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=2, max_size=12)


@settings(max_examples=25, deadline=None)
@given(visits)
def test_p13_of_two_writers_the_second_is_refused(sequence):
    """While one client has authority any other is told so, and gets nothing to write to."""
    with contextlib.closing(Guests(RUN)) as guests:
        has = None
        for who, comes in sequence:
            if comes and who != has:
                kind, may_write = guests.knock(who)
                assert may_write == (has is None)
                assert kind == (messages.WELCOME if has is None else messages.ERROR)
                has = who if has is None else has
            elif not comes and who == has:
                guests.leave(who)
                has = None
        with pytest.raises(RunFolderError, match="another robot host"):
            HostSocket(RUN)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 6))
def test_p13_alive_the_next_writer_is_let_in_when_the_first_has_gone(count):
    """One after the other everybody gets the arm, and a new host the name."""
    for _ in range(2):
        with contextlib.closing(Guests(RUN)) as guests:
            for who in range(count):
                assert guests.knock(who) == (messages.WELCOME, True)
                guests.leave(who)
