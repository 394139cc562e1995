"""The broadcast over real sockets: the newest weights win."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import zmq
from made_link import until

from handrail.errors import ProtocolMismatch
from handrail.link.array_codec import pack, unpack
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def test_the_newest_weights_win_and_each_is_given_once(endpoint: str) -> None:
    with WeightsPublisher(endpoint) as broadcaster, WeightsSubscriber(endpoint) as subscriber:
        broadcaster.publish("policy", {"version": 0}, {})
        until(lambda: subscriber.latest("policy"))
        for version in range(1, 201):
            broadcaster.publish("policy", {"version": version}, {"w": np.full(100, version)})
        time.sleep(0.3)  # so that many wait; on a busy machine some are still to come
        got: list[int] = []

        def last_has_come() -> bool:
            if (message := subscriber.latest("policy")) is not None:
                got.append(message[0]["version"])
                assert (message[1]["w"] == got[-1]).all()
            return got[-1:] == [200]

        until(last_has_come)
        assert got == sorted(set(got))
        assert len(got) < 20
        assert subscriber.latest("policy") is None
        assert subscriber.latest("base") is None


def test_a_slow_actor_is_never_behind_by_more_than_what_is_on_the_way(endpoint: str) -> None:
    """Publish at 100 Hz, consume at 20 Hz; a peer was 104 versions behind."""
    published = 0
    lag = []
    with WeightsPublisher(endpoint) as broadcaster, WeightsSubscriber(endpoint) as subscriber:
        for published in range(1, 101):
            broadcaster.publish("policy", {"version": published}, {"w": np.zeros(1000)})
            time.sleep(0.01)
            if published % 5 == 0:
                message = subscriber.latest("policy")
                if message is not None:
                    lag.append(published - message[0]["version"])
    assert np.median(lag) <= 1


def test_a_late_joiner_is_served_every_topic_at_once(endpoint: str) -> None:
    with WeightsPublisher(endpoint) as broadcaster:
        broadcaster.publish("base", {"version": 1}, {"w": np.ones(3, np.float32)})
        broadcaster.publish("policy", {"version": 9}, {"w": np.zeros(3, np.float32)})
        with WeightsSubscriber(endpoint) as first:
            assert until(lambda: first.latest("base"))[0] == {"version": 1}
            assert until(lambda: first.latest("policy"))[0] == {"version": 9}
            with WeightsSubscriber(endpoint) as second:
                assert until(lambda: second.latest("policy"), 2.0)[0] == {"version": 9}
                assert until(lambda: second.latest("base"), 2.0)[0] == {"version": 1}
                time.sleep(0.05)
                assert first.latest("policy") is None  # nothing new for the first


def test_a_subscriber_outlives_its_learner(endpoint: str) -> None:
    with WeightsSubscriber(endpoint) as subscriber:
        for version in (5, 3):  # the second learner may be at an older checkpoint
            with WeightsPublisher(endpoint) as broadcaster:
                broadcaster.publish("policy", {"version": version}, {})
                assert until(lambda: subscriber.latest("policy"))[0]["version"] == version


def test_what_was_published_is_not_the_callers_memory(endpoint: str) -> None:
    weights = np.ones(1_000_000, np.float32)
    with WeightsPublisher(endpoint) as broadcaster, WeightsSubscriber(endpoint) as subscriber:
        broadcaster.publish("policy", {}, {"w": weights})
        weights[:] = 7
        assert (until(lambda: subscriber.latest("policy"))[1]["w"] == 1).all()


@pytest.mark.slow
def test_weights_that_are_not_finite_or_damaged_are_refused(
    endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    bad = {"w": np.array([1, np.nan])}
    with (
        WeightsPublisher(endpoint) as b,
        pytest.raises(ProtocolMismatch, match="'w' must be finite"),
    ):
        b.publish("policy", {}, bad)
    publisher = raw(zmq.XPUB)
    publisher.bind(endpoint)
    with WeightsSubscriber(endpoint, topics=("policy",)) as subscriber:
        publisher.recv()
        damaged = pack({}, {"w": np.ones(5)}, b"policy\0")
        damaged[-70] ^= 1
        for frame in (damaged, pack({}, {"w": np.array([np.inf])}, b"policy\0"), b"policy\0"):
            before, sent = subscriber.refused, 0.0
            while subscriber.refused == before:
                if time.monotonic() > sent + 5.0:  # a machine that stalls costs a connection
                    sent = time.monotonic()
                    publisher.send(bytes(frame))
                assert subscriber.latest("policy") is None
                time.sleep(0.005)
        publisher.send(bytes(pack({"version": 2}, {}, b"policy\0")))
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 2}


def test_given_weights_are_checked_in_the_background_and_the_next_call_says_so(
    endpoint: str,
) -> None:
    with WeightsPublisher(endpoint) as b, WeightsSubscriber(endpoint) as subscriber:
        b.publish("policy", {"version": 1}, {"w": np.ones(3)}, take_ownership=True)
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 1}
        b.publish("policy", {"version": 2}, {"w": np.array([1, np.nan])}, take_ownership=True)

        def refused() -> bool:
            try:
                b.publish("base", {}, {}, take_ownership=True)
            except ProtocolMismatch as error:
                return "'w' must be finite" in str(error)
            return False

        assert until(refused)
        assert subscriber.latest("policy") is None
        b.publish("policy", {"version": 3}, {"w": np.zeros(3)}, take_ownership=True)
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 3}


def narrow(raw: Callable[[int], zmq.Socket], endpoint: str) -> zmq.Socket:
    """Return a subscriber to policies with room for one message."""
    sock = raw(zmq.SUB)
    sock.rcvhwm = 1
    sock.subscribe(b"policy\0")
    sock.connect(endpoint)
    return sock


def test_publish_does_not_wait_for_a_stopped_actor(
    endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    with WeightsPublisher(endpoint) as broadcaster:
        stuck = narrow(raw, endpoint)
        weights = {"w": np.zeros(1 << 18)}  # 2 MB
        broadcaster.publish("policy", {}, weights)
        assert stuck.poll(5000)
        times = []
        for _ in range(50):
            start = time.perf_counter()
            broadcaster.publish("policy", {}, weights)
            times.append(time.perf_counter() - start)
        assert np.median(times) < 0.05


def test_the_newest_weights_reach_an_actor_that_had_no_room_for_them(
    endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    """ZeroMQ drops what is newest where a queue is full, and nothing may follow it."""
    with WeightsPublisher(endpoint) as broadcaster:
        slow = narrow(raw, endpoint)
        weights = np.zeros(1 << 18)  # 2 MB
        broadcaster.publish("policy", {"version": 0}, {"w": weights})
        assert slow.poll(5000)
        for version in range(1, 21):
            broadcaster.publish("policy", {"version": version}, {"w": weights})
            time.sleep(0.02)
        got = [0]
        deadline = time.monotonic() + 20.0
        while got[-1] < 20:
            assert time.monotonic() < deadline, f"the last to come was {got[-1]}"
            if slow.poll(100):
                got.append(unpack(slow.recv(), len(b"policy\0"), 1 << 30)[0]["version"])
    assert got == sorted(got)
    assert len(set(got)) < 20, "nothing was ever dropped"
