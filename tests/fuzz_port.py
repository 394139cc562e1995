"""The open ports: a learner in a process of its own, with and without keys, and an actor's ends.

An input is sent; what came of it shows at the end of a batch, when an actor that behaves has to get
its rows into the store, its weights and its answers, and the store must hold whole rows only.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
import zmq
from fuzz_messages import BODY, SPEC, SealedBundle, SealedRow, make_row, sealed
from fuzz_mutate import Parts, damage
from fuzz_target import Target, hold, readable, vary_msgpack
from made_keys import free_ports

from handrail import wire
from handrail.codec import encode_row
from handrail.errors import Error, ProtocolMismatch
from handrail.keys import files as key_files
from handrail.keys.host import HostKeys
from handrail.spool import Spool
from handrail.transition import Transition
from handrail.transport import RequestClient, StreamSender, Subscriber
from learner.store import Store

_WAIT_S = 20.0  # [s], for an actor that behaves
_FAR = [0, 65536, 2**40 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]  # numbers of rows
_FIRST = struct.Struct(">Q")


class Learner:
    """The process under fire, and an actor that behaves."""

    def __init__(self, folder: Path, keyed: bool) -> None:
        self.folder, self.addresses = folder, free_ports()
        self.host: HostKeys | None = None
        arguments = [str(folder), *self.addresses]
        if keyed:
            sides = {"learner": folder / "learner", "robot": folder / "robot"}
            pairs = {name: key_files.new_pair() for name in sides}
            for name, other in (("learner", "robot"), ("robot", "learner")):
                key_files.write_pair(sides[name], key_files.HOST, pairs[name])
                key_files.write_allowed(sides[name], {pairs[other].public: other})
            self.host, self.learner_key = HostKeys(sides["robot"]), pairs["learner"].public
            arguments.append(str(sides["learner"]))
        self.log = (folder / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("fuzz_server.py")), *arguments],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
        )
        assert self.process.stdout is not None
        hold(self.process.stdout.readline() == "ready\n", f"no learner: {self.words()}")
        self.spool = Spool(folder / "spool.db", retain_bytes=1 << 20)
        hello = wire.Hello.of("honest", self.spool.session, SPEC)
        stream, _, request = self.addresses
        self.sender = StreamSender(stream, self.spool, hello, keys=self.host, answer_s=2.0)
        self.requests = RequestClient(request, keys=self.host)
        self.blob = encode_row(make_row(Random(7), 0), SPEC)
        self.seen = self.refused = 0
        self.begin = self.memory()

    def check(self) -> dict[str, int]:
        """Return rows taken and messages refused since the last check.

        Raises:
            Exception: The learner is gone, or doesn't serve the actor that behaves.
        """
        hold(self.process.poll() is None, f"the learner died: {self.words()}")
        self.spool.append(self.blob)
        try:
            self.sender.drain(_WAIT_S)
        except Error as error:
            raise RuntimeError(f"an actor can't send: {self.words() or error}") from None
        status = self.requests.call("status", timeout_s=_WAIT_S)
        with Subscriber(self.addresses[1], ("policy",), keys=self.host) as weights:
            until = time.monotonic() + _WAIT_S
            while weights.latest("policy") is None:
                hold(time.monotonic() < until and not weights.refused, "no weights came")
                time.sleep(0.002)
        with Store(self.folder / "store.db", SPEC, readonly=True) as store:
            for stored in store.records(self.seen):
                if isinstance(stored.row, Transition):
                    stored.row.validate(SPEC)
        taken = status["cursor"] - self.seen - 1
        refused, self.refused = status["refused"] - self.refused, status["refused"]
        self.seen = status["cursor"]
        return {"accepted": taken, "refused": refused}

    def memory(self) -> int:
        """Return the most memory that the process has used [B]."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])

    def words(self) -> str:
        """Return the last that the process said."""
        self.log.seek(0)
        return self.log.read()[-1500:]

    def close(self) -> None:
        """End it all."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        for owner in ("sender", "requests", "spool"):
            if hasattr(self, owner):
                getattr(self, owner).close()


class Port(Target):
    """Targets that share one way to attack a learner."""

    keyed = False
    deadline_s = 10.0
    kind = zmq.DEALER
    flow = 0  # of stream, broadcast, request

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.context = zmq.Context()
        self.learner: Learner | None = None

    def begin(self) -> Learner:
        """Return a learner that lives, and connect to it."""
        if self.learner is None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(mode=0o700)
            self.learner = Learner(self.folder, self.keyed)
            self.learner.check()
            self.connect(self.learner)
        return self.learner

    def connect(self, learner: Learner) -> None:
        """Connect what sends inputs."""
        self.sock = self.context.socket(self.kind)
        self.sock.linger, self.sock.sndtimeo = 0, int(1e3 * _WAIT_S)
        if learner.host is not None:
            pair = learner.host.view().pair
            self.sock.curve_publickey = bytes.fromhex(pair.public)
            self.sock.curve_secretkey = bytes.fromhex(pair.secret)
            self.sock.curve_serverkey = bytes.fromhex(learner.learner_key)
        self.sock.connect(learner.addresses[self.flow])

    def passed(self, parts: Parts) -> bool:
        return sealed(parts[0]) and readable(msgspec.msgpack.decode, parts[0][BODY:])

    def take(self, parts: Parts) -> Any:
        self.begin()
        self.sock.send_multipart(parts)
        with contextlib.suppress(zmq.Again):
            while True:
                self.sock.recv_multipart(zmq.NOBLOCK)

    def verify(self, parts: Parts, value: Any) -> None:
        """What was sent shows in `settle`."""

    def settle(self) -> dict[str, int]:
        try:
            return self.begin().check()
        except Exception:
            self.stop()  # the next batch has a new one
            raise

    def peak_growth(self) -> int:
        return 0 if self.learner is None else self.learner.memory() - self.learner.begin

    def stop(self) -> None:
        """End the learner and what is connected to it."""
        if self.learner is not None:
            self.learner.close()
            self.learner = None
        if hasattr(self, "sock"):
            self.sock.close(linger=0)

    def close(self) -> None:
        self.stop()
        self.context.term()


class StreamPort(Port):
    """Multipart messages to the stream, by a peer that has said hello; no keys, loopback."""

    name, share, batch = "stream port", 120, 100

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows = SealedRow(folder)
        hello = wire.Hello.of("fuzzer", "f" * 36, SPEC)
        self.hello = msgspec.structs.replace(
            hello, attempt=1, held={f"s{n}": 1 for n in range(1500)}
        )
        self.blobs = [encode_row(make_row(Random(5), t), SPEC) for t in range(4)]
        self.originals = [
            *((wire.dump(m),) for m in (self.hello, wire.Ping(1), wire.Ack(1, "s1", 3))),
            self._batch("s1", 1, self.blobs, True), self._batch("s2", 1, self.blobs, False),
        ]  # fmt: skip
        self.count = 0

    def _batch(self, session: str, first: int, blobs: list[bytes], joined: bool) -> Parts:
        head = wire.dump(wire.Rows(1, session, first, first, [len(blob) for blob in blobs]))
        return (head, b"".join(blobs)) if joined else (head, *blobs)

    def make(self, rng: Random) -> Parts:
        if rng.random() < 0.8:
            blobs = [rng.choice(self.blobs) for _ in range(rng.randrange(1, 4))]
            if rng.random() < 0.5:
                blobs[-1] = self.rows.make(rng)[0]
            first = rng.choice((1, 2, 3, rng.choice(_FAR), rng.choice(_FAR)))
            parts = list(self._batch(f"s{rng.randrange(1510)}", first, blobs, rng.random() < 0.5))
            if rng.random() < 0.3:
                return tuple(parts)
        else:
            parts = list(rng.choice(self.originals))
        if rng.random() < 0.7:
            parts[0] = wire.seal(vary_msgpack(parts[0][BODY:], rng))
        else:
            at = rng.randrange(len(parts))
            parts[at] = damage(parts[at], rng, self.blobs)
        if rng.random() < 0.1:
            parts.insert(rng.randrange(len(parts) + 1), rng.choice(parts))
        return tuple(parts)

    def take(self, parts: Parts) -> Any:
        self.begin()
        self.count += 1
        if self.count % 20 == 1:  # an input may have undone it
            super().take((wire.dump(self.hello),))
        super().take(parts)


class KeyedStreamPort(StreamPort):
    """The same by a listed host, with keys."""

    name, share, keyed = "stream port, keys", 60, True


class RequestPort(Port):
    """Requests, in one frame or more."""

    name, share, batch, flow = "request port", 100, 100, 2

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        asks = [wire.Ask(1, "status", {}), wire.Ask(2, "no such", {"a": [1, {"b": None}]})]
        self.originals = [(wire.dump(ask),) for ask in asks]

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        data = wire.seal(vary_msgpack(data[BODY:], rng)) if rng.random() < 0.8 else b""
        data = data or super().make(rng)[0]
        return (data, data) if rng.random() < 0.05 else (data,)


class BroadcastPort(Port):
    """Subscriptions, as they come to the broadcaster."""

    name, share, batch, flow, kind = "broadcast port", 50, 50, 1, zmq.XSUB

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.originals = [(b"\x01policy\0",), (b"\x00policy\0",), (b"\x01base\0",)]

    def passed(self, parts: Parts) -> bool:
        return parts[0][:1] in (b"\0", b"\1")


def greeting(mechanism: bytes) -> bytes:
    """Return what a ZMTP 3.1 connection begins with."""
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    """Return a frame of ZMTP: 1 more, 2 long, 4 a command."""
    if len(body) > 255:
        return bytes([flags | 2]) + _FIRST.pack(len(body)) + body
    return bytes([flags, len(body)]) + body


class RawPort(Port):
    """Bytes of ZMTP on a TCP connection to the stream; no keys, loopback."""

    name, share, batch = "tcp port", 100, 50

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
        ready += b"\x08Identity" + struct.pack(">I", 3) + b"raw"
        head = greeting(b"NULL") + frame(ready, 4)
        blob = encode_row(make_row(Random(6), 0), SPEC)
        said = wire.Hello.of("raw", "r" * 36, SPEC)
        hello = wire.dump(msgspec.structs.replace(said, held={"r" * 36: 1}))
        rows = wire.dump(wire.Rows(0, "r" * 36, 1, 1, [len(blob)]))
        self.originals = [
            (head + frame(hello) + frame(rows, 1) + frame(blob),),
            (head + frame(b"\x04PING\0\x0a" + b"abc", 4) + frame(hello, 1) * 3 + frame(b""),),
            (head,),
        ]

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        others = [original[0] for original in self.originals]
        if rng.random() < 0.6:  # behind the greeting, which every bit of is looked at
            return (data[:64] + damage(data[64:], rng, others, (0, 1, 2, 10, 40)),)
        return (damage(data, rng, others, (0, 9, 10, 11, 12, 64, 65)),)

    def connect(self, learner: Learner) -> None:
        parts = urlsplit(learner.addresses[self.flow])
        self.where = (parts.hostname or "", parts.port or 0)

    def passed(self, parts: Parts) -> bool:
        (data,) = parts
        return data[:1] == b"\xff" and data[9:10] == b"\x7f" and data[12:16] in (b"NULL", b"CURV")

    def take(self, parts: Parts) -> Any:
        self.begin()
        with socket.create_connection(self.where, 5.0) as sock, contextlib.suppress(OSError):
            sock.sendall(parts[0])
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass


class KeyedRawPort(RawPort):
    """Bytes of ZMTP and CURVE, replayed from a listed host's connection; nothing may come in."""

    name, share, keyed = "tcp port, keys", 50, True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.plain = self.originals
        self.originals = [(self._record(),), *self.plain]
        self.originals += [(self.originals[0][0][:64] + self.plain[0][0][64:],)]
        self.stop()  # the record is of another learner's life: its cookies are worth nothing

    def _record(self) -> bytes:
        """Return what a listed host sends from its greeting to its first row."""
        learner = self.begin()
        found = bytearray()
        with socket.create_server(("127.0.0.1", 0)) as middle, contextlib.ExitStack() as stack:
            thread = threading.Thread(target=_relay, args=(middle, self.where, found), daemon=True)
            thread.start()
            sock = stack.enter_context(self.context.socket(zmq.DEALER))
            sock.linger = 0
            assert learner.host is not None
            pair = learner.host.view().pair
            sock.curve_publickey = bytes.fromhex(pair.public)
            sock.curve_secretkey = bytes.fromhex(pair.secret)
            sock.curve_serverkey = bytes.fromhex(learner.learner_key)
            sock.connect(f"tcp://127.0.0.1:{middle.getsockname()[1]}")
            sock.send(wire.dump(wire.Hello.of("recorded", "r" * 36, SPEC)))
            hold(bool(sock.poll(int(1e3 * _WAIT_S))), "nothing to record")
            sock.close()
            thread.join(5.0)
        return bytes(found)

    def settle(self) -> dict[str, int]:
        found = super().settle()
        hold(found == {"accepted": 0, "refused": 0}, f"something came in without a key: {found}")
        return found


def _relay(middle: socket.socket, where: tuple[str, int], found: bytearray) -> None:
    """Carry bytes between a client and the learner; keep the client's."""
    client, _ = middle.accept()
    with client, socket.create_connection(where) as server:
        back = threading.Thread(target=_carry, args=(server, client, bytearray()), daemon=True)
        back.start()
        _carry(client, server, found)
        back.join(1.0)


def _carry(source: socket.socket, sink: socket.socket, found: bytearray) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            found += data
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


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
        self.client = RequestClient(answers)
        self.subscriber = Subscriber(weights, ("policy",))
        hold(bool(self.weights.poll(5000)), "no subscription")
        self.bundles = TopicBundle(folder)
        self.identity, self.attempt = b"", 0
        self._hear()
        welcome = wire.Welcome(1, "b" * 36, 2, {self.session: 0})
        messages = [
            welcome, wire.Ack(1, self.session, 1), wire.Pong(1), wire.Again(1),
            wire.Refuse(1, "no"), wire.Answer(1, {"rows": 3}),
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
            return kind, wire.seal(vary_msgpack(data[BODY:], rng))
        return kind, damage(data, rng, [o[1] for o in self.originals])

    def passed(self, parts: Parts) -> bool:
        kind, data = parts
        return kind == b"w" or (sealed(data) and readable(msgspec.msgpack.decode, data[BODY:]))

    def take(self, parts: Parts) -> Any:
        kind, data = parts
        if kind == b"s":
            self._hear()
            self.stream.send_multipart([self.identity, _numbered(data, self.attempt)])
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
        while self.stream.poll(0 if self.attempt else 5000):
            self.identity, first, *_ = self.stream.recv_multipart()
            message = wire.load(first)
            if isinstance(message, wire.Hello):
                self.attempt = message.attempt

    def verify(self, parts: Parts, value: Any) -> None:
        if parts[0] == b"w":
            for name, array in value[1].items():
                hold(array.dtype.kind != "f" or bool(np.isfinite(array).all()), f"{name}: a NaN")
        else:
            hold(isinstance(value, dict), "no answer")

    def settle(self) -> dict[str, int]:
        hold(not self.died, f"a thread died: {self.died[:1]}")
        hold(self.sender._thread.is_alive(), "the sender's thread is gone")
        until = time.monotonic() + _WAIT_S
        while not self.sender.status().connected:
            hold(time.monotonic() < until, "the sender never takes a right welcome")
            self._hear()
            welcome = wire.Welcome(self.attempt, "b" * 36, 2, {self.session: 0})
            self.stream.send_multipart([self.identity, wire.dump(welcome)])
            time.sleep(0.01)
        return {}

    def close(self) -> None:
        threading.excepthook = self.hook
        for owner in (self.sender, self.client, self.subscriber, self.spool):
            owner.close()
        self.context.destroy(linger=0)


def _numbered(data: bytes, number: int, field: str = "attempt") -> bytes:
    """Return a message with the number that its receiver waits for, if it can have one."""
    with contextlib.suppress(ValueError, TypeError, RecursionError, OverflowError):
        table = msgspec.msgpack.decode(data[BODY:])
        if isinstance(table, dict) and table.get(field) == 1:
            table[field] = number
            return wire.seal(msgspec.msgpack.encode(table))
    return data


TARGETS = (
    StreamPort, KeyedStreamPort, RequestPort, BroadcastPort, RawPort, KeyedRawPort, Answers,
)  # fmt: skip
