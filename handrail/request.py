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
from handrail.endpoint import GONE_S, new_socket
from handrail.errors import Damaged, Error, LinkTimeout, ProtocolMismatch
from handrail.keys.budget import Budget, Budgets
from handrail.keys.door import Door, Line
from handrail.keys.host import LOOK_S, HostKeys
from handrail.wire import MAX_HEADER, Answer, Ask, dump, load

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[dict[str, Any]], "dict[str, Any] | None"]

_QUEUE = 16  # [messages], of one connection that wait to be taken
_REQUESTS = Budget(50.0, 500.0)  # of one host [requests/s, requests]
_AGAIN_S = 1.0  # [s], of silence, after which a question is asked again
_POLL_REQUESTS = 64  # [-], answered in one poll at most, so that nobody can hold up the learner


class RequestServer:
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
        self.kept_out = 0  # [-], requests of hosts that may not ask, or asked too much
        self._context = zmq.Context()
        self._sock = new_socket(self._context, zmq.ROUTER, MAX_HEADER, _QUEUE)
        self._budgets = Budgets(_REQUESTS)
        try:
            self._door = Door(self._sock, endpoint, keys)
        except BaseException:
            self._context.destroy(linger=0)
            raise

    def poll(self, timeout_s: float = 0.0) -> int:
        """Answer what has arrived; return how many requests that were.

        Args:
            timeout_s: How long to wait for the first [s].
        """
        self._door.refresh()
        if not self._sock.poll(int(1e3 * timeout_s)):
            return 0
        self._door.refresh()
        for count in range(_POLL_REQUESTS):
            try:
                identity, *frames = self._sock.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return count
            host = self._door.sender(identity)
            if host is None or (host and not self._budgets.take(host)):
                self.kept_out += 1
                continue
            reply = self._answer([frame.bytes for frame in frames])
            if reply:
                self._sock.send_multipart([identity.bytes, reply], zmq.NOBLOCK)
        return _POLL_REQUESTS

    def close(self) -> None:
        """Free the socket and its address."""
        self._door.close()
        self._context.destroy(linger=0)

    def __enter__(self) -> RequestServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, frames: list[bytes]) -> bytes:
        number = 0
        try:
            ask = load(frames[0]) if len(frames) == 1 else None
            if not isinstance(ask, Ask):
                raise ProtocolMismatch("a request must be one frame that holds an Ask")
            number = ask.id
            handler = self._handlers.get(ask.kind)
            if handler is None:
                known = ", ".join(sorted(self._handlers))
                raise ProtocolMismatch(f"unknown request {ask.kind!r}; known: {known}")
            return dump(Answer(number, handler(ask.payload) or {}))
        except Damaged as error:
            log.warning("a request is lost: %s", error)
            return b""
        except Error as error:
            log.warning("refused a request: %s", error)
            return dump(Answer(number, {}, str(error), type(error).__name__))


class RequestClient:
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
        self._sock = new_socket(self._context, zmq.DEALER, 2 * MAX_HEADER, gone_s=GONE_S)
        self._sock.immediate = True  # a question waits for a connection, it doesn't pile up
        try:
            self._line = Line(self._sock, endpoint, keys, learner)
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
        question = dump(Ask(number, kind, payload or {}))
        what = f"waited {timeout_s:g} s for {self.peer}'s answer to {kind!r} at {self.endpoint}"
        if not self._connected(deadline):
            raise LinkTimeout(f"{what}: nobody listens there{self._line.hint()}")
        self._sock.send(question, zmq.NOBLOCK)
        patience = _AGAIN_S
        while _left_ms(deadline):
            if not self._sock.poll(min(int(1e3 * patience), _left_ms(deadline))):
                self._line.refresh()
                with contextlib.suppress(zmq.Again):  # not connected: asked later
                    self._sock.send(question, zmq.NOBLOCK)
                patience *= 2
                continue
            try:
                answer = load(self._sock.recv(zmq.NOBLOCK))
            except Damaged:
                continue
            if not isinstance(answer, Answer) or answer.id not in (number, 0):
                continue  # of a question that was given up earlier
            if answer.error:
                raise _error(answer)
            return answer.payload
        raise LinkTimeout(f"{what}: it is there but busy")

    def _connected(self, deadline: float) -> bool:
        """Wait until somebody listens, or the deadline; keys may change meanwhile."""
        self._line.refresh()
        while not self._sock.poll(min(int(1e3 * LOOK_S), _left_ms(deadline)), zmq.POLLOUT):
            if not _left_ms(deadline):
                return False
            self._line.refresh()
        return True

    def close(self) -> None:
        """Free the socket."""
        self._context.destroy(linger=0)

    def __enter__(self) -> RequestClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _left_ms(deadline: float) -> int:
    return max(0, int(1e3 * (deadline - time.monotonic())))


def _error(answer: Answer) -> Error:
    kind = getattr(errors, answer.error_kind, Error)
    if not (isinstance(kind, type) and issubclass(kind, Error)):
        kind = Error
    return kind(answer.error)
