"""The risk critic's way from a file to the control loop: over real sockets, newest wins."""

import os
import threading
import time

import numpy as np
import pytest
from made_critic import made_critic
from made_rows import SPEC
from test_host import end, new_run, start_host

from actor.link.risk_critic_relay import RiskCriticRelay
from controllers.config import ControlConfig
from handrail.errors import CheckpointError, DeviceLost, ProtocolMismatch
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber
from handrail.risk_critic.file import critic_path, write_critic
from handrail.risk_critic.format import RISK_HEADER, pack_critic, version_of
from handrail.run_folder import create_run
from learner.risk.publish import TOPIC
from learner.service.server import Server
from robot_env.arms.sim.config import MujocoConfig
from robot_env.client import HostClient
from robot_env.host import messages
from robot_env.host.core import HostCore
from robot_env.host.risk_critic_buffer import RiskCriticBuffer, receive_array, send_array
from robot_env.tasks import make


def packed(version, seed=0):
    return pack_critic(made_critic(version=version, seed=seed))


def damaged(version=99):
    array = packed(version)
    array[300] += 1.0
    return array


def until(condition, timeout_s=20.0):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.01)
    return value


def test_slot_is_empty_until_the_loop_switches():
    slot = RiskCriticBuffer()
    assert not slot.switch()
    assert slot.active[RISK_HEADER.heads] == 0
    assert slot.offer(packed(3))
    assert (slot.version, slot.newest) == (0, 3)
    assert slot.switch()
    assert not slot.switch()
    assert np.array_equal(slot.active, packed(3))


def test_newest_wins_whatever_the_order():
    slot = RiskCriticBuffer()
    assert slot.offer(packed(2))
    assert slot.offer(packed(5))
    assert not slot.offer(packed(4))
    slot.switch()
    assert slot.version == 5
    assert not slot.offer(packed(5, seed=1))
    assert not slot.switch()
    assert np.array_equal(slot.active, packed(5))


def test_refused_critic_leaves_the_last_good_one():
    slot = RiskCriticBuffer()
    slot.offer(packed(1))
    slot.switch()
    nan = packed(9)
    nan[100] = np.nan
    for bad in (damaged(), nan, packed(9)[:-1], np.zeros(0, np.float32)):
        with pytest.raises(CheckpointError):
            slot.offer(bad)
        assert not slot.switch()
    assert slot.refused == 4
    assert "16 values" in slot.why
    assert np.array_equal(slot.active, packed(1))


def test_loop_never_sees_half_a_critic():
    slot, stop = RiskCriticBuffer(), threading.Event()
    critics = [packed(version, seed=version) for version in range(1, 200)]

    def offer():
        for critic in critics:
            slot.offer(critic)
        stop.set()

    thread = threading.Thread(target=offer)
    thread.start()
    seen = [0]
    while not stop.is_set() or slot.newest != slot.version:
        if slot.switch():
            seen.append(slot.version)
            assert np.array_equal(slot.active, critics[slot.version - 1])
    thread.join()
    assert seen == sorted(set(seen))
    assert seen[-1] == 199


def test_array_crosses_in_a_file_of_its_own():
    fd = send_array(packed(1))
    try:
        assert np.array_equal(receive_array(fd), packed(1))
        os.ftruncate(fd, 6)
        with pytest.raises(CheckpointError, match="bytes"):
            receive_array(fd)
    finally:
        os.close(fd)


def test_core_switches_between_periods():
    core = HostCore(make("reach"), MujocoConfig(), ControlConfig())
    try:
        core.reset(0)
        assert core.load_critic(packed(4)) == 4
        assert core.critic.version == 0
        core.period(None, 1)
        assert core.critic.version == 4
    finally:
        core.close()


class FakeHost:
    """Takes critics as a host does, and can be away."""

    def __init__(self):
        self.slot, self.away = RiskCriticBuffer(), False

    def load_critic(self, array):
        if self.away:
            raise DeviceLost("away")
        self.slot.offer(array)
        return self.slot.newest


def message(array):
    return {"version": version_of(array)}, {"critic": array}


def test_relay_reports_what_was_refused_and_keeps_what_a_lost_host_missed():
    host = FakeHost()
    relay = RiskCriticRelay(host.load_critic)
    relay.forward(None)
    assert relay.status() == {"risk_version": 0, "risk_refused": 0}
    relay.forward(message(packed(2)))
    relay.forward(message(damaged()))
    relay.forward(({}, {}))
    assert relay.status() == {"risk_version": 2, "risk_refused": 2}
    host.away = True
    relay.forward(message(packed(3)))
    host.away = False
    relay.forward(None)
    assert relay.status()["risk_version"] == host.slot.newest == 3
    host.slot = RiskCriticBuffer()  # another process than before
    relay.resend()
    relay.forward(None)
    assert host.slot.newest == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "realtime",
    [
        pytest.param(False, id="lockstep"),
        pytest.param(True, id="realtime", marks=pytest.mark.wallclock),
    ],
)
def test_critic_goes_from_the_broadcast_to_the_host_process(tmp_path, realtime):
    run = new_run(tmp_path / "run", "[host]\npriority = 0\n")
    write_critic(critic_path(run.folder), packed(1), {})
    host = start_host(run, *(["--realtime"] if realtime else []))
    try:
        with (
            HostClient.connect(run.id, make("peg"), deadline=120) as client,
            WeightsPublisher(run.endpoint("broadcast")) as learner,
            WeightsSubscriber(run.endpoint("broadcast"), topics=(TOPIC,)) as subscriber,
        ):
            relay = RiskCriticRelay(client.load_critic)

            def came(version, refused):
                relay.forward(subscriber.latest(TOPIC))
                return relay.status() == {"risk_version": version, "risk_refused": refused}

            for sent, held, refused in ((5, 5, 0), (3, 5, 0), (6, 6, 0)):
                learner.publish(TOPIC, {"version": sent}, {"critic": packed(sent)})
                until(lambda held=held, refused=refused: came(held, refused))
            learner.publish(TOPIC, {"version": 7}, {"critic": damaged(7)})
            until(lambda: came(6, 1))
            with pytest.raises(CheckpointError, match="checksum"):
                client.load_critic(damaged())
            with pytest.raises(ProtocolMismatch, match="file of its own"):
                client._call(messages.CRITIC, {})
            assert client.load_critic(packed(2)) == 6
            client.reset(0)  # the host is as alive as before
    finally:
        code, log = end(host)
    assert code == 0
    assert "risk critic version 1" in log
    assert log.index("version 1") < log.index("version 5") < log.index("version 6")
    assert "refused a risk critic, version 6 stays" in log


def test_host_starts_without_a_critic_it_can_not_trust(tmp_path):
    run = new_run(tmp_path / "run")
    path = critic_path(run.folder)
    write_critic(path, packed(1), {})
    path.write_bytes(path.read_bytes()[:-8])
    host = start_host(run)
    try:
        with HostClient.connect(run.id, make("peg"), deadline=120) as client:
            assert client.load_critic(packed(1)) == 1
    finally:
        _, log = end(host)
    assert "the limits hold alone" in log


@pytest.mark.slow
def test_learner_publishes_each_critic_that_appears_in_the_run(tmp_path):
    run = create_run(tmp_path / "run", "toy", SPEC.hash, "")
    plan = {"demos": 1, "publish_steps": 1, "seed": 0}
    server = Server(run, {"run": plan, "base": {"kind": "bc"}}, SPEC)
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(stop,))
    thread.start()
    try:
        with WeightsSubscriber(run.endpoint("broadcast"), topics=(TOPIC,)) as subscriber:
            path = critic_path(run.folder)
            for version in (1, 2):
                write_critic(path, packed(version), {})
                meta, arrays = until(lambda: subscriber.latest(TOPIC))
                assert meta["version"] == version
                assert np.array_equal(arrays["critic"], packed(version))
            path.write_bytes(path.read_bytes()[:-8])
            write_critic(path, packed(3), {})
            meta, _ = until(lambda: subscriber.latest(TOPIC))
            assert meta["version"] == 3
    finally:
        stop.set()
        thread.join()
        server.close()
