"""The learner's end of the stream: rows of many actors into a durable store, then the answer.

A batch is decoded and checked against the spec, stored in one transaction with whatever else has
arrived, and only then acknowledged. Rows of a session are taken strictly in order; what comes early
or twice is not stored, and the sender is told where to go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import zmq

from handrail.errors import ProtocolMismatch
from handrail.keys.host_keys import HostKeys
from handrail.link.array_codec import Buffer
from handrail.link.curve import CurveServer
from handrail.link.endpoint import PEER_TIMEOUT_S, new_socket
from handrail.link.record_codec import Record, decode_record, sizes_fit
from handrail.link.tombstone import CORRUPT_ROW
from handrail.link.transition_codec import row_bytes
from handrail.link.wire import (
    Ack,
    Hello,
    Message,
    Ping,
    Pong,
    Reject,
    Resync,
    Rows,
    Welcome,
    dump,
    load,
    spec_mismatch,
    stale_store,
)
from handrail.rate_limit import RateLimit, TokenBuckets
from handrail.spec import EnvSpec

log = logging.getLogger(__name__)

_MAX_PEERS = 1024  # [-], connections that are remembered; a forgotten one says hello again
_MAX_SESSIONS = 4096  # [-], sessions in one hello
_MAX_FRAME = 4 << 20  # [B], of a message; senders keep to a quarter of it unless one row is longer
_QUEUE = 64  # [messages], of one connection that wait to be taken; then TCP holds the rest back
_MESSAGES = RateLimit(5_000.0, 20_000.0)  # of one host [messages/s, messages]
_BYTES = RateLimit(2e9, 4e9)  # of one host [B/s, B]: more than a 10 Gbit/s network brings
_POLL_ROWS = 16384  # [rows], stored in one transaction at most, about
_POLL_BYTES = 64 << 20  # [B], stored in one transaction at most, about


# Session, seq, blob and what it holds: None for a row that the actor's disk has damaged
Staged: TypeAlias = "tuple[str, int, Buffer, Record | None]"


class RowStore(Protocol):
    """What the receiver needs of a store; `learner.store.store.Store` is one."""

    uuid: str
    epoch: int

    def open_sessions(self, sessions: Iterable[str], actor: str) -> dict[str, int]:
        """Make sessions known; return the highest durable sequence number of each."""
        ...

    def last_durable(self, session: str) -> int:
        """Return the sequence number up to which a session is durable, 0 if none is."""
        ...

    def count_missing(self, session: str, first: int, last: int) -> int:
        """Return how many of a session's rows from `first` to `last` are not there."""
        ...

    def put(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Store (session, seq, blob, row) tuples durably; return those that are new.

        A row that is None is one that nobody has any more.
        """
        ...


@dataclass
class _Peer:
    actor: str
    handshake_id: int
    session: str
    first_retained: dict[str, int]
    last_heard_at: float


class StreamReceiver:
    """Takes rows from any number of actors; for one thread."""

    def __init__(
        self, endpoint: str, store: RowStore, spec: EnvSpec, keys: HostKeys | None = None
    ) -> None:
        """Listen.

        Args:
            endpoint: Address to listen at.
            store: Where rows go before they are acknowledged; the caller keeps and closes it.
            spec: What rows must fit; actors with another task or spec are refused.
            keys: Of this host; None to take rows from whoever is on this machine.

        Raises:
            ConfigError: The address is not allowed or in use.
        """
        self.endpoint, self.spec = endpoint, spec
        self.refused = 0  # [-], messages that were not taken: damaged, foreign, of another spec
        self.unauthorised = 0  # [-], messages of hosts that may not send any longer
        self.rate_limited = 0  # [-], messages dropped because their host sent too many or too much
        self.missing = 0  # [rows], that actors had and that neither they nor this store have now
        self._store = store
        self._peers: dict[bytes, _Peer] = {}
        self._duplicate_sessions: set[str] = set()  # sessions of second actors that were refused
        self._row_bytes = row_bytes(spec)
        self._context = zmq.Context()
        self._sock = new_socket(
            self._context, zmq.ROUTER, max(_MAX_FRAME, 2 * self._row_bytes), _QUEUE, PEER_TIMEOUT_S
        )
        self._sock.router_mandatory = True  # says who is gone, instead of dropping in silence
        self._buckets = (TokenBuckets(_MESSAGES), TokenBuckets(_BYTES))
        try:
            self._server = CurveServer(self._sock, endpoint, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    @property
    def actors(self) -> dict[str, float]:
        """Name of each actor, and when it was last heard (`time.monotonic`) [s]."""
        return {peer.actor: peer.last_heard_at for peer in self._peers.values()}

    def poll(self, timeout_s: float = 0.0) -> list[tuple[int, Any]]:
        """Store what has arrived, acknowledge it, and return the new rows and labels.

        Args:
            timeout_s: How long to wait for something to arrive [s].

        Returns:
            (cursor, row) in order of arrival; rows of a session in order of their numbers.

        Raises:
            StorageError: The store failed; nothing was acknowledged.
        """
        return [(arrival.cursor, arrival.row) for arrival in self.arrivals(timeout_s)]

    def arrivals(self, timeout_s: float = 0.0) -> list[Any]:
        """Do as `poll` does, but return the store's `Arrival`s, with actor, session and seq."""
        self._server.refresh()
        if not self._sock.poll(int(1e3 * timeout_s)):
            return []
        self._server.refresh()  # after the wait: what a revoked host sent meanwhile is not taken
        staged: list[Staged] = []
        last_staged: dict[str, int] = {}
        answers: dict[tuple[bytes, str], int] = {}
        size = 0
        while len(staged) < _POLL_ROWS and size < _POLL_BYTES:
            try:
                identity, *frames = self._sock.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            length = sum(len(frame) for frame in frames)
            size += length
            if not self._admits(identity, length):
                continue
            self._take(identity.bytes, [f.buffer for f in frames], staged, last_staged, answers)
        fresh = list(self._store.put(staged)) if staged else []
        for (identity, session), handshake_id in answers.items():
            self._send(identity, Ack(handshake_id, session, self._store.last_durable(session)))
        return fresh

    def close(self) -> None:
        """Free the socket and its address; the store stays open."""
        self._server.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> StreamReceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _admits(self, identity: zmq.Frame, length: int) -> bool:
        """Return whether a message's host may send now, and as much."""
        host = self._server.sender(identity)
        if host is None:
            self.unauthorised += 1
            return False
        messages, bytes_ = self._buckets
        if host and not (messages.take(host) and bytes_.take(host, length)):
            self.rate_limited += 1  # no answer: the actor sends it again, later
            return False
        return True

    def _take(
        self,
        identity: bytes,
        frames: list[memoryview],
        staged: list[Staged],
        last_staged: dict[str, int],
        answers: dict[tuple[bytes, str], int],
    ) -> None:
        handshake_id = 0
        try:
            message = load(frames[0]) if frames else None
            handshake_id = getattr(message, "handshake_id", 0)
            if isinstance(message, Hello):
                self._welcome(identity, message)
                return
            peer = self._peers.get(identity)
            if peer is None or handshake_id != peer.handshake_id:
                # Of an earlier hello: whoever sent it is told, and ignores it if it knows better.
                self._send(identity, Resync(handshake_id))
                return
            peer.last_heard_at = time.monotonic()
            if isinstance(message, Ping):
                self._send(identity, Pong(handshake_id))
            elif isinstance(message, Rows):
                self._stage(identity, peer, message, frames[1:], staged, last_staged, answers)
            else:
                raise ProtocolMismatch(f"unexpected message {type(message).__name__}")
        except ProtocolMismatch as error:
            self.refused += 1
            log.warning("refused a message: %s", error)
            self._send(identity, Reject(handshake_id, str(error)))

    def _welcome(self, identity: bytes, hello: Hello) -> None:
        reason = spec_mismatch(hello, self.spec)
        reason = reason or stale_store(hello, self._store.uuid, self._store.epoch)
        if len(hello.first_retained) > _MAX_SESSIONS:
            count = len(hello.first_retained)
            reason = f"{count} sessions in one spool, at most {_MAX_SESSIONS} are taken"
        if reason:
            raise ProtocolMismatch(reason)
        duplicate = self._find_duplicate(identity, hello)
        if duplicate:
            if hello.session not in self._duplicate_sessions:
                if len(self._duplicate_sessions) >= _MAX_PEERS:
                    self._duplicate_sessions.clear()
                self._duplicate_sessions.add(hello.session)
                log.error("refused a second actor: %s", duplicate)
            self._send(identity, Reject(hello.handshake_id, duplicate, duplicate_actor=True))
            return
        self._duplicate_sessions.discard(hello.session)
        known = self._store.open_sessions([hello.session, *hello.first_retained], hello.actor)
        last_durable = {session: known[session] for session in hello.first_retained}
        while len(self._peers) >= _MAX_PEERS:
            del self._peers[min(self._peers, key=lambda known: self._peers[known].last_heard_at)]
        self._peers[identity] = _Peer(
            hello.actor,
            hello.handshake_id,
            hello.session,
            dict(hello.first_retained),
            time.monotonic(),
        )
        self._send(
            identity, Welcome(hello.handshake_id, self._store.uuid, self._store.epoch, last_durable)
        )

    def _find_duplicate(self, identity: bytes, hello: Hello) -> str:
        """Return why an actor is a second one of its name, "" if it is the only one."""
        for known, peer in list(self._peers.items()):
            if peer.actor != hello.actor or known == identity:
                continue
            if peer.session != hello.session and self._send(known, Pong(peer.handshake_id)):
                return (
                    f"an actor named {hello.actor!r} is connected already (session {peer.session}, "
                    f"heard {time.monotonic() - peer.last_heard_at:.1f} s ago), this one is "
                    f"session {hello.session}: stop one of them"
                )
            del self._peers[known]  # gone, or the same actor on a new connection
        return ""

    def _stage(
        self,
        identity: bytes,
        peer: _Peer,
        head: Rows,
        body: list[memoryview],
        staged: list[Staged],
        last_staged: dict[str, int],
        answers: dict[tuple[bytes, str], int],
    ) -> None:
        """Decode the rows of a batch that are due next and stage them; note who is to be answered.

        Raises:
            ProtocolMismatch: A row is not of the spec or damaged; none of the batch is staged.
        """
        session, count = head.session, len(head.sizes)
        if session not in peer.first_retained:
            raise ProtocolMismatch(f"rows of session {session!r}, which the hello did not name")
        if not count or head.first_seq < head.first_retained or head.first_retained < 1:
            raise ProtocolMismatch(
                f"rows from {head.first_seq}, first retained {head.first_retained}, count {count}"
            )
        blobs = _split_frames(body, head.sizes) if sizes_fit(head.sizes, self._row_bytes) else None
        if blobs is None:
            raise ProtocolMismatch(
                f"rows of this spec have up to {self._row_bytes} B; a batch of {count} has frames "
                f"of {[len(frame) for frame in body][:3]} B and says {sorted(set(head.sizes))[:3]}"
            )
        known = last_staged.get(session, self._store.last_durable(session))
        expected_seq = max(known + 1, head.first_retained)
        if head.first_seq > expected_seq:
            self._send(identity, Resync(head.handshake_id))
            return
        rows: list[Staged] = []
        for seq, blob in enumerate(blobs, head.first_seq):
            if seq < expected_seq:
                continue
            try:
                record = None if blob == CORRUPT_ROW else decode_record(blob, self.spec)
                rows.append((session, seq, blob, record))
            except ProtocolMismatch as error:
                raise ProtocolMismatch(
                    f"row {seq} of actor {peer.actor!r}, session {session}: {error}"
                ) from None
        damaged = sum(record is None for *_, record in rows)
        if damaged:
            self.missing += damaged
            log.warning(
                "%d of the rows %d to %d of actor %r, session %s, are lost: the actor's disk has "
                "damaged them",
                damaged,
                rows[0][1],
                rows[-1][1],
                peer.actor,
                session,
            )
        if rows:
            if expected_seq > known + 1:
                missing = self._store.count_missing(session, known + 1, expected_seq - 1)
                self.missing += missing
                log.warning(
                    "%d of the rows %d to %d of actor %r, session %s, are lost: they were "
                    "acknowledged by a newer store than this one, and the actor's spool does not "
                    "retain them any more",
                    missing,
                    known + 1,
                    expected_seq - 1,
                    peer.actor,
                    session,
                )
            staged += rows
            last_staged[session] = rows[-1][1]
        answers[identity, session] = head.handshake_id

    def _send(self, identity: bytes, message: Message) -> bool:
        """Send, or drop what can't be delivered; return whether the peer is still connected."""
        try:
            self._sock.send_multipart([identity, dump(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            return error.errno == zmq.EAGAIN
        return True


def _split_frames(frames: list[memoryview], sizes: list[int]) -> list[memoryview] | None:
    """Return the records that frames hold one behind the other, None where sizes don't fit them."""
    records, left = [], iter(sizes)
    for frame in frames:
        at = 0
        while at < len(frame):
            size = next(left, 0)
            if not 0 < size <= len(frame) - at:
                return None
            records.append(frame[at : at + size])
            at += size
    return records if next(left, None) is None else None
