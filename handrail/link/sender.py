"""The actor's end of the stream: rows from the spool to the learner, until it has them for good.

One background thread reads durable rows from the spool and sends them in batches, a bounded window
ahead of the learner's acknowledgements. It says hello first and after every silence; the learner's
welcome says what its store has, and sending goes on from there. So a killed learner, a killed actor
or a cut connection costs a repetition, never a row. A store that is older than what it acknowledged
is refilled from the rows that the spool retains. The caller never waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import NamedTuple

import msgspec
import zmq

from handrail.errors import CorruptMessage, LinkTimeout, ProtocolMismatch, StorageError
from handrail.keys.host_keys import HostKeys
from handrail.link.curve import CurveClient
from handrail.link.endpoint import PEER_TIMEOUT_S, EventFd, check_endpoint, new_socket
from handrail.link.record_codec import checksum_ok
from handrail.link.tombstone import CORRUPT_ROW
from handrail.link.wire import (
    SEPARATE_FRAME_BYTES,
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
)
from handrail.storage.spool import Spool, SpoolRow

log = logging.getLogger(__name__)

_PING_S = 1.0  # [s], an idle connection is tried this often
_MAX_ANSWER = 2 << 20  # [B], of the learner; a welcome names at most some thousand sessions
_HELLO_S = (0.2, 2.0)  # [s], first and longest pause between hellos that nobody answers
_DUPLICATE_S = (0.5, 6.0)  # [s], a duplicate actor asks again this often, and for this long


class SenderStatus(NamedTuple):
    """Where the stream stands."""

    depth: int  # [rows], in the spool and not acknowledged
    acked: int  # [rows], acknowledged since this process began
    unacked_bytes: int  # [B], sent and not acknowledged
    connected: bool  # the learner answers and takes rows
    refusal: str  # why the learner takes none, "" when it does
    refilled: int  # [rows], sent again because the learner's store had lost them
    corrupt: int  # [rows], that the spool's disk has damaged
    lag: float  # [s], from sending to acknowledgement, of the newest batch that was acknowledged


class _SentBatch(NamedTuple):
    id: int  # of the batch's last row
    rows: int
    bytes: int
    time: float  # [s], monotonic


class StreamSender:
    """Sends what the spool holds, in the background, until it is acknowledged."""

    def __init__(
        self,
        endpoint: str,
        spool: Spool,
        hello: Hello,
        *,
        window_rows: int = 8192,
        window_bytes: int = 8 << 20,
        batch_rows: int = 512,
        batch_bytes: int = 1 << 20,
        answer_s: float = 2.0,
        keys: HostKeys | None = None,
        learner: str = "learner",
    ) -> None:
        """Begin to send.

        Args:
            endpoint: The learner's address.
            spool: Where rows are appended; the caller keeps and closes it, after this sender.
            hello: Who we are.
            window_rows: Rows sent ahead of acknowledgements at most.
            window_bytes: Bytes sent ahead of acknowledgements at most [B].
            batch_rows: Rows in one message at most.
            batch_bytes: Bytes in one message at most, unless one row is longer [B].
            answer_s: Silence after which the learner counts as gone [s].
            keys: Of this host; None for an address on this machine.
            learner: The learner's name on this host's list of keys.

        Raises:
            ConfigError: The address is not allowed.
        """
        check_endpoint(endpoint, keyed=keys is not None)
        self.endpoint = endpoint
        self._spool, self._hello = spool, hello
        self._window, self._batch = (window_rows, window_bytes), (batch_rows, batch_bytes)
        self._answer_s = answer_s
        self._handshake_id = 0
        self._welcomed = False
        self._ping_outstanding = False
        self._in_flight: deque[_SentBatch] = deque()
        self._in_flight_rows = self._in_flight_bytes = 0
        self._cursor = 0
        self._acked = 0
        self._lag = 0.0
        self._last_heard_at = self._next_hello_at = 0.0
        self._hello_pause_s = _HELLO_S[0]
        self._refusal = ""
        # When the learner first said that another actor has our name
        self._duplicate_since: float | None = None
        self._refilled = 0
        self._corrupt_ids: set[int] = set()  # ids of rows that were found to be damaged
        self._failure: StorageError | None = None
        self._progress = threading.Condition()
        self._stop = threading.Event()
        self._context = zmq.Context()
        sock = new_socket(self._context, zmq.DEALER, _MAX_ANSWER, peer_timeout_s=PEER_TIMEOUT_S)
        sock.immediate = True  # without a connection a send fails at once instead of piling up
        try:
            self._client = CurveClient(sock, endpoint, keys, learner)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._wake = EventFd()
        spool.on_durable(self._wake.set)
        self._thread = threading.Thread(
            target=self._run, args=(sock,), name="stream-sender", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise what keeps rows from being delivered for good; return while all may be well.

        Raises:
            ProtocolMismatch: The learner refuses this actor; the message says why.
            StorageError: The spool can't be written or read.
        """
        if self._spool.error is not None:
            raise self._spool.error
        if self._failure is not None:
            raise self._failure
        since = self._duplicate_since
        if self._refusal and (since is None or time.monotonic() - since > _DUPLICATE_S[1]):
            raise ProtocolMismatch(self._refusal)

    def status(self) -> SenderStatus:
        """Return where the stream stands."""
        return SenderStatus(
            self._spool.depth,
            self._acked,
            self._in_flight_bytes,
            self._welcomed,
            self._refusal,
            self._refilled,
            len(self._corrupt_ids),
            self._lag,
        )

    def drain(self, timeout_s: float) -> None:
        """Wait until the learner has every row that was appended.

        Raises:
            LinkTimeout: It hasn't, in time.
            ProtocolMismatch: It refuses this actor.
            StorageError: The spool failed.
        """
        deadline = time.monotonic() + timeout_s
        while self._spool.depth:
            self.check()
            left = deadline - time.monotonic()
            if left <= 0:
                raise LinkTimeout(
                    f"waited {timeout_s} s for the learner at {self.endpoint} to store "
                    f"{self._spool.depth} rows; it is {'' if self._welcomed else 'not '}answering"
                )
            with self._progress:
                self._progress.wait(min(left, 0.05))

    def close(self) -> None:
        """End the thread and free the socket; what is not acknowledged stays in the spool."""
        self._spool.on_durable(None)
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._context.destroy(linger=0)
        self._wake.close()

    def __enter__(self) -> StreamSender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, sock: zmq.Socket) -> None:
        poller = zmq.Poller()
        poller.register(sock, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        while not self._stop.is_set():
            for ready, _ in poller.poll(self._wait_ms()):
                if ready == sock:
                    self._receive(sock)
                else:
                    self._wake.clear()
            self._client.refresh()
            try:
                self._keep_alive(sock)
                while self._welcomed and self._send_batch(sock):
                    pass
                self._failure = None
            except zmq.Again:
                self._mark_disconnected(_HELLO_S[0])
            except StorageError as error:
                self._failure = error
                self._stop.wait(_HELLO_S[0])
        sock.close(linger=0)

    def _wait_ms(self) -> int:
        now = time.monotonic()
        if not self._welcomed:
            until = self._next_hello_at
        elif self._in_flight or self._ping_outstanding:
            until = self._last_heard_at + self._answer_s
        else:
            until = self._last_heard_at + _PING_S
        return max(0, int(1e3 * (until - now)) + 1)

    def _keep_alive(self, sock: zmq.Socket) -> None:
        now = time.monotonic()
        silence = now - self._last_heard_at
        if (
            self._welcomed
            and (self._in_flight or self._ping_outstanding)
            and silence > self._answer_s
        ):
            self._mark_disconnected(0.0)
        if not self._welcomed:
            if now < self._next_hello_at:
                return
            self._next_hello_at = now + _HELLO_S[0]
            store, epoch = self._spool.last_store
            hello = msgspec.structs.replace(
                self._hello,
                handshake_id=self._handshake_id + 1,
                first_retained=self._spool.first_retained(),
                store=store,
                epoch=epoch,
            )
            sock.send_multipart([dump(hello)], zmq.NOBLOCK)
            self._handshake_id += 1
            self._next_hello_at = now + self._hello_pause_s
            self._hello_pause_s = min(2 * self._hello_pause_s, _HELLO_S[1])
        elif not (self._in_flight or self._ping_outstanding) and silence > _PING_S:
            sock.send_multipart([dump(Ping(self._handshake_id))], zmq.NOBLOCK)
            self._last_heard_at, self._ping_outstanding = now, True

    def _send_batch(self, sock: zmq.Socket) -> bool:
        """Send the next rows if the window is open; return whether there may be more."""
        room_rows = self._window[0] - self._in_flight_rows
        room_bytes = self._window[1] - self._in_flight_bytes
        if room_rows <= 0 or room_bytes <= 0:
            return False
        max_rows = min(room_rows, self._batch[0])
        # A welcome that comes twice sets the cursor behind what was acknowledged since.
        self._cursor = max(self._cursor, self._spool.acknowledged_id())
        rows = self._spool.read(self._cursor, max_rows, min(room_bytes, self._batch[1]))
        if not rows:
            return False
        blobs = [row.blob for row in rows]
        if self._refilled or rows[0].session != self._hello.session:  # they come from a disk
            blobs = [
                row.blob if checksum_ok(row.blob) else self._replace_corrupt(row) for row in rows
            ]
        head = Rows(
            self._handshake_id,
            rows[0].session,
            rows[0].seq,
            self._spool.first_retained_seq(rows[0].session),
            [len(blob) for blob in blobs],
        )
        # Blobs are never written again, so that long ones can be sent without a copy.
        lone = max(map(len, blobs)) >= SEPARATE_FRAME_BYTES
        body = blobs if lone else [b"".join(blobs)]
        sock.send_multipart([dump(head), *body], zmq.NOBLOCK, copy=not lone)
        now = time.monotonic()
        if not self._in_flight:
            self._last_heard_at = now  # an answer is due from now on
        self._cursor = rows[-1].id
        self._in_flight.append(_SentBatch(rows[-1].id, len(rows), sum(head.sizes), now))
        self._in_flight_rows += len(rows)
        self._in_flight_bytes += self._in_flight[-1].bytes
        return True

    def _replace_corrupt(self, row: SpoolRow) -> bytes:
        """Return what goes to the learner for a row that the spool's disk has damaged."""
        if row.id not in self._corrupt_ids:
            self._corrupt_ids.add(row.id)
            log.error(
                "row %d of session %s is damaged in spool %s: it is lost, those behind it are sent",
                row.seq,
                row.session,
                self._spool.path,
            )
        return CORRUPT_ROW

    def _receive(self, sock: zmq.Socket) -> None:
        while not self._stop.is_set():
            try:
                frames = sock.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._handle(load(frames[0]))
            except CorruptMessage as error:
                log.warning("an answer of the learner at %s is lost: %s", self.endpoint, error)
            except ProtocolMismatch as error:
                self._refusal = f"learner at {self.endpoint}: {error}"

    def _handle(self, message: Message) -> None:
        now = time.monotonic()
        if isinstance(message, Ack):
            # That of an earlier hello may be of a store that was; the welcome said what there is.
            if message.handshake_id == self._handshake_id:
                self._last_heard_at = now
                self._acknowledge(message.session, message.seq)
            return
        if getattr(message, "handshake_id", None) != self._handshake_id:
            return  # an answer to an earlier hello
        self._last_heard_at, self._ping_outstanding = now, False
        if isinstance(message, Welcome):
            self._refill(message)
            for session, seq in message.last_durable.items():
                self._acknowledge(session, seq)
            self._clear_window()
            self._cursor = self._spool.acknowledged_id()
            self._welcomed, self._refusal, self._hello_pause_s = True, "", _HELLO_S[0]
            self._duplicate_since = None
        elif isinstance(message, Reject):
            if message.reason != self._refusal:
                log.warning("the learner at %s refuses us: %s", self.endpoint, message.reason)
            if not message.duplicate_actor:
                self._duplicate_since = None
            elif self._duplicate_since is None:
                self._duplicate_since = now
            self._refusal = message.reason
            self._mark_disconnected(_DUPLICATE_S[0] if message.duplicate_actor else _HELLO_S[1])
        elif isinstance(message, Resync):
            self._mark_disconnected(0.0)
        elif not isinstance(message, Pong):
            raise ProtocolMismatch(f"unexpected message {type(message).__name__}")

    def _refill(self, welcome: Welcome) -> None:
        """Send again what the store acknowledged once and has not any more."""
        again = sum(
            self._spool.resend_from(session, seq) for session, seq in welcome.last_durable.items()
        )
        before, now = self._spool.last_store, (welcome.store, welcome.epoch)
        if again:
            self._refilled += again
            log.warning(
                "the store %s, epoch %d, lacks rows that %s, epoch %d, had acknowledged: %d rows "
                "are sent again",
                *now,
                *before,
                again,
            )
        elif before[0] and before != now:
            log.warning("the store is now %s, epoch %d; it was %s, epoch %d", *now, *before)
        self._spool.set_last_store(*now)

    def _acknowledge(self, session: str, seq: int) -> None:
        last, released = self._spool.acknowledge(session, seq)
        while self._in_flight and self._in_flight[0].id <= last:
            done = self._in_flight.popleft()
            self._in_flight_rows -= done.rows
            self._in_flight_bytes -= done.bytes
            self._lag = time.monotonic() - done.time
        with self._progress:
            self._acked += released
            self._progress.notify_all()

    def _mark_disconnected(self, pause_s: float) -> None:
        """Count the learner as gone; what was on the way is sent again after its welcome."""
        self._welcomed = self._ping_outstanding = False
        self._clear_window()
        self._next_hello_at = time.monotonic() + pause_s

    def _clear_window(self) -> None:
        self._in_flight.clear()
        self._in_flight_rows = self._in_flight_bytes = 0
