"""Questions with one answer each and a deadline: status, checkpoint, stop."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import zmq

from handrail import errors
from handrail.endpoint import bind, connect, new_socket
from handrail.errors import Error, LinkTimeout, ProtocolMismatch
from handrail.wire import Answer, Ask, dump, load

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[dict[str, Any]], "dict[str, Any] | None"]

_POLL_REQUESTS = 64  # [-], answered in one poll at most, so that nobody can hold up the learner


class RequestServer:
    """Answers requests when it is polled; for one thread."""

    def __init__(self, endpoint: str, handlers: Mapping[str, Handler]) -> None:
        """Listen.

        Args:
            endpoint: Address to listen at.
            handlers: Kind of request to the function that answers it; payloads are plain values.

        Raises:
            ConfigError: The address is not allowed or in use.
        """
        self.endpoint = endpoint
        self._handlers = dict(handlers)
        self._context = zmq.Context()
        self._sock = new_socket(self._context, zmq.ROUTER)
        try:
            bind(self._sock, endpoint)
        except BaseException:
            self.close()
            raise

    def poll(self, timeout_s: float = 0.0) -> int:
        """Answer what has arrived; return how many requests that were.

        Args:
            timeout_s: How long to wait for the first [s].
        """
        if not self._sock.poll(int(1e3 * timeout_s)):
            return 0
        for count in range(_POLL_REQUESTS):
            try:
                identity, *frames = self._sock.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return count
            self._sock.send_multipart([identity, self._answer(frames)], zmq.NOBLOCK)
        return _POLL_REQUESTS

    def close(self) -> None:
        """Free the socket and its address."""
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
        except Error as error:
            log.warning("refused a request: %s", error)
            return dump(Answer(number, {}, str(error), type(error).__name__))


class RequestClient:
    """Asks, and waits for the answer no longer than told; for one thread."""

    def __init__(self, endpoint: str, peer: str = "learner") -> None:
        """Connect; the server may come later.

        Args:
            endpoint: The server's address.
            peer: What to call it in messages.

        Raises:
            ConfigError: The address is not allowed.
        """
        self.endpoint, self.peer = endpoint, peer
        self._numbers = itertools.count(1)
        self._context = zmq.Context()
        self._sock = new_socket(self._context, zmq.DEALER)
        self._sock.immediate = True  # a question waits for a connection, it doesn't pile up
        try:
            connect(self._sock, endpoint)
        except BaseException:
            self.close()
            raise

    def call(
        self, kind: str, payload: dict[str, Any] | None = None, timeout_s: float = 5.0
    ) -> dict[str, Any]:
        """Return the answer to a request.

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
        if not self._sock.poll(_left_ms(deadline), zmq.POLLOUT):
            raise LinkTimeout(f"{what}: nobody listens there")
        self._sock.send(question, zmq.NOBLOCK)
        while self._sock.poll(_left_ms(deadline)):
            answer = load(self._sock.recv(zmq.NOBLOCK))
            if not isinstance(answer, Answer) or answer.id not in (number, 0):
                continue  # of a question that was given up earlier
            if answer.error:
                raise _error(answer)
            return answer.payload
        raise LinkTimeout(f"{what}: it is there but busy")

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
