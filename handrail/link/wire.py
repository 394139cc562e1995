"""The messages between actor and learner, and the rules for reading them.

A message is one byte of protocol version, a checksum and a msgpack header, then perhaps frames of
rows. The version comes first so that peers of different versions can tell each other so. Rows have
checksums of their own; what is said about them, above all their numbers, has that of the header.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from blake3 import blake3

from handrail.errors import CorruptMessage, ProtocolMismatch
from handrail.spec import EnvSpec

PROTOCOL = 5  # [-], changes when an older peer could misread a message
MAX_HEADER = 1 << 20  # [B], a longer header is refused unread
CHECK_BYTES = 8  # [B], of the checksum, BLAKE3 cut short: against accidents, keys are for the rest
SEPARATE_FRAME_BYTES = (
    1 << 16
)  # [B], a row of this size is a frame by itself: joining would cost more

# What a peer may call things and count to: bounded before it is logged, stored or sent back.
Name: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]
# A row's number, as many bits as a spool has for it; an epoch
Seq: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Sizes: TypeAlias = Annotated[list[int], msgspec.Meta(max_length=1 << 16)]


class Hello(msgspec.Struct, tag="hello", frozen=True, forbid_unknown_fields=True):
    """Who an actor is and what it runs; the first message of every connection."""

    actor: Name  # name of the actor
    session: Name  # UUID of the actor's process
    task: Name  # name of the task
    task_hash: Name  # what defines the task
    spec_hash: Name  # shapes of observation and action
    handshake_id: int = 0  # [-], counts hellos of a sender; responses and rows carry it
    first_retained: dict[Name, int] = {}  # session -> first seq that the spool still holds
    store: Name = ""  # UUID of the store that was served last, "" if none was
    epoch: Seq = 0  # [-], of that store

    @classmethod
    def of(cls, actor: str, session: str, spec: EnvSpec) -> Hello:
        """Return the hello of an actor that runs this spec."""
        return cls(actor, session, spec.task, spec.task_hash, spec.hash)


class Welcome(msgspec.Struct, tag="welcome", frozen=True, forbid_unknown_fields=True):
    """The learner takes rows; says which it has."""

    handshake_id: int
    store: Name  # UUID of the store
    epoch: Seq  # [-], changes when the store was restored from a backup
    last_durable: dict[Name, Seq]  # session -> highest seq that is durable in the store


class Reject(msgspec.Struct, tag="reject", frozen=True, forbid_unknown_fields=True):
    """The learner takes nothing from this actor, and why."""

    handshake_id: int
    reason: str
    duplicate_actor: bool = False  # only because another actor of this name is connected; ask again


class Rows(msgspec.Struct, tag="rows", frozen=True, forbid_unknown_fields=True):
    """Consecutive rows of one session; the frames behind it hold one or more whole rows each."""

    handshake_id: int
    session: Name
    first_seq: Seq  # [-], of the first row
    first_retained: Seq  # [-], first seq of this session that the spool still holds
    sizes: Sizes  # [B], of each row


class Ack(msgspec.Struct, tag="ack", frozen=True, forbid_unknown_fields=True):
    """Everything of a session up to `seq` is durable in the store."""

    handshake_id: int
    session: Name
    seq: Seq


class Ping(msgspec.Struct, tag="ping", frozen=True, forbid_unknown_fields=True):
    """Are you there? The answer is a `Pong`."""

    handshake_id: int


class Pong(msgspec.Struct, tag="pong", frozen=True, forbid_unknown_fields=True):
    """Yes."""

    handshake_id: int


class Resync(msgspec.Struct, tag="resync", frozen=True, forbid_unknown_fields=True):
    """I don't know you, or rows are missing: say hello again."""

    handshake_id: int


class Request(msgspec.Struct, tag="request", frozen=True, forbid_unknown_fields=True):
    """A request."""

    id: int
    kind: Name
    payload: dict[str, Any]


class Response(msgspec.Struct, tag="response", frozen=True, forbid_unknown_fields=True):
    """The answer to a request; `error` is empty when it succeeded."""

    id: int
    payload: dict[str, Any]
    error: str = ""
    error_kind: str = ""  # name of a class in handrail.errors


Message: TypeAlias = (
    Hello | Welcome | Reject | Rows | Ack | Ping | Pong | Resync | Request | Response
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)
_VERSION = bytes([PROTOCOL])


def dump(message: Message) -> bytes:
    """Return a message's header frame.

    Raises:
        ProtocolMismatch: A payload holds something that isn't a plain value.
    """
    try:
        return add_checksum(_encoder.encode(message))
    except (TypeError, ValueError, RecursionError) as error:
        raise ProtocolMismatch(f"a payload must hold plain values only: {error}") from None


def add_checksum(header: bytes) -> bytes:
    """Return a header with the version and the checksum before it."""
    return _VERSION + blake3(header).digest(length=CHECK_BYTES) + header


def load(frame: bytes | memoryview) -> Message:
    """Return the message in a header frame.

    Raises:
        ProtocolMismatch: Another protocol version, or not a message.
        CorruptMessage: It was changed on its way.
    """
    if not 1 < len(frame) <= MAX_HEADER:
        raise ProtocolMismatch(f"a header must have 2 to {MAX_HEADER} bytes, got {len(frame)}")
    if frame[0] != PROTOCOL:
        raise ProtocolMismatch(
            f"the peer speaks link protocol {frame[0]}, this side {PROTOCOL}; upgrade the older one"
        )
    start = 1 + CHECK_BYTES
    header = memoryview(frame)[start:]
    if blake3(header).digest(length=CHECK_BYTES) != frame[1:start]:
        raise CorruptMessage(f"a header of {len(frame)} B does not match its checksum")
    try:
        return _decoder.decode(header)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ProtocolMismatch(f"not a message of the link: {error}") from None


def stale_store(hello: Hello, store: str, epoch: int) -> str:
    """Return why this store may not serve an actor that has served a newer one; "" if it may."""
    if hello.store != store or hello.epoch <= epoch:
        return ""
    return (
        f"this learner's store {store} is of epoch {epoch}, actor {hello.actor!r} has sent rows to "
        f"epoch {hello.epoch} of it, which a restore or repair made: this is the superseded copy; "
        "stop this learner, or put the copy in place by `handrail data restore`"
    )


def spec_mismatch(hello: Hello, spec: EnvSpec) -> str:
    """Return why rows of this actor can't be taken, naming both sides' values; "" if they can."""
    pairs = {
        "task": (hello.task, spec.task),
        "task hash": (hello.task_hash, spec.task_hash),
        "spec hash": (hello.spec_hash, spec.hash),
    }
    wrong = [
        f"{name}: actor {given!r}, learner {right!r}"
        for name, (given, right) in pairs.items()
        if given != right
    ]
    if not wrong:
        return ""
    return f"actor {hello.actor!r} and learner disagree on {'; '.join(wrong)}; use the same config"
