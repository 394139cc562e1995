"""An actor's ends, given damaged answers by a learner."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
import zmq
from fuzz_learner import WAIT_S
from fuzz_messages import BODY, SPEC, SealedBundle, sealed
from fuzz_mutate import Parts, damage
from fuzz_target import Target, hold, readable, vary_msgpack

from handrail.errors import Error, ProtocolMismatch
from handrail.link import wire
from handrail.link.rpc import RpcClient
from handrail.link.sender import StreamSender
from handrail.link.weights_pubsub import WeightsSubscriber
from handrail.storage.spool import Spool


class TopicBundle(SealedBundle):
    """Weights as they are published."""

    prefix = b"policy\0"


class Answers(Target):
    """What a learner's sockets say to an actor: welcomes, acknowledgements, answers, weights."""

    name, share, batch, deadline_s = "actor's ends", 25, 50, 10.0
    refusals = (Error,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.context = zmq.Context()
        self.stream, self.answers = (self.context.socket(zmq.ROUTER) for _ in range(2))
        self.weights = self.context.socket(zmq.XPUB)
        ends = [sock.bind_to_random_port("tcp://127.0.0.1") for sock in self.socks]
        stream, answers, weights = (f"tcp://127.0.0.1:{port}" for port in ends)
        self.spool = Spool(folder / "spool.db", retain_bytes=1 << 20)
        self.session = self.spool.session
        hello = wire.Hello.of("arm", self.session, SPEC)
        self.died: list[Any] = []
        self.hook, threading.excepthook = threading.excepthook, self.died.append
        self.sender = StreamSender(stream, self.spool, hello, answer_s=1.0)
        self.client = RpcClient(answers)
        self.subscriber = WeightsSubscriber(weights, ("policy",))
        hold(bool(self.weights.poll(5000)), "no subscription")
        self.bundles = TopicBundle(folder)
        self.identity, self.handshake_id = b"", 0
        self._hear()
        welcome = wire.Welcome(1, "b" * 36, 2, {self.session: 0})
        messages = [
            welcome, wire.Ack(1, self.session, 1), wire.Pong(1), wire.Resync(1),
            wire.Reject(1, "no"), wire.Response(1, {"rows": 3}),
        ]  # fmt: skip
        self.originals = [(b"s" if n < 5 else b"a", wire.dump(m)) for n, m in enumerate(messages)]
        self.originals += [(b"w", original[0]) for original in self.bundles.originals]

    @property
    def socks(self) -> tuple[zmq.Socket, ...]:
        """The fake learner's sockets."""
        return self.stream, self.answers, self.weights

    def make(self, rng: Random) -> Parts:
        kind, data = rng.choice(self.originals)
        if kind == b"w":
            return kind, self.bundles.make(rng)[0]
        if rng.random() < 0.8:
            return kind, wire.add_checksum(vary_msgpack(data[BODY:], rng))
        return kind, damage(data, rng, [o[1] for o in self.originals])

    def passed(self, parts: Parts) -> bool:
        kind, data = parts
        return kind == b"w" or (sealed(data) and readable(msgspec.msgpack.decode, data[BODY:]))

    def take(self, parts: Parts) -> Any:
        kind, data = parts
        if kind == b"s":
            self._hear()
            self.stream.send_multipart([self.identity, _numbered(data, self.handshake_id)])
            return None
        if kind == b"w":
            return self._publish(data)
        caller = threading.Thread(target=self._reply, args=(data,), daemon=True)
        caller.start()
        try:
            return self.client.call("status", timeout_s=0.05)
        finally:
            caller.join()

    def _publish(self, data: bytes) -> Any:
        refused = self.subscriber.refused
        before = self.subscriber._last.get("policy")
        self.weights.send(data)
        until = time.monotonic() + 5.0
        while time.monotonic() < until:
            found = self.subscriber.latest("policy")
            if found is not None:
                return found
            if self.subscriber.refused > refused or before == data[7:39]:
                raise ProtocolMismatch("refused, or the same again")
            time.sleep(0)
        raise TimeoutError("a message never came")

    def _reply(self, data: bytes) -> None:
        if self.answers.poll(1000):
            identity, frame = self.answers.recv_multipart()
            with contextlib.suppress(ProtocolMismatch):
                ask = wire.load(frame)
                data = _numbered(data, getattr(ask, "id", 0), "id")
            self.answers.send_multipart([identity, data])

    def _hear(self) -> None:
        """Take in what the actor has said, and know its newest hello's number."""
        while self.stream.poll(0 if self.handshake_id else 5000):
            self.identity, first, *_ = self.stream.recv_multipart()
            message = wire.load(first)
            if isinstance(message, wire.Hello):
                self.handshake_id = message.handshake_id

    def verify(self, parts: Parts, value: Any) -> None:
        if parts[0] == b"w":
            for name, array in value[1].items():
                hold(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{name}: a NaN")
        else:
            hold(isinstance(value, dict), "no answer")

    def settle(self) -> dict[str, int]:
        hold(not self.died, f"a thread died: {self.died[:1]}")
        hold(self.sender._thread.is_alive(), "the sender's thread is gone")
        until = time.monotonic() + WAIT_S
        while not self.sender.status().connected:
            hold(time.monotonic() < until, "the sender never takes a right welcome")
            self._hear()
            welcome = wire.Welcome(self.handshake_id, "b" * 36, 2, {self.session: 0})
            self.stream.send_multipart([self.identity, wire.dump(welcome)])
            time.sleep(0.01)
        return {}

    def close(self) -> None:
        threading.excepthook = self.hook
        for owner in (self.sender, self.client, self.subscriber, self.spool):
            owner.close()
        self.context.destroy(linger=0)


def _numbered(data: bytes, number: int, field: str = "handshake_id") -> bytes:
    """Return a message with the number that its receiver waits for, if it can have one."""
    with contextlib.suppress(ValueError, TypeError, RecursionError, OverflowError):
        table = msgspec.msgpack.decode(data[BODY:])
        if isinstance(table, dict) and table.get(field) == 1:
            table[field] = number
            return wire.add_checksum(msgspec.msgpack.encode(table))
    return data


TARGETS = (Answers,)
