"""The stream over real sockets: rows once and in order."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from made_link import SPEC, Side, blob, free_port, make_row, take, until

from handrail import wire
from handrail.codec import encode_row
from handrail.errors import LinkTimeout, ProtocolMismatch, StorageError
from handrail.spool import Spool
from handrail.transport import (
    StreamReceiver,
    StreamSender,
)
from handrail.wire import Hello
from learner.store import Store

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


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
    for sent in (frame, wire.seal(frame[1 + wire.CHECK_BYTES :])):
        with contextlib.suppress(ProtocolMismatch):
            wire.load(sent)


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


def test_no_bit_of_a_header_that_was_changed_on_the_way_moves_a_row(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    """Rows carry checksums of their own; what number they have is in the header alone."""
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        actor = raw(zmq.DEALER)
        actor.connect(endpoint)
        hello = Hello("arm", "s" * 36, "toy", SPEC.task_hash, SPEC.hash, 1, {"s" * 36: 1})
        body = [blob(t) for t in range(40)]
        rows = [wire.dump(wire.Rows(1, "s" * 36, 1, 1, [len(b) for b in body[:32]]))]
        actor.send_multipart([wire.dump(hello)])
        actor.send_multipart([*rows, b"".join(body[:32])])
        take(receiver, 32)
        header = wire.dump(wire.Rows(1, "s" * 36, 33, 1, [len(b) for b in body[32:]]))
        for bit in range(8 * len(header)):
            changed = bytearray(header)
            changed[bit // 8] ^= 1 << bit % 8
            actor.send_multipart([changed, b"".join(body[32:])])
            actor.send_multipart([wire.dump(hello)])
        actor.send_multipart([wire.dump(wire.Ping(1))])
        answers: list[wire.Message] = []
        while not any(isinstance(answer, wire.Pong) for answer in answers):
            until(lambda: receiver.poll(0.01) or actor.poll(0))
            while actor.poll(0):
                answers.append(wire.load(actor.recv()))
        assert [(a.seq, a.row.t) for a in store.arrivals()] == [(n, n - 1) for n in range(1, 33)]
        assert receiver.missing == 0


def test_an_answer_that_was_changed_on_the_way_is_one_that_did_not_come(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    learner = raw(zmq.ROUTER)
    learner.bind(endpoint)
    with Side(tmp_path, endpoint, answer_s=0.5) as actor:
        for t in range(3):
            actor.spool.append(blob(t))
        identity, frame = learner.recv_multipart()
        hello = wire.load(frame)
        assert isinstance(hello, Hello)
        session = actor.spool.session
        welcome = wire.Welcome(hello.attempt, "store", 0, {session: 0})
        learner.send_multipart([identity, wire.dump(welcome)])
        rows = wire.load(learner.recv_multipart()[1])
        assert isinstance(rows, wire.Rows)
        ack = wire.dump(wire.Ack(rows.attempt, session, 1))
        for bit in range(8 * len(ack)):
            changed = bytearray(ack)
            changed[bit // 8] ^= 1 << bit % 8
            if changed[0] == ack[0]:  # another version of the protocol is told
                learner.send_multipart([identity, changed])
        learner.send_multipart([identity, ack])
        until(lambda: actor.sender.status().acked)
        assert actor.sender.status().acked == 1
        actor.sender.check()


def test_an_ack_of_an_earlier_hello_says_nothing_about_the_store_that_is(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    """A learner stores, dies, and comes back with an older store; only then its answer comes."""
    learner = raw(zmq.ROUTER)
    learner.bind(endpoint)
    with Side(tmp_path, endpoint, answer_s=0.3) as actor:
        session = actor.spool.session
        for t in range(3):
            actor.spool.append(blob(t))
        actor.spool.flush(10.0)
        attempts: list[int] = []
        identity = b""
        deadline = time.monotonic() + 20
        while len(attempts) < 2:
            assert time.monotonic() < deadline
            identity, frame, *_ = learner.recv_multipart()
            hello = wire.load(frame)
            if isinstance(hello, Hello) and hello.attempt not in attempts:
                attempts.append(hello.attempt)
                welcome = wire.Welcome(hello.attempt, "store", 0, {session: 0})
                learner.send_multipart([identity, wire.dump(welcome)])
        until(lambda: actor.sender.status().connected)
        learner.send_multipart([identity, wire.dump(wire.Ack(attempts[0], session, 3))])
        learner.send_multipart([identity, wire.dump(wire.Ack(attempts[1], session, 2))])
        until(lambda: actor.sender.status().acked)
        assert actor.sender.status().acked == 2
        assert actor.spool.depth == 1
