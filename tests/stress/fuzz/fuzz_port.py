"""ZeroMQ messages to a learner's three ports, with and without keys."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import msgspec
import zmq
from fuzz_learner import Port
from fuzz_messages import BODY, SPEC, make_row
from fuzz_mutate import Parts, damage
from fuzz_rows import SealedRow
from fuzz_target import vary_msgpack

from handrail.link import wire
from handrail.link.transition_codec import encode_row

_FAR = [0, 65536, 2**40 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]  # numbers of rows


class StreamPort(Port):
    """Multipart messages to the stream, by a peer that has said hello; no keys, loopback."""

    name, share, batch = "stream port", 120, 100

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.rows = SealedRow(folder)
        hello = wire.Hello.of("fuzzer", "f" * 36, SPEC)
        self.hello = msgspec.structs.replace(
            hello, handshake_id=1, first_retained={f"s{n}": 1 for n in range(1500)}
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
            parts[0] = wire.add_checksum(vary_msgpack(parts[0][BODY:], rng))
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
        asks = [wire.Request(1, "status", {}), wire.Request(2, "no such", {"a": [1, {"b": None}]})]
        self.originals = [(wire.dump(ask),) for ask in asks]

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        data = wire.add_checksum(vary_msgpack(data[BODY:], rng)) if rng.random() < 0.8 else b""
        data = data or super().make(rng)[0]
        return (data, data) if rng.random() < 0.05 else (data,)


class KeyedRequestPort(RequestPort):
    """The same by a listed host, with keys."""

    name, share, keyed = "request port, keys", 50, True


class BroadcastPort(Port):
    """Subscriptions, as they come to the broadcaster."""

    name, share, batch, flow, kind = "broadcast port", 50, 50, 1, zmq.XSUB

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.originals = [(b"\x01policy\0",), (b"\x00policy\0",), (b"\x01base\0",)]

    def passed(self, parts: Parts) -> bool:
        return parts[0][:1] in (b"\0", b"\1")


class KeyedBroadcastPort(BroadcastPort):
    """The same by a listed host, with keys."""

    name, share, keyed = "broadcast port, keys", 25, True


TARGETS = (
    StreamPort,
    KeyedStreamPort,
    RequestPort,
    KeyedRequestPort,
    BroadcastPort,
    KeyedBroadcastPort,
)
