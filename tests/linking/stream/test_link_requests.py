"""Requests over real sockets: answers within deadlines."""

from __future__ import annotations

import threading
import time

import pytest
import zmq

from handrail.errors import LinkTimeout, ProtocolMismatch, StorageError
from handrail.link.rpc import RpcClient, RpcServer

pytestmark = pytest.mark.usefixtures("nothing_left_behind")


def test_a_request_is_answered_and_errors_keep_their_class(endpoint: str) -> None:
    def full(_: dict[str, object]) -> dict[str, object]:
        raise StorageError("disk full while writing checkpoint")

    with RpcServer(endpoint, {"status": lambda p: {"got": p}, "checkpoint": full}) as server:
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                server.poll(0.02)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with RpcClient(endpoint) as client:
                assert client.call("status", {"a": [1, "x", None]}) == {
                    "got": {"a": [1, "x", None]}
                }
                with pytest.raises(StorageError, match="disk full"):
                    client.call("checkpoint")
                with pytest.raises(ProtocolMismatch, match=r"'dance'.*checkpoint, status"):
                    client.call("dance")
                with pytest.raises(ProtocolMismatch, match="plain"):
                    client.call("status", {"x": object()})
                assert client.call("status") == {"got": {}}
        finally:
            done.set()
            thread.join()


@pytest.mark.slow
@pytest.mark.wallclock
def test_a_request_gives_up_at_its_deadline_and_says_what_it_waited_for(endpoint: str) -> None:
    with RpcClient(endpoint) as client:
        start = time.monotonic()
        with pytest.raises(LinkTimeout, match=rf"0\.2 s.*'status' at {endpoint}: nobody listens"):
            client.call("status", timeout_s=0.2)
        assert time.monotonic() - start < 1.0
        with RpcServer(endpoint, {"status": lambda p: p}) as server:
            with pytest.raises(LinkTimeout, match="busy"):
                client.call("status", {"n": 1}, timeout_s=0.5)
            timer = threading.Timer(0.1, lambda: [server.poll(1.0) for _ in range(2)])
            timer.start()
            # The late answer to the first question is not taken for that to the second.
            assert client.call("status", {"n": 2}) == {"n": 2}
            timer.join()


def test_a_question_that_went_with_a_connection_is_asked_again(endpoint: str) -> None:
    context = zmq.Context()
    dying = context.socket(zmq.ROUTER)
    dying.linger = 0
    dying.bind(endpoint)

    def serve() -> None:
        dying.recv_multipart()  # takes the question, and dies with it
        context.destroy(linger=0)  # waits until the address is free
        with RpcServer(endpoint, {"status": lambda p: p}) as server:
            while not done.is_set():
                server.poll(0.02)

    done = threading.Event()
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with RpcClient(endpoint) as client:
            assert client.call("status", {"n": 1}, timeout_s=30.0) == {"n": 1}
    finally:
        done.set()
        thread.join()
