"""Newest weights from the learner to any number of actors.

Each topic holds one value, the latest; an actor that is late or slow skips what it missed, and one
that joins is sent the current value at once. A message is one frame, because only single frames can
be conflated, and the option is set before the socket connects, because later it has no effect.

Where an actor's queue is full, ZeroMQ drops what is newest. So a value that met a full queue is
sent again, at growing intervals, until whoever still has no room is cut off and joins anew.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import zmq

from handrail.errors import ProtocolMismatch
from handrail.keys.host_keys import REREAD_S, HostKeys
from handrail.link.array_codec import DIGEST_BYTES, Arrays, pack, seal, unpack
from handrail.link.curve import CurveClient, CurveServer
from handrail.link.endpoint import EventFd, new_socket

log = logging.getLogger(__name__)

_COPY_BYTES = 4 << 20  # [B], below it a copy is cheaper than pyzmq's thread for zero-copy sends
_MAX_SUBSCRIPTION = 4096  # [B], all that an actor sends here is a topic's name
_PEER_TIMEOUT_S = 30.0  # [s], a longer silence is no long message: 20 MB take that at 5 Mbit/s
_QUEUE = 2  # [messages], per actor and topic that may wait in the learner
_RESEND_S = 0.1  # [s], until a value that met a full queue is sent again; then twice as long, ...
_RESEND_FOR_S = 2 * _PEER_TIMEOUT_S  # [s], for so long


class _Value(NamedTuple):
    """What was given to publish and isn't packed yet."""

    meta: dict[str, Any]
    arrays: Arrays


class _Resend(NamedTuple):
    """When to send a topic again of which somebody may lack the latest value."""

    since: float  # [s], when a queue was last seen full; monotonic
    due: float  # [s], when to send it again

    def after(self, now: float) -> _Resend:
        """Return when the next one is due once the value was sent again."""
        return self._replace(due=now + max(_RESEND_S, now - self.since))


class WeightsPublisher:
    """Publishes the latest value of each topic; `publish` never waits."""

    def __init__(self, endpoint: str, keys: HostKeys | None = None) -> None:
        """Listen.

        Args:
            endpoint: Address to listen at.
            keys: Of this host; None to serve whoever is on this machine.

        Raises:
            ConfigError: The address is not allowed or in use.
        """
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._fresh: dict[str, bytearray | _Value] = {}
        self._refusal: ProtocolMismatch | None = None
        self._stop = threading.Event()
        self._context = zmq.Context()
        self._sock = new_socket(self._context, zmq.XPUB, _MAX_SUBSCRIPTION)
        self._sock.sndhwm = _QUEUE
        self._sock.copy_threshold = _COPY_BYTES
        self._sock.xpub_verbose = True  # tell of every subscriber, not only of a topic's first
        # Nobody wakes the thread when a key is revoked, so it looks by itself.
        self._wait_ms = None if keys is None else int(1e3 * REREAD_S)
        try:
            self._server = CurveServer(self._sock, endpoint, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._wake = EventFd()
        self._thread = threading.Thread(target=self._run, name="weights-publisher", daemon=True)
        self._thread.start()

    def publish(
        self, topic: str, meta: dict[str, Any], arrays: Arrays, *, take_ownership: bool = False
    ) -> None:
        """Make this the topic's value; the arrays are copied before the call returns.

        Args:
            topic: Name.
            meta: JSON-able values.
            arrays: Name to array.
            take_ownership: The arrays are ours from now on: nobody writes to them again. They are
                checked and copied in the background, and what is wrong with them is raised by the
                next call.

        Raises:
            ProtocolMismatch: A dtype or meta value that can't be sent, or a number that isn't
                finite, in these arrays or in those given before; the topic keeps its value.
        """
        value = _Value(meta, arrays) if take_ownership else _packed(topic, meta, arrays)
        with self._lock:
            refusal, self._refusal = self._refusal, None
            self._fresh[topic] = value
        self._wake.set()
        if refusal is not None:
            raise refusal

    def close(self) -> None:
        """End the thread and free the address."""
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._context.destroy(linger=0)
        self._wake.close()

    def __enter__(self) -> WeightsPublisher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._sock, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        latest: dict[str, bytearray] = {}
        resends: dict[str, _Resend] = {}
        while not self._stop.is_set():
            joined = set()
            for ready, _ in poller.poll(self._poll_timeout_ms(resends)):
                if ready == self._sock:
                    joined |= self._subscriptions()
                else:
                    self._wake.clear()
            self._server.refresh()
            with self._lock:
                fresh, self._fresh = self._fresh, {}
            for topic, value in fresh.items():
                try:
                    frame = _packed(topic, *value) if isinstance(value, _Value) else value
                except ProtocolMismatch as error:
                    log.error("topic %r keeps its value: %s", topic, error)
                    self._refusal = error
                    continue
                latest[topic] = seal(frame, len(_prefix(topic)))
            now = time.monotonic()
            for topic in (joined | set(fresh)) & set(latest):
                if not self._send_to_all(latest[topic]):
                    resends[topic] = _Resend(now, now + _RESEND_S)
            for topic, resend in [each for each in resends.items() if each[1].due <= now]:
                # Whether this finds a queue full says nothing: the same value may fill it.
                self._send_to_all(latest[topic])
                resends[topic] = resend.after(now)
            resends = {
                topic: resend
                for topic, resend in resends.items()
                if resend.due < resend.since + _RESEND_FOR_S
            }
        self._server.close()
        self._sock.close(linger=0)

    def _poll_timeout_ms(self, resends: dict[str, _Resend]) -> int | None:
        """Return for how long nothing has to be done if nobody calls [ms]; None: for ever."""
        now = time.monotonic()
        waits = [max(0, math.ceil(1e3 * (resend.due - now))) for resend in resends.values()]
        if self._wait_ms is not None:
            waits.append(self._wait_ms)
        return min(waits, default=None)

    def _send_to_all(self, frame: bytearray) -> bool:
        """Send to everybody who has room; return whether nobody was seen to have none.

        A queue that was once found full is not asked again until there is room in it.
        """
        # The frame is never written again, so that it can be sent without a copy.
        self._sock.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            self._sock.send(frame, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            self._sock.setsockopt(zmq.XPUB_NODROP, 0)
            self._sock.send(frame, zmq.NOBLOCK, copy=False)
            return False
        return True

    def _subscriptions(self) -> set[str]:
        topics = set()
        while True:
            try:
                note = self._sock.recv(zmq.NOBLOCK)
            except zmq.Again:
                return topics
            if note[:1] == b"\x01":
                topics.add(note[1:].rstrip(b"\0").decode(errors="replace"))


class WeightsSubscriber:
    """Holds the newest value of each topic until it is asked for; for one thread."""

    def __init__(
        self,
        endpoint: str,
        topics: tuple[str, ...] = ("policy", "base"),
        max_bytes: int = 512 << 20,
        keys: HostKeys | None = None,
        learner: str = "learner",
    ) -> None:
        """Subscribe; the learner may come later.

        Args:
            endpoint: The learner's address.
            topics: What to receive.
            max_bytes: A longer message is refused [B].
            keys: Of this host; None for an address on this machine.
            learner: The learner's name on this host's list of keys.

        Raises:
            ConfigError: The address is not allowed.
        """
        self.refused = 0  # [-], messages that were damaged or not finite
        self._max_bytes = max_bytes
        self._context = zmq.Context()
        self._socks: dict[str, zmq.Socket] = {}
        self._clients: dict[str, CurveClient] = {}
        self._last: dict[str, bytes] = {}
        try:
            for topic in topics:
                # One socket a topic: conflation keeps one message a socket, whatever its topic.
                sock = new_socket(self._context, zmq.SUB, max_bytes, peer_timeout_s=_PEER_TIMEOUT_S)
                sock.conflate = True
                sock.subscribe(_prefix(topic))
                self._clients[topic] = CurveClient(sock, endpoint, keys, learner)
                self._socks[topic] = sock
        except BaseException:
            self.close()
            raise

    def latest(self, topic: str) -> tuple[dict[str, Any], Arrays] | None:
        """Return the topic's newest value if it wasn't returned before; never wait.

        Returns:
            Meta data and read-only arrays, or None when there is nothing new.
        """
        self._clients[topic].refresh()
        try:
            frame = self._socks[topic].recv(zmq.NOBLOCK, copy=False).buffer
        except zmq.Again:
            return None
        prefix = len(_prefix(topic))
        digest = bytes(frame[prefix : prefix + DIGEST_BYTES])
        if digest == self._last.get(topic):
            return None  # sent again because somebody else joined
        try:
            meta, arrays = unpack(frame, prefix, self._max_bytes)
            _require_finite(arrays)
        except ProtocolMismatch as error:
            self.refused += 1
            log.warning("refused a message of topic %r: %s", topic, error)
            return None
        self._last[topic] = digest
        return meta, arrays

    def close(self) -> None:
        """Free the sockets."""
        self._context.destroy(linger=0)

    def __enter__(self) -> WeightsSubscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _prefix(topic: str) -> bytes:
    return topic.encode() + b"\0"


def _packed(topic: str, meta: dict[str, Any], arrays: Arrays) -> bytearray:
    _require_finite(arrays)
    return pack(meta, arrays, _prefix(topic), sealed=False)


def _require_finite(arrays: Arrays) -> None:
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ProtocolMismatch(f"array {name!r} must be finite, it holds a NaN or an infinity")
