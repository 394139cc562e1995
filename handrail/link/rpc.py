"""Questions with one answer each and a deadline: status, checkpoint, stop."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import zmq

from handrail import errors
from handrail.errors import CorruptMessage, Error, LinkTimeout, ProtocolMismatch
from handrail.keys.host_keys import REREAD_S, HostKeys
from handrail.link.curve import CurveClient, CurveServer
from handrail.link.endpoint import PEER_TIMEOUT_S, new_socket
from handrail.link.wire import MAX_HEADER, Request, Response, dump, load
from handrail.rate_limit import RateLimit, TokenBuckets

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[dict[str, Any]], "dict[str, Any] | None"]

_QUEUE = 16  # [messages], of one connection that wait to be taken
_REQUESTS = RateLimit(50.0, 500.0)  # of one host [requests/s, requests]
_RETRY_S = 1.0  # [s], of silence, after which a question is asked again
_POLL_REQUESTS = 64  # [-], answered in one poll at most, so that nobody can hold up the learner


class RpcServer:
    """Answers requests when it is polled; for one thread."""

    def __init__(
        self, endpoint: str, handlers: Mapping[str, Handler], keys: HostKeys | None = None
    ) -> None:
        """Listen.

        Args:
            endpoint: Address to listen at.
            handlers: Kind of request to the function that answers it; payloads are plain values.
            keys: Of this host; None to answer whoever is on this machine.

        Raises:
            ConfigError: The address is not allowed or in use.
        """
        self.endpoint = endpoint
        self._handlers = dict(handlers)
        self.denied = 0  # [-], requests of hosts that may not ask, or asked too much
        self._context = zmq.Context()
        self._sock = new_socket(self._context, zmq.ROUTER, MAX_HEADER, _QUEUE)
        self._buckets = TokenBuckets(_REQUESTS)
        try:
            self._server = CurveServer(self._sock, endpoint, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def poll(self, timeout_s: float = 0.0) -> int:
        """Answer what has arrived; return how many requests that were.

        Args:
            timeout_s: How long to wait for the first [s].
        """
        self._server.refresh()
        if not self._sock.poll(int(1e3 * timeout_s)):
            return 0
        self._server.refresh()
        for count in range(_POLL_REQUESTS):
            try:
                identity, *frames = self._sock.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return count
            host = self._server.sender(identity)
            if host is None or (host and not self._buckets.take(host)):
                self.denied += 1
                continue
            reply = self._answer([frame.bytes for frame in frames])
            if reply:
                self._sock.send_multipart([identity.bytes, reply], zmq.NOBLOCK)
        return _POLL_REQUESTS

    def close(self) -> None:
        """Free the socket and its address."""
        self._server.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> RpcServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, frames: list[bytes]) -> bytes:
        number = 0
        try:
            request = load(frames[0]) if len(frames) == 1 else None
            if not isinstance(request, Request):
                raise ProtocolMismatch("a request must be one frame that holds a Request")
            number = request.id
            handler = self._handlers.get(request.kind)
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise ProtocolMismatch(f"unknown request {request.kind!r}; known: {known}")
            return dump(Response(number, handler(request.payload) or {}))
        except CorruptMessage as error:
            log.warning("a request is lost: %s", error)
            return b""
        except Error as error:
            log.warning("refused a request: %s", error)
            return dump(Response(number, {}, str(error), type(error).__name__))


class RpcClient:
    """Asks, and waits for the answer no longer than told; for one thread."""

    def __init__(
        self,
        endpoint: str,
        peer: str = "learner",
        keys: HostKeys | None = None,
        learner: str = "learner",
    ) -> None:
        """Connect; the server may come later.

        Args:
            endpoint: The server's address.
            peer: What to call it in messages.
            keys: Of this host; None for an address on this machine.
            learner: The server's name on this host's list of keys.

        Raises:
            ConfigError: The address is not allowed.
        """
        self.endpoint, self.peer = endpoint, peer
        self._numbers = itertools.count(1)
        self._context = zmq.Context()
        self._sock = new_socket(
            self._context, zmq.DEALER, 2 * MAX_HEADER, peer_timeout_s=PEER_TIMEOUT_S
        )
        self._sock.immediate = True  # a question waits for a connection, it doesn't pile up
        try:
            self._client = CurveClient(self._sock, endpoint, keys, learner)
        except BaseException:
            self.close()
            raise

    def call(
        self, kind: str, payload: dict[str, Any] | None = None, timeout_s: float = 5.0
    ) -> dict[str, Any]:
        """Return the answer to a request.

        Where no answer comes the question is asked again, in growing intervals: it may have gone
        with a connection. So a handler may be called more than once for one call.

        Args:
            kind: Name of the request.
            payload: Plain values.
            timeout_s: How long to wait, connecting included [s].

        Raises:
            LinkTimeout: No answer in time; the message says what was awaited.
            Error: What the server's handler raised.
        """
        deadline = time.monotonic() + timeout_s
        number = next(self._numbers)
        question = dump(Request(number, kind, payload or {}))
        what = f"waited {timeout_s:g} s for {self.peer}'s answer to {kind!r} at {self.endpoint}"
        if not self._connected(deadline):
            raise LinkTimeout(f"{what}: nobody listens there{self._client.hint()}")
        self._sock.send(question, zmq.NOBLOCK)
        patience = _RETRY_S
        while _left_ms(deadline):
            if not self._sock.poll(min(int(1e3 * patience), _left_ms(deadline))):
                self._client.refresh()
                with contextlib.suppress(zmq.Again):  # not connected: asked later
                    self._sock.send(question, zmq.NOBLOCK)
                patience *= 2
                continue
            try:
                answer = load(self._sock.recv(zmq.NOBLOCK))
            except CorruptMessage:
                continue
            if not isinstance(answer, Response) or answer.id not in (number, 0):
                continue  # of a question that was given up earlier
            if answer.error:
                raise _error(answer)
            return answer.payload
        raise LinkTimeout(f"{what}: it is there but busy")

    def _connected(self, deadline: float) -> bool:
        """Wait until somebody listens, or the deadline; keys may change meanwhile."""
        self._client.refresh()
        while not self._sock.poll(min(int(1e3 * REREAD_S), _left_ms(deadline)), zmq.POLLOUT):
            if not _left_ms(deadline):
                return False
            self._client.refresh()
        return True

    def close(self) -> None:
        """Free the socket."""
        self._context.destroy(linger=0)

    def __enter__(self) -> RpcClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _left_ms(deadline: float) -> int:
    return max(0, int(1e3 * (deadline - time.monotonic())))


def _error(answer: Response) -> Error:
    kind = getattr(errors, answer.error_kind, Error)
    if not (isinstance(kind, type) and issubclass(kind, Error)):
        kind = Error
    return kind(answer.error)
