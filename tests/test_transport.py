"""The link over real sockets: rows once and in order, newest weights, answers within deadlines."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from zmq.utils.garbage import GarbageCollectorThread

from handrail import wire
from handrail.codec import encode_row, pack
from handrail.errors import ConfigError, LinkTimeout, ProtocolMismatch, StorageError
from handrail.spec import EnvSpec, slices_of
from handrail.spool import RETAIN_BYTES, Spool
from handrail.transition import Source, Transition
from handrail.transport import (
    Broadcaster,
    RequestClient,
    RequestServer,
    StreamReceiver,
    StreamSender,
    Subscriber,
)
from handrail.wire import Hello
from learner.store import Store

SPEC = EnvSpec("toy", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4)
T = TypeVar("T")


@pytest.fixture
def endpoint() -> str:
    return f"ipc://@handrail-test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def raw() -> Iterator[Callable[[int], zmq.Socket]]:
    """Make sockets without the link's manners."""
    context = zmq.Context()
    made = []

    def make(kind: int) -> zmq.Socket:
        made.append(context.socket(kind))
        return made[-1]

    yield make
    for sock in made:
        sock.close(linger=0)
    context.term()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    yield
    ours = [t for t in threading.enumerate() if not isinstance(t, GarbageCollectorThread)]
    assert ours == [threading.main_thread()]  # besides pyzmq's own for frames sent without a copy


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_row(t: int, actor: int = 0) -> Transition:
    z = np.zeros(SPEC.action, np.float32)
    return Transition(actor, t, Source.ONLINE, np.full(SPEC.state, t, np.float32), z, z, z, z)


def blob(t: int, actor: int = 0) -> bytes:
    return encode_row(make_row(t, actor), SPEC)


def until(condition: Callable[[], T | None], timeout_s: float = 10.0) -> T:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)
    return value


def take(receiver: StreamReceiver, count: int, timeout_s: float = 10.0) -> list[int]:
    got: list[int] = []
    deadline = time.monotonic() + timeout_s
    while len(got) < count:
        assert time.monotonic() < deadline, f"got {len(got)} of {count} rows in time"
        got += [row.t for _, row in receiver.poll(0.05)]
    return got


class Side:
    """An actor's end: spool and sender."""

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        name: str = "arm",
        retain_bytes: int = RETAIN_BYTES,
        **options: float,
    ) -> None:
        self.spool = Spool(folder / f"{name}.db", retain_bytes=retain_bytes)
        hello = Hello.of(name, self.spool.session, SPEC)
        self.sender = StreamSender(endpoint, self.spool, hello, **options)  # type: ignore[arg-type]

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.close()
        self.spool.close()


@pytest.mark.parametrize("kind", ["abstract", "tcp", "file"])
def test_rows_arrive_once_in_order_and_leave_the_spool(
    tmp_path: Path, endpoint: str, kind: str
) -> None:
    if kind == "tcp":
        endpoint = f"tcp://127.0.0.1:{free_port()}"
    elif kind == "file":
        endpoint = f"ipc://{tmp_path}/s"
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint) as actor,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        for t in range(3000):
            actor.spool.append(blob(t))
        assert take(receiver, 3000) == list(range(3000))
        actor.sender.drain(5.0)
        status = actor.sender.status()
        assert (status.depth, status.acked, status.unacked_bytes) == (0, 3000, 0)
        assert status.connected
        assert receiver.poll(0.05) == []
        assert (receiver.refused, receiver.missing) == (0, 0)
        assert [c for c, _ in store.rows()] == list(range(1, 3001))
        assert list(receiver.actors) == ["arm"]


def test_nothing_is_acknowledged_before_the_store_has_it(tmp_path: Path, endpoint: str) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint, answer_s=0.3) as actor,
    ):

        class Refusing:
            uuid, epoch = store.uuid, store.epoch
            open_session, high, absent = store.open_session, store.high, store.absent

            def put(self, rows: object) -> list[object]:
                raise StorageError("disk full")

        with StreamReceiver(endpoint, Refusing(), SPEC) as receiver:
            actor.spool.append(blob(0))
            with pytest.raises(StorageError, match="disk full"):
                take(receiver, 1)
            time.sleep(0.1)
            assert actor.sender.status().depth == 1
        with StreamReceiver(endpoint, store, SPEC) as receiver:
            assert take(receiver, 1) == [0]


def test_the_caller_never_waits_while_the_learner_is_gone(tmp_path: Path, endpoint: str) -> None:
    with Store(tmp_path / "store.db", SPEC) as store, Side(tmp_path, endpoint) as actor:
        times = []
        for t in range(5000):
            start = time.perf_counter()
            actor.spool.append(blob(t))
            times.append(time.perf_counter() - start)
        assert np.median(times) < 1e-3
        assert not actor.sender.status().connected
        actor.sender.check()  # a learner that is away is no error
        with pytest.raises(LinkTimeout, match="5000 rows"):
            actor.sender.drain(0.1)
        with StreamReceiver(endpoint, store, SPEC) as receiver:
            assert take(receiver, 5000) == list(range(5000))


def test_the_window_bounds_what_is_on_the_way(tmp_path: Path, endpoint: str) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint, window_rows=100, batch_rows=10) as actor,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        for t in range(1000):
            actor.spool.append(blob(t))
        until(lambda: receiver.poll(0.05) or actor.sender.status().connected)
        time.sleep(0.2)
        assert actor.sender.status().unacked_bytes <= 110 * len(blob(0))
        assert len(store) + len(receiver.poll(0.5)) <= 220
        got = len(store)
        take(receiver, 1000 - got)
        assert [row.t for _, row in store.rows()] == list(range(1000))


def test_a_learner_that_is_silent_for_long_gets_no_flood(tmp_path: Path, endpoint: str) -> None:
    """It may be compiling: rows are not sent again before it has answered."""
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        Side(tmp_path, endpoint, answer_s=0.1) as actor,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        actor.spool.append(blob(0))
        take(receiver, 1)
        for t in range(1, 400):
            actor.spool.append(blob(t))
        actor.spool.flush(5.0)
        until(lambda: not actor.sender.status().connected)
        time.sleep(1.0)
        counted, original = [], store.put
        store.put = lambda rows: counted.append(len(rows)) or original(rows)  # type: ignore
        take(receiver, 399)
        until(lambda: receiver.poll(0.02) == [] and actor.sender.status().depth == 0)
        assert sum(counted) == 399


@pytest.mark.parametrize("change", ["same store", "restarts", "older copy", "nothing retained"])
def test_a_learner_that_comes_back_goes_on_where_its_store_is(
    tmp_path: Path, endpoint: str, change: str
) -> None:
    path = tmp_path / "store.db"
    backup = b""
    retain = 0 if change == "nothing retained" else 1 << 30
    copied = change in ("older copy", "nothing retained")
    with Side(tmp_path, endpoint, retain_bytes=retain, answer_s=0.3) as actor:
        total = 0
        for round_ in range(4):
            for t in range(total, total + 200):
                actor.spool.append(blob(t))
            total += 200
            with Store(path, SPEC) as store, StreamReceiver(endpoint, store, SPEC) as receiver:
                if change == "older copy" and round_ == 3:
                    assert take(receiver, 400) == list(range(400, 800))
                    assert receiver.missing == 0
                    assert actor.sender.status().refilled == 200
                    break
                take(receiver, 200)
                assert receiver.missing == (200 if copied and round_ == 3 else 0)
                if change != "restarts":
                    actor.sender.drain(5.0)
                if change == "nothing retained":
                    until(lambda: actor.spool.first(actor.spool.session) == total + 1)  # noqa: B023
            if copied and round_ == 1:
                backup = path.read_bytes()
            if copied and round_ == 2:
                path.write_bytes(backup)
        with Store(path, SPEC) as store:
            lost = change == "nothing retained"
            wanted = [*range(400), *range(600, 800)] if lost else range(800)
            assert [row.t for _, row in store.rows()] == list(wanted)


def test_a_restarted_actor_delivers_what_its_predecessor_left(
    tmp_path: Path, endpoint: str
) -> None:
    """PEERS.md P1: a new actor's numbers start anew and nothing of either session is lost."""
    with Store(tmp_path / "store.db", SPEC) as store:
        sessions = []
        for start in (0, 100, 200):
            with Side(tmp_path, endpoint) as actor:
                sessions.append(actor.spool.session)
                for t in range(start, start + 100):
                    actor.spool.append(blob(t))
                if start:
                    continue
                with StreamReceiver(endpoint, store, SPEC) as receiver:
                    take(receiver, 100)
                    actor.sender.drain(5.0)
        with Side(tmp_path, endpoint) as actor, StreamReceiver(endpoint, store, SPEC) as receiver:
            actor.spool.append(blob(300))
            assert take(receiver, 201) == list(range(100, 301))
            sessions.append(actor.spool.session)
        seen = [(a.session, a.seq) for a in store.arrivals()]
        assert seen == [
            *((s, seq) for s in sessions[:3] for seq in range(1, 101)),
            (sessions[3], 1),
        ]


def test_many_actors_are_served_and_kept_apart(tmp_path: Path, endpoint: str) -> None:
    names = [f"arm-{i}" for i in range(8)]
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        actors = [Side(tmp_path, endpoint, name) for name in names]
        for t in range(200):
            for number, actor in enumerate(actors):
                actor.spool.append(blob(t, number))
        take(receiver, 8 * 200)
        for actor in actors:
            actor.sender.drain(5.0)
            actor.__exit__()
        assert sorted(receiver.actors) == names
        for number, name in enumerate(names):
            rows = [a for a in store.arrivals() if a.actor == name]
            assert [(a.row.t, a.row.episode, a.seq) for a in rows] == [
                (t, number, t + 1) for t in range(200)
            ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "peg"}, r"task: actor 'peg', learner 'toy'"),
        ({"task_hash": "4567"}, r"task hash: actor '4567', learner '0123'"),
        ({"horizon": 51}, "spec hash"),
    ],
)
def test_an_actor_of_another_task_is_refused_with_both_values(
    tmp_path: Path, endpoint: str, change: dict[str, str], words: str
) -> None:
    other = dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Spool(tmp_path / "other.db") as spool,
        StreamSender(endpoint, spool, Hello.of("stray", spool.session, other)) as sender,
        Side(tmp_path, endpoint) as actor,
    ):
        spool.append(blob(0))
        actor.spool.append(blob(1))
        assert take(receiver, 1) == [1]  # the learner goes on with those that fit
        until(lambda: receiver.poll(0.02) or sender.status().refusal)
        with pytest.raises(ProtocolMismatch, match=words):
            sender.check()
        assert len(store) == 1
        assert spool.depth == 1


def test_peers_of_another_protocol_version_tell_each_other(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        newer = raw(zmq.DEALER)
        newer.connect(endpoint)
        newer.send(bytes([wire.PROTOCOL + 1]) + b"whatever comes then")
        until(lambda: receiver.poll(0.02) or newer.poll(1))
        answer = wire.load(newer.recv())
        assert isinstance(answer, wire.Refuse)
        assert f"protocol {wire.PROTOCOL + 1}, this side {wire.PROTOCOL}" in answer.reason
    learner = raw(zmq.ROUTER)
    learner.bind(endpoint)
    with Side(tmp_path, endpoint) as actor:
        identity, _ = learner.recv_multipart()
        learner.send_multipart([identity, bytes([wire.PROTOCOL + 1]) + b"newer"])
        until(lambda: actor.sender.status().refusal)
        with pytest.raises(ProtocolMismatch, match="upgrade the older"):
            actor.sender.check()


def test_a_damaged_row_is_refused_and_named(tmp_path: Path, endpoint: str) -> None:
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Side(tmp_path, endpoint) as actor,
    ):
        actor.spool.append(blob(0))
        take(receiver, 1)
        damaged = bytearray(blob(1))
        damaged[80] ^= 1
        actor.spool.append(bytes(damaged))
        until(lambda: receiver.poll(0.02) or actor.sender.status().refusal)
        with pytest.raises(ProtocolMismatch, match=r"row 2 of actor 'arm'.*checksum"):
            actor.sender.check()
        assert len(store) == 1


def test_long_rows_arrive_in_frames_of_their_own(tmp_path: Path, endpoint: str) -> None:
    spec = dataclasses.replace(SPEC, images={"front": (160, 160, 3)})
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (40, 160, 160, 3), np.uint8)
    assert frames[0].nbytes >= wire.LONE_ROW
    with (
        Store(tmp_path / "store.db", spec) as store,
        Spool(tmp_path / "spool.db") as spool,
        StreamReceiver(endpoint, store, spec) as receiver,
    ):
        for t, frame in enumerate(frames):
            row = dataclasses.replace(make_row(t), images={"front": frame})
            spool.append(encode_row(row, spec))
        with StreamSender(endpoint, spool, Hello.of("arm", spool.session, spec)) as sender:
            assert take(receiver, 40) == list(range(40))
            sender.drain(5.0)
        stored = [row.images["front"] for _, row in store.rows()]
    assert (np.stack(stored) == frames).all()


headers = st.binary(max_size=60) | st.builds(
    lambda message, place, byte: (
        message[: place % len(message)] + bytes([byte]) + message[place % len(message) + 1 :]
    ),
    st.sampled_from(
        [
            wire.dump(Hello("a", "s", "toy", "0123", SPEC.hash, 1, {"s": 1})),
            wire.dump(wire.Rows(1, "s", 1, 1, [100])),
            wire.dump(wire.Ping(1)),
            wire.dump(wire.Ask(1, "status", {})),
        ]
    ),
    st.integers(0, 200),
    st.integers(0, 255),
)


@given(headers)
@settings(max_examples=500)
def test_a_mutated_header_is_a_message_or_refused(frame: bytes) -> None:
    with contextlib.suppress(ProtocolMismatch):
        wire.load(frame)


def test_noise_at_an_open_port_harms_nobody(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    rng = np.random.default_rng(0)
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
        Side(tmp_path, endpoint) as actor,
    ):
        noisy = raw(zmq.DEALER)
        noisy.connect(endpoint)
        hello = Hello("noise", "n", "toy", SPEC.task_hash, SPEC.hash, 1, {"n": 1})
        size = len(blob(0))
        messages = [
            [wire.dump(wire.Rows(1, "n", 1, 1, [size])), blob(0)],  # before its hello
            [wire.dump(hello)],
            [wire.dump(wire.Rows(1, "n", 1, 1, [size]))],
            [wire.dump(wire.Rows(1, "n", 1, 1, [size, size])), blob(0)],
            [wire.dump(wire.Rows(1, "n", 1, 1, [-size])), blob(0)],
            [wire.dump(wire.Rows(1, "n", 1, 1, [size])), blob(0)[:50], blob(0)[50:]],
            [wire.dump(wire.Rows(1, "n", 1, 1, [size])), *[blob(0)] * 2],
            [wire.dump(wire.Rows(1, "n", -5, -5, [size])), blob(0)],
            [wire.dump(wire.Rows(1, "n", 1, 9, [size])), blob(0)],
            [wire.dump(wire.Rows(1, "other", 1, 1, [size])), blob(0)],
            [wire.dump(wire.Rows(1, "n", 1, 1, [])), b""],
            [wire.dump(wire.Welcome(1, "x", 0, {}))],
            [wire.dump(wire.Ask(1, "x", {}))],
            [],
        ]
        messages += [
            [rng.bytes(int(rng.integers(0, 80))) for _ in range(int(rng.integers(1, 4)))]
            for _ in range(200)
        ]
        for message in messages:
            noisy.send_multipart(message or [b""])
        for t in range(50):
            actor.spool.append(blob(t))
        assert take(receiver, 50) == list(range(50))
        actor.sender.drain(5.0)
        until(lambda: receiver.poll(0.02) == [] and receiver.refused > 200)
        assert len(store) == 50


def test_the_newest_weights_win_and_each_is_given_once(endpoint: str) -> None:
    with Broadcaster(endpoint) as broadcaster, Subscriber(endpoint) as subscriber:
        broadcaster.publish("policy", {"version": 0}, {})
        until(lambda: subscriber.latest("policy"))
        for version in range(1, 201):
            broadcaster.publish("policy", {"version": version}, {"w": np.full(100, version)})
        time.sleep(0.3)
        message = subscriber.latest("policy")
        assert message is not None
        meta, arrays = message
        assert meta["version"] == 200
        assert (arrays["w"] == 200).all()
        assert subscriber.latest("policy") is None
        assert subscriber.latest("base") is None


def test_a_slow_actor_is_never_behind_by_more_than_what_is_on_the_way(endpoint: str) -> None:
    """PEERS.md P3: publish at 100 Hz, consume at 20 Hz; a peer was 104 versions behind."""
    published = 0
    lag = []
    with Broadcaster(endpoint) as broadcaster, Subscriber(endpoint) as subscriber:
        for published in range(1, 101):
            broadcaster.publish("policy", {"version": published}, {"w": np.zeros(1000)})
            time.sleep(0.01)
            if published % 5 == 0:
                message = subscriber.latest("policy")
                if message is not None:
                    lag.append(published - message[0]["version"])
    assert np.median(lag) <= 1


def test_a_late_joiner_is_served_every_topic_at_once(endpoint: str) -> None:
    with Broadcaster(endpoint) as broadcaster:
        broadcaster.publish("base", {"version": 1}, {"w": np.ones(3, np.float32)})
        broadcaster.publish("policy", {"version": 9}, {"w": np.zeros(3, np.float32)})
        with Subscriber(endpoint) as first:
            assert until(lambda: first.latest("base"))[0] == {"version": 1}
            assert until(lambda: first.latest("policy"))[0] == {"version": 9}
            with Subscriber(endpoint) as second:
                assert until(lambda: second.latest("policy"), 2.0)[0] == {"version": 9}
                assert until(lambda: second.latest("base"), 2.0)[0] == {"version": 1}
                time.sleep(0.05)
                assert first.latest("policy") is None  # nothing new for the first


def test_a_subscriber_outlives_its_learner(endpoint: str) -> None:
    with Subscriber(endpoint) as subscriber:
        for version in (5, 3):  # the second learner may be at an older checkpoint
            with Broadcaster(endpoint) as broadcaster:
                broadcaster.publish("policy", {"version": version}, {})
                assert until(lambda: subscriber.latest("policy"))[0]["version"] == version


def test_what_was_published_is_not_the_callers_memory(endpoint: str) -> None:
    weights = np.ones(1_000_000, np.float32)
    with Broadcaster(endpoint) as broadcaster, Subscriber(endpoint) as subscriber:
        broadcaster.publish("policy", {}, {"w": weights})
        weights[:] = 7
        assert (until(lambda: subscriber.latest("policy"))[1]["w"] == 1).all()


def test_weights_that_are_not_finite_or_damaged_are_refused(
    endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    bad = {"w": np.array([1, np.nan])}
    with Broadcaster(endpoint) as b, pytest.raises(ProtocolMismatch, match="'w' must be finite"):
        b.publish("policy", {}, bad)
    publisher = raw(zmq.XPUB)
    publisher.bind(endpoint)
    with Subscriber(endpoint, topics=("policy",)) as subscriber:
        publisher.recv()
        damaged = pack({}, {"w": np.ones(5)}, b"policy\0")
        damaged[-70] ^= 1
        for frame in (damaged, pack({}, {"w": np.array([np.inf])}, b"policy\0"), b"policy\0"):
            before = subscriber.refused
            publisher.send(bytes(frame))
            until(lambda: subscriber.latest("policy") or subscriber.refused > before)  # noqa: B023
        assert subscriber.refused == 3
        publisher.send(bytes(pack({"version": 2}, {}, b"policy\0")))
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 2}


def test_given_weights_are_checked_in_the_background_and_the_next_call_says_so(
    endpoint: str,
) -> None:
    with Broadcaster(endpoint) as b, Subscriber(endpoint) as subscriber:
        b.publish("policy", {"version": 1}, {"w": np.ones(3)}, given=True)
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 1}
        b.publish("policy", {"version": 2}, {"w": np.array([1, np.nan])}, given=True)

        def refused() -> bool:
            try:
                b.publish("base", {}, {}, given=True)
            except ProtocolMismatch as error:
                return "'w' must be finite" in str(error)
            return False

        assert until(refused)
        assert subscriber.latest("policy") is None
        b.publish("policy", {"version": 3}, {"w": np.zeros(3)}, given=True)
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 3}


def test_publish_does_not_wait_for_a_stopped_actor(
    endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    with Broadcaster(endpoint) as broadcaster:
        stuck = raw(zmq.SUB)
        stuck.rcvhwm = 1
        stuck.subscribe(b"policy\0")
        stuck.connect(endpoint)
        weights = {"w": np.zeros(1 << 18)}  # 2 MB
        broadcaster.publish("policy", {}, weights)
        assert stuck.poll(5000)
        times = []
        for _ in range(50):
            start = time.perf_counter()
            broadcaster.publish("policy", {}, weights)
            times.append(time.perf_counter() - start)
        assert np.median(times) < 0.05


def test_a_request_is_answered_and_errors_keep_their_class(endpoint: str) -> None:
    def full(_: dict[str, object]) -> dict[str, object]:
        raise StorageError("disk full while writing checkpoint")

    with RequestServer(endpoint, {"status": lambda p: {"got": p}, "checkpoint": full}) as server:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                server.poll(0.02)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with RequestClient(endpoint) as client:
                assert client.call("status", {"a": [1, "x", None]}) == {
                    "got": {"a": [1, "x", None]}
                }
                with pytest.raises(StorageError, match="disk full"):
                    client.call("checkpoint")
                with pytest.raises(ProtocolMismatch, match=r"'dance'.*checkpoint, status"):
                    client.call("dance")
                with pytest.raises(ProtocolMismatch, match="plain"):
                    client.call("status", {"x": object()})
                assert client.call("status") == {"got": {}}
        finally:
            done.set()
            thread.join()


def test_a_request_gives_up_at_its_deadline_and_says_what_it_waited_for(endpoint: str) -> None:
    with RequestClient(endpoint) as client:
        start = time.monotonic()
        with pytest.raises(LinkTimeout, match=rf"0\.2 s.*'status' at {endpoint}: nobody listens"):
            client.call("status", timeout_s=0.2)
        assert time.monotonic() - start < 1.0
        with RequestServer(endpoint, {"status": lambda p: p}) as server:
            with pytest.raises(LinkTimeout, match="busy"):
                client.call("status", {"n": 1}, timeout_s=0.5)
            timer = threading.Timer(0.1, lambda: [server.poll(1.0) for _ in range(2)])
            timer.start()
            # The late answer to the first question is not taken for that to the second.
            assert client.call("status", {"n": 2}) == {"n": 2}
            timer.join()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("tcp://0.0.0.0:5555", "not on this machine"),
        ("tcp://*:5555", "not on this machine"),
        ("tcp://192.168.1.7:5555", "not on this machine"),
        ("tcp://example.org:5555", "not on this machine"),
        ("tcp://127.0.0.1", "port"),
        ("tcp://127.0.0.1:99999", "port"),
        ("tcp://127.0.0.1:x", "port"),
        ("udp://127.0.0.1:5555", "must be"),
        ("ipc://", "must be"),
        ("ipc://@" + "x" * 120, "107"),
        ("5555", "must be"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused(tmp_path: Path, bad: str, words: str) -> None:
    with Store(tmp_path / "store.db", SPEC) as store, Spool(tmp_path / "spool.db") as spool:
        for make in (
            lambda: StreamReceiver(bad, store, SPEC),
            lambda: StreamSender(bad, spool, Hello.of("arm", spool.session, SPEC)),
            lambda: Broadcaster(bad),
            lambda: Subscriber(bad),
            lambda: RequestServer(bad, {}),
            lambda: RequestClient(bad),
        ):
            with pytest.raises(ConfigError, match=words):
                make()


@pytest.mark.parametrize("kind", ["abstract", "tcp", "file"])
def test_an_address_in_use_is_named_and_its_owner_undisturbed(
    tmp_path: Path, endpoint: str, kind: str
) -> None:
    if kind == "tcp":
        endpoint = f"tcp://127.0.0.1:{free_port()}"
    elif kind == "file":
        endpoint = f"ipc://{tmp_path}/s"
    with RequestServer(endpoint, {"status": lambda p: {"alive": True}}) as server:
        with pytest.raises(ConfigError, match=f"{endpoint}.*in use"):
            RequestServer(endpoint, {})
        with pytest.raises(ConfigError, match=f"{endpoint}.*in use"):
            Broadcaster(endpoint)
        timer = threading.Timer(0.05, lambda: server.poll(2.0))
        timer.start()
        with RequestClient(endpoint) as client:
            assert client.call("status") == {"alive": True}
        timer.join()


def test_closing_leaves_no_descriptor(tmp_path: Path, endpoint: str) -> None:
    def cycle() -> int:
        with (
            Store(tmp_path / "store.db", SPEC) as store,
            StreamReceiver(endpoint, store, SPEC) as receiver,
            Side(tmp_path, endpoint) as actor,
            Broadcaster(endpoint + "b"),
            Subscriber(endpoint + "b"),
            RequestServer(endpoint + "r", {}),
            RequestClient(endpoint + "r"),
        ):
            actor.spool.append(blob(0))
            take(receiver, 1)
        return len(os.listdir("/proc/self/fd"))

    first = cycle()
    assert all(cycle() <= first for _ in range(3))
