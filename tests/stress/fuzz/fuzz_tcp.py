"""Bytes on a TCP connection to a learner's port, also what a host with a key once said."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec
import zmq
from fuzz_learner import WAIT_S, Learner, Port
from fuzz_messages import SPEC, make_row
from fuzz_mutate import Parts, damage
from fuzz_target import hold

from handrail.link import wire
from handrail.link.transition_codec import encode_row

_FIRST = struct.Struct(">Q")


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
        hello = wire.dump(msgspec.structs.replace(said, first_retained={"r" * 36: 1}))
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
            pair = learner.host.snapshot().pair
            sock.curve_publickey = bytes.fromhex(pair.public)
            sock.curve_secretkey = bytes.fromhex(pair.secret)
            sock.curve_serverkey = bytes.fromhex(learner.learner_key)
            sock.connect(f"tcp://127.0.0.1:{middle.getsockname()[1]}")
            sock.send(wire.dump(wire.Hello.of("recorded", "r" * 36, SPEC)))
            hold(bool(sock.poll(int(1e3 * WAIT_S))), "nothing to record")
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


TARGETS = (
    RawPort,
    KeyedRawPort,
)
