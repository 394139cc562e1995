"""The answer to libzmq's question who may come in (ZAP, ZeroMQ RFC 27), given by a thread.

libzmq asks inside the socket's own context, while a client's handshake waits, and lets everybody in
who knows the learner's public key where nobody answers. So the answer is bound before the socket
listens, the socket insists on one (`zap_enforce_domain`), and a thread of its own gives it, because
the learner's loop may be compiling for minutes. It is ours and not pyzmq's `zmq.auth`: that one
takes a list when it is told to, lets clients without keys in by default, and goes on with the old
list when a new one can't be read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import zmq
from zmq.utils.monitor import parse_monitor_message

from handrail.keys.connection_limits import ConnectionLimits
from handrail.keys.host_keys import HostKeys
from handrail.link.endpoint import EventFd
from handrail.rate_limit import RateLimit, TokenBuckets

log = logging.getLogger(__name__)

DOMAIN = b"handrail"  # of our sockets; a socket without one is never asked about
EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED  # what the authenticator hears of connections
_HANDSHAKES = RateLimit(32.0, 512.0)  # of one key: 64 actors that come back at once
_VERSION = b"1.0"
_SUCCESS = b"200"
_TEMPORARY_ERROR = b"300"  # a client that is told 400 never tries again, and it may be let in later
_LOG_EVERY_S = 10.0  # [s], between log lines about unknown keys, which cost nothing


def answer_zap(request: list[bytes], names: Mapping[str, str]) -> tuple[list[bytes], str]:
    """Return the reply to a question of libzmq, and the key that it was about.

    Args:
        request: Version, id, domain, address, identity, mechanism and the client's public key.
        names: Public key to name of those who may come in.

    Returns:
        The reply's frames, and the client's key in hex, "" where there is none. Whatever is not
        exactly a listed key in our own domain is refused.
    """
    number = request[1] if len(request) > 1 else b""
    status, user, key = _TEMPORARY_ERROR, b"", ""
    if (
        len(request) == 7
        and request[0] == _VERSION
        and request[2] == DOMAIN
        and request[5] == b"CURVE"
    ):
        key = request[6].hex()
        if key in names:
            status, user = _SUCCESS, key.encode()
    return [_VERSION, number, status, b"", user, b""], key


class ZapAuthenticator:
    """Answers for one socket in a thread, and counts its connections."""

    def __init__(self, sock: zmq.Socket, keys: HostKeys) -> None:
        """Begin to answer; the socket may listen from now on.

        Args:
            sock: Not listening yet.
            keys: Who may come in.
        """
        self.unknown_keys = 0  # [-], handshakes with a key that is not listed
        self.rate_limited = 0  # [-], handshakes refused because one key made too many
        self.limits = ConnectionLimits()  # the thread's own until `close`
        self._keys = keys
        self._buckets = TokenBuckets(_HANDSHAKES)
        self._logged_at = -_LOG_EVERY_S
        self._stop = threading.Event()
        self._reset = threading.Event()
        self._wake = EventFd()
        self._zap = sock.context.socket(zmq.REP)
        self._zap.linger = 0
        self._zap.bind("inproc://zeromq.zap.01")
        self._sock = sock
        self._monitor = sock.get_monitor_socket(EVENTS)
        self._thread = threading.Thread(target=self._run, name="zap-authenticator", daemon=True)
        self._thread.start()

    def reset_counts(self) -> None:
        """Count connections from nought: the socket has closed them all."""
        self._reset.set()
        self._wake.set()

    def close(self) -> None:
        """End the thread; call it from the socket's own thread, before the socket is closed."""
        self._sock.disable_monitor()  # first: libzmq waits for a listener who is gone
        self._stop.set()
        self._wake.set()
        self._thread.join()
        self._wake.close()

    def _run(self) -> None:
        poller = zmq.Poller()
        for source in (self._zap, self._monitor, self._wake):
            poller.register(source, zmq.POLLIN)
        while not self._stop.is_set():
            for ready, _ in poller.poll():
                if ready == self._zap:
                    self._reply()
                elif ready == self._monitor:
                    self._count_connections()
                else:
                    self._wake.clear()
            if self._reset.is_set():
                self._reset.clear()
                self.limits.reset()
        self._monitor.close(linger=0)
        self._zap.close(linger=0)

    def _reply(self) -> None:
        request = self._zap.recv_multipart()
        reply, key = answer_zap(request, self._keys.snapshot().names)
        if reply[2] == _SUCCESS:
            if not self._buckets.take(key):
                self.rate_limited += 1
                reply[2:5] = [_TEMPORARY_ERROR, b"", b""]
            self._zap.send_multipart(reply)
            return
        self._zap.send_multipart(reply)
        self.unknown_keys += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            log.warning(
                "a host with key %s is not on the list in %s and was sent away, %d so far",
                key or "none",
                self._keys.folder,
                self.unknown_keys,
            )

    def _count_connections(self) -> None:
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_ACCEPTED:
                self.limits.opened(event["value"])
            elif event["event"] == zmq.EVENT_DISCONNECTED:
                self.limits.closed(event["value"])
