"""Decoders of what comes over the network, or out of a store: messages, bundles, rows, labels."""

from __future__ import annotations

import os
import struct
import zlib
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np
from blake3 import blake3
from fuzz_mutate import INTEGERS, Parts, damage
from fuzz_target import Garbage, Target, hold, readable, vary_msgpack
from made_critic import made_critic

from handrail.episode_label import EpisodeLabel, Outcome
from handrail.errors import CheckpointError, ProtocolMismatch
from handrail.link import wire
from handrail.link.array_codec import DIGEST_BYTES, DTYPES, pack, unpack
from handrail.link.label_codec import decode_label, encode_label
from handrail.link.zap import DOMAIN, answer_zap
from handrail.risk_critic.format import (
    HEADER_SIZE,
    RISK_HEADER,
    check_critic,
    pack_critic,
    unpack_critic,
)
from handrail.spec import EnvSpec, slices_of
from handrail.transition import Source, Transition
from robot_env.host.risk_critic_buffer import receive_array

SPEC = EnvSpec(
    "fuzz", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4, images={"wrist": (8, 6, 3)}
)


BODY = 1 + wire.CHECK_BYTES  # [B], before the msgpack of a message


def sealed(message: bytes) -> bool:
    """Return whether a message has this version's mark and a right checksum."""
    return message == wire.add_checksum(message[BODY:])


def seal(data: bytes, hashed: Any = blake3, prefix: bytes = b"") -> bytes:
    """Return a blob with a right checksum, behind a prefix that is not covered by it."""
    body = data[len(prefix) + DIGEST_BYTES :]
    return prefix + hashed(body).digest() + body


def make_row(rng: Random, t: int, spec: EnvSpec = SPEC) -> Transition:
    """Return a row of random numbers."""
    draw = np.random.default_rng(rng.randrange(1 << 32))
    a, b, c, d = draw.normal(size=(4, spec.action)).astype(np.float32)
    state = draw.normal(size=spec.state).astype(np.float32)
    images = {n: draw.integers(0, 256, shape, np.uint8) for n, shape in spec.images.items()}
    source = rng.choice(list(Source))
    return Transition(
        rng.randrange(9), t, source, state, a, b, c, d, t % 3, True, rng.random(),
        success=t % 2 > 0, cost=float(np.float32(rng.random())), images=images,
    )  # fmt: skip


class Message(Target):
    """Header frames: hello, rows, acknowledgements, requests, answers."""

    name, share, refusals = "message", 1800, (ProtocolMismatch,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        hello = wire.Hello("arm", "a" * 36, "fuzz", "0123", "4567", 1, {"a" * 36: 1}, "b" * 36, 2)
        messages = [
            hello, wire.Welcome(1, "b" * 36, 2, {"a" * 36: 7}), wire.Reject(1, "no", True),
            wire.Rows(1, "a" * 36, 8, 1, [320, 320, 97]), wire.Ack(1, "a" * 36, 10), wire.Ping(1),
            wire.Pong(1), wire.Resync(1), wire.Request(5, "status", {"deep": [1, {"a": 2.5}]}),
            wire.Response(5, {"rows": 7, "rate": 0.5}, "", ""),
        ]  # fmt: skip
        self.originals = [(wire.dump(message),) for message in messages]

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        if rng.random() < 0.1:
            return super().make(rng)
        return (wire.add_checksum(vary_msgpack(data[BODY:], rng)),)

    def passed(self, parts: Parts) -> bool:
        (data,) = parts
        return sealed(data) and readable(msgspec.msgpack.decode, data[BODY:])

    def take(self, parts: Parts) -> Any:
        return wire.load(parts[0])

    def verify(self, parts: Parts, value: Any) -> None:
        again = wire.dump(value)
        hold(len(parts[0]) <= wire.MAX_HEADER, "a header over the limit was taken")
        hold(wire.dump(wire.load(again)) == again, "it does not come back")
        for name in ("session", "actor", "task", "kind"):
            hold(len(getattr(value, name, "")) <= 256, f"{name} is longer than a name")
        if isinstance(value, wire.Rows):
            hold(0 <= value.first_seq < 1 << 40 > value.first_retained >= 0, "no number of a row")
            hold(len(value.sizes) <= 1 << 16, "more sizes than rows may be")


class Bundle(Target):
    """Weights and what else travels as named arrays, with its checksum as it came."""

    name, share, refusals = "bundle", 700, (ProtocolMismatch,)
    prefix = b""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        rng = np.random.default_rng(1)
        trees = [
            {"actor/w": rng.normal(size=(5, 3)).astype(np.float32), "n": np.arange(4)},
            {"a": np.zeros((2, 0), np.uint8), "b": np.array(True), "c": np.ones((1, 2, 3), "<f2")},
            {},
        ]
        meta = [{"version": 3, "normaliser_hash": "ab", "reach": 0.5}, {"none": None}, {}]
        self.originals = [
            (bytes(pack(m, t, self.prefix)),) for m, t in zip(meta, trees, strict=True)
        ]

    def passed(self, parts: Parts) -> bool:
        (data,) = parts
        start = len(self.prefix) + DIGEST_BYTES + 4
        if len(data) < start:
            return False
        (length,) = struct.unpack_from("<I", data, start - 4)
        header = data[start : start + length]
        return length <= len(data) - start and readable(msgspec.msgpack.decode, header)

    def take(self, parts: Parts) -> Any:
        return unpack(parts[0])

    def verify(self, parts: Parts, value: Any) -> None:
        hold(parts in self.originals, "a bundle was taken that does not match its checksum")


class SealedBundle(Bundle):
    """The same with a right checksum over whatever is in it."""

    name, share = "bundle sealed", 1300

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        start = len(self.prefix) + DIGEST_BYTES + 4
        if rng.random() < 0.4:
            data = damage(data, rng, [o[0] for o in self.originals], range(start - 4, start))
            return (seal(data, prefix=self.prefix),)
        (length,) = struct.unpack_from("<I", data, start - 4)
        header = vary_msgpack(data[start : start + length], rng)
        begin = -(-(start + length) // 64) * 64
        padding = bytes(-(start + len(header)) % 64)
        body = struct.pack("<I", len(header)) + header + padding + data[begin:]
        return (seal(bytes(start - 4) + body, prefix=self.prefix),)

    def verify(self, parts: Parts, value: Any) -> None:
        meta, arrays = value
        hold(sum(a.nbytes for a in arrays.values()) <= len(parts[0]), "more bytes than came")
        for name, array in arrays.items():
            hold(array.dtype.str in DTYPES and array.ndim <= 8, f"{name}: {array.dtype}")
            hold(not array.flags.writeable, f"{name} can be written")
            hold(max(array.shape, default=0) <= 1 << 30, f"{name}: {array.shape}")
        try:
            again, back = unpack(pack(meta, arrays))
        except ProtocolMismatch as error:
            raise Garbage(f"what was taken can't be packed: {error}") from None
        hold(repr(again) == repr(meta), "its meta data does not come back")
        for name, array in arrays.items():
            hold(array.tobytes() == back[name].tobytes(), f"{name} does not come back")
            hold(array.shape == back[name].shape, f"{name} comes back in another shape")


class LabelBlob(Target):
    """Labels, with their checksum as it came."""

    name, share, refusals = "label", 400, (ProtocolMismatch,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        labels = [
            EpisodeLabel("arm", 3, Outcome.FAILURE),
            EpisodeLabel("\u00e9" * 20, 2**32 - 1, Outcome.ABORT, -0.5),
            EpisodeLabel("x" * 64, 0, Outcome.SUCCESS, 1e9),
        ]  # fmt: skip
        self.originals = [(encode_label(label),) for label in labels]

    def passed(self, parts: Parts) -> bool:
        return 52 < len(parts[0]) <= 116 and parts[0][32:36] == b"HRL1"

    def take(self, parts: Parts) -> Any:
        return decode_label(parts[0])

    def verify(self, parts: Parts, value: Any) -> None:
        hold(parts in self.originals, "a label was taken that does not match its checksum")


class SealedLabel(LabelBlob):
    """The same with a right checksum."""

    name, share = "label sealed", 700

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        others = [o[0] for o in self.originals]
        return (seal(damage(data, rng, others, (32, 36, 37, 38, 40, 44)), sha256),)

    def verify(self, parts: Parts, value: Any) -> None:
        hold(encode_label(value) == parts[0], "the label does not come back")


class CriticArray(Target):
    """Packed risk critics that a client hands over in a descriptor, checksum recomputed or not."""

    name, share, refusals = "critic", 600, (CheckpointError,)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        critics = [made_critic(4, (3,), 2, 70_000), made_critic(6, (3, 2), 1, 2)]
        self.originals = [(pack_critic(critic).tobytes(),) for critic in critics]

    def make(self, rng: Random) -> Parts:
        (data,) = rng.choice(self.originals)
        if rng.random() < 0.4:
            found = np.frombuffer(bytearray(data), "<f4")
            found[rng.randrange(HEADER_SIZE)] = rng.choice([abs(n) % 65536 for n in INTEGERS])
            data = found.tobytes()
        else:
            data = damage(data, rng, [o[0] for o in self.originals], range(0, 4 * HEADER_SIZE, 4))
        return (reseal_critic(data) if rng.random() < 0.8 else data,)

    def passed(self, parts: Parts) -> bool:
        (data,) = parts
        return (
            len(data) % 4 == 0
            and len(data) >= 4 * HEADER_SIZE
            and data[:4] == self.originals[0][0][:4]
        )

    def take(self, parts: Parts) -> Any:
        fd = os.memfd_create("fuzz", os.MFD_CLOEXEC)
        try:
            os.write(fd, parts[0])
            array = receive_array(fd)
        finally:
            os.close(fd)
        check_critic(array)
        return unpack_critic(array)

    def verify(self, parts: Parts, value: Any) -> None:
        array = np.frombuffer(parts[0], np.float32)
        again = unpack_critic(pack_critic(value))
        hold(bool(np.isfinite(array).all()), "a critic is not finite")
        hold(repr(again) == repr(value), "the critic does not come back")
        hold(reseal_critic(parts[0]) == parts[0], "a critic was taken against its checksum")


def reseal_critic(data: bytes) -> bytes:
    """Return a packed critic with a right checksum; what is too short stays as it is."""
    if len(data) < 4 * HEADER_SIZE or len(data) % 4:
        return data
    array = np.frombuffer(bytearray(data), "<f4")
    array[[RISK_HEADER.checksum_high, RISK_HEADER.checksum_low]] = 0.0
    checksum = zlib.crc32(array[HEADER_SIZE:].tobytes(), zlib.crc32(array[:HEADER_SIZE].tobytes()))
    array[[RISK_HEADER.checksum_high, RISK_HEADER.checksum_low]] = divmod(checksum, 65536)
    return array.tobytes()


class Zap(Target):
    """Questions of libzmq about who may come in; nothing but a listed key is let in."""

    name, share = "zap", 200

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.names = {"ab" * 32: "robot"}
        frames = (b"1.0", b"1", DOMAIN, b"10.0.0.7", b"", b"CURVE")
        self.originals = [(*frames, bytes.fromhex("ab" * 32)), (*frames, bytes(32))]

    def make(self, rng: Random) -> Parts:
        parts = list(super().make(rng))
        if rng.random() < 0.2:
            del parts[rng.randrange(len(parts))]
        return tuple(parts)

    def passed(self, parts: Parts) -> bool:
        return len(parts) == 7 and parts[0] == b"1.0" and parts[2] == DOMAIN

    def take(self, parts: Parts) -> Any:
        return answer_zap(list(parts), self.names)

    def verify(self, parts: Parts, value: Any) -> None:
        reply, _ = value
        hold(len(reply) == 6 and reply[0] == b"1.0", "no answer of ZAP")
        listed = len(parts) == 7 and parts[6].hex() in self.names
        named = parts[:1] == (b"1.0",) and parts[2:3] == (DOMAIN,) and parts[5:6] == (b"CURVE",)
        hold((reply[2] == b"200") == (listed and named), f"status {reply[2]!r} is wrong")


TARGETS = (
    Message, Bundle, SealedBundle, LabelBlob, SealedLabel, CriticArray, Zap,
)  # fmt: skip
