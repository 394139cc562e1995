"""Real time and lockstep say the same of the same requests, in every field of a step."""

import os
import socket
import threading
import time

import numpy as np
import pytest
from made_critic import made_critic

from controllers.config import ControlConfig
from controllers.packed import STATE
from controllers.robot import SNAPSHOT_SLICES, Request, Snapshot
from handrail.risk_critic.format import pack_critic
from handrail.risk_critic.violation import violates
from robot_env.arms.sim.config import MujocoConfig
from robot_env.client import HostClient
from robot_env.host.authorization import HostKey
from robot_env.host.config import HostConfig
from robot_env.host.core import HostCore
from robot_env.host.realtime_server import RealtimeServer
from robot_env.host.socket import HostSocket
from robot_env.tasks import make
from robot_env.tasks.costs import cost

# a busy machine may stop any heart for a while; a small tank brings the gate in
CONTROL = ControlConfig(heartbeat=60.0, tank_start=0.15, tank_max=0.2)
WALL_TIME = {"tick_us", "episode"}  # how long a tick took, and resets since the host started
# what this motion leaves as it is: no fault, no stop, no fingers
NOT_HERE = {
    "fault", "dropped_requests", "late_ticks", "gripper_target", "gripper_width",
    "torque_limited_ticks",
}  # fmt: skip
FIELDS, UNSAID = set(SNAPSHOT_SLICES), Snapshot()
STEPS = 14


def new_core() -> HostCore:
    core = HostCore(make("peg"), MujocoConfig(), CONTROL)
    core.load_critic(pack_critic(made_critic()._replace(threshold_on=0.725, threshold_off=0.72)))
    core.warm_up()
    return core


def requests(core: HostCore) -> list[Request]:
    """Return requests into the block and away, at a speed that the gate and the limits notice."""
    snapshot, _ = core.reset(3)
    rng, asked = np.random.default_rng(0), []
    for seq in range(STEPS):
        action = rng.uniform(-1.0, 1.0, 3) * 0.3 + [0.0, 0.0, -0.9 if seq < 8 else 0.9]
        request = core.task.request(snapshot, np.clip(action, -1.0, 1.0), seq)
        gains = (1500.0 if seq % 2 else 300.0,) * 3 + (0.0,)  # jumps of the spring's energy
        asked.append(request._replace(stiffness=gains))
        snapshot = core.step(asked[-1])
    return asked


class RealTimeHost:
    """A real-time server that ticks when it is told to, and a client's end of it."""

    def __init__(self, folder) -> None:
        self.core = new_core()
        name = f"law-{os.getpid()}-{time.monotonic_ns()}"
        self.socket = HostSocket(name)
        self.socket.open(HostKey(folder / "host.key", False))
        self.bell, self.wake = socket.socketpair()
        config, stop = HostConfig(), threading.Event()
        self.server = RealtimeServer(self.core, self.socket, config, stop, self.wake)
        self.client = HostClient(name)
        self.serve(lambda: self.client.reconnect(60.0))

    def serve(self, call) -> None:
        """Run ticks until a call of the client has its answer."""
        thread = threading.Thread(target=call)
        thread.start()
        while thread.is_alive():
            self.server.tick(1)
        thread.join()

    def reset(self, seed: int) -> None:
        self.serve(lambda: self.client.reset(seed))
        self.core.reset(seed)  # ticks passed since the client's

    def step(self, request: Request, dues: list[int]) -> Snapshot:
        self.client._segment.request.write(request.pack())
        for due in dues:
            self.server.tick(due)
        return self.client.peek()

    def close(self) -> None:
        self.client.close()
        self.server.tick(1)  # it hears that the client left
        self.server._worker.close()
        self.socket.close()
        self.core.close()
        self.bell.close()
        self.wake.close()


@pytest.fixture(scope="module")
def lockstep():
    core = new_core()
    yield core
    core.close()


@pytest.fixture(scope="module")
def real_time(tmp_path_factory):
    host = RealTimeHost(tmp_path_factory.mktemp("law"))
    yield host
    host.close()


def differences(a: Snapshot, b: Snapshot) -> list[str]:
    one, two = a.pack(), b.pack()
    return [
        name
        for name, (low, high) in SNAPSHOT_SLICES.items()
        if name not in WALL_TIME and not np.array_equal(one[low:high], two[low:high])
    ]


def chopped(ticks: int, rng: np.random.Generator) -> list[int]:
    """Return ticks one by one, but for some that come together because they were missed."""
    dues = []
    while sum(dues) < ticks:
        dues.append(min(int(rng.choice([1, 1, 1, 2, 5])), ticks - sum(dues)))
    return dues


@pytest.mark.parametrize("missed", [False, True])
def test_real_time_and_lockstep_give_the_same_step_statistics(lockstep, real_time, missed):
    asked = requests(lockstep)
    lockstep.reset(3)
    real_time.reset(3)
    rng, varied, energy = np.random.default_rng(1), set(), 0.0
    limits = lockstep.task.limits
    for request in asked:
        dues = chopped(lockstep.ticks, rng) if missed else [1] * lockstep.ticks
        here, there = lockstep.step(request), real_time.step(request, dues)
        assert differences(here, there) == [], f"request {request.seq}"
        energy += here.energy_injected
        assert cost(here) == cost(there)
        rule = [violates(limits, s.force_peak, spent=energy) for s in (here, there)]
        assert rule[0] == rule[1]
        assert 0.0 < there.tick_us < 1e5
        varied |= {n for n in FIELDS if not np.array_equal(getattr(here, n), getattr(UNSAID, n))}
    assert FIELDS - varied <= NOT_HERE, "these were never put to the test"


def test_a_host_that_follows_nobody_begins_its_periods_all_the_same(lockstep, real_time):
    real_time.core.readonly = True
    try:
        ask = requests(lockstep)[0]
        real_time.reset(3)
        for seq in range(3):
            assert real_time.step(ask._replace(seq=seq), [1] * 10).request_seq == -1
            assert real_time.core.robot.state[STATE.ticks] == 10
    finally:
        real_time.core.readonly = False
