"""What the stream makes of peers and messages that are wrong, damaged or late."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from made_link import SPEC, Side, blob, take, until

from handrail.errors import ProtocolMismatch
from handrail.link import wire
from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.wire import Hello
from handrail.storage.spool import Spool
from learner.store.store import Store

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


@contextlib.contextmanager
def learner_and_dealer(
    folder: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> Iterator[tuple[Store, StreamReceiver, zmq.Socket]]:
    """Yield a learner's store and receiver, and a bare socket that is connected to it."""
    with (
        Store(folder / "store.db", SPEC) as store,
        StreamReceiver(endpoint, store, SPEC) as receiver,
    ):
        dealer = raw(zmq.DEALER)
        dealer.connect(endpoint)
        yield store, receiver, dealer


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
    with learner_and_dealer(tmp_path, endpoint, raw) as (_, receiver, newer):
        newer.send(bytes([wire.PROTOCOL + 1]) + b"whatever comes then")
        until(lambda: receiver.poll(0.02) or newer.poll(1))
        answer = wire.load(newer.recv())
        assert isinstance(answer, wire.Reject)
        assert f"protocol {wire.PROTOCOL + 1}, this side {wire.PROTOCOL}" in answer.reason
    learner = raw(zmq.ROUTER)
    learner.bind(endpoint)
    with Side(tmp_path, endpoint) as actor:
        identity, _ = learner.recv_multipart()
        learner.send_multipart([identity, bytes([wire.PROTOCOL + 1]) + b"newer"])
        until(lambda: actor.sender.status().refusal)
        with pytest.raises(ProtocolMismatch, match="upgrade the older"):
            actor.sender.check()


def test_a_row_that_was_damaged_on_the_way_is_refused_and_named(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    with learner_and_dealer(tmp_path, endpoint, raw) as (store, receiver, actor):
        hello = Hello("arm", "s", "toy", SPEC.task_hash, SPEC.hash, 1, {"s": 1})
        damaged = bytearray(blob(1))
        damaged[80] ^= 1
        sizes = [len(blob(0)), len(damaged)]
        actor.send_multipart([wire.dump(hello)])
        actor.send_multipart([wire.dump(wire.Rows(1, "s", 1, 1, sizes)), blob(0), damaged])
        until(lambda: receiver.poll(0.02) or receiver.refused)
        answers = [wire.load(actor.recv()) for _ in range(2)]
        assert isinstance(answers[0], wire.Welcome)
        assert isinstance(answers[1], wire.Reject)
        assert re.search(r"row 2 of actor 'arm'.*checksum", answers[1].reason)
        assert len(store) == 0  # none of the batch


headers = st.binary(max_size=60) | st.builds(
    lambda message, place, byte: (
        message[: place % len(message)] + bytes([byte]) + message[place % len(message) + 1 :]
    ),
    st.sampled_from(
        [
            wire.dump(Hello("a", "s", "toy", "0123", SPEC.hash, 1, {"s": 1})),
            wire.dump(wire.Rows(1, "s", 1, 1, [100])),
            wire.dump(wire.Ping(1)),
            wire.dump(wire.Request(1, "status", {})),
        ]
    ),
    st.integers(0, 200),
    st.integers(0, 255),
)


@given(headers)
@settings(max_examples=500)
def test_a_mutated_header_is_a_message_or_refused(frame: bytes) -> None:
    for sent in (frame, wire.add_checksum(frame[1 + wire.CHECK_BYTES :])):
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
            [wire.dump(wire.Request(1, "x", {}))],
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


@pytest.mark.slow
def test_no_bit_of_a_header_that_was_changed_on_the_way_moves_a_row(
    tmp_path: Path, endpoint: str, raw: Callable[[int], zmq.Socket]
) -> None:
    """Rows carry checksums of their own; what number they have is in the header alone."""
    with learner_and_dealer(tmp_path, endpoint, raw) as (store, receiver, actor):
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
        assert [(a.seq, a.row.t) for a in store.labelled_rows()] == [
            (n, n - 1) for n in range(1, 33)
        ]
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
        welcome = wire.Welcome(hello.handshake_id, "store", 0, {session: 0})
        learner.send_multipart([identity, wire.dump(welcome)])
        rows = wire.load(learner.recv_multipart()[1])
        assert isinstance(rows, wire.Rows)
        ack = wire.dump(wire.Ack(rows.handshake_id, session, 1))
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
            if isinstance(hello, Hello) and hello.handshake_id not in attempts:
                attempts.append(hello.handshake_id)
                welcome = wire.Welcome(hello.handshake_id, "store", 0, {session: 0})
                learner.send_multipart([identity, wire.dump(welcome)])
        until(lambda: actor.sender.status().connected)
        learner.send_multipart([identity, wire.dump(wire.Ack(attempts[0], session, 3))])
        learner.send_multipart([identity, wire.dump(wire.Ack(attempts[1], session, 2))])
        until(lambda: actor.sender.status().acked)
        assert actor.sender.status().acked == 2
        assert actor.spool.depth == 1
