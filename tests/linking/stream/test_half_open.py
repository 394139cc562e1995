"""A connection whose other end vanished without a word is noticed, and made anew.

So it is when a host loses its power, or a router on the way forgets the connection.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_link import SPEC, Side, blob, free_port, until

from handrail.errors import LinkTimeout
from handrail.link.receiver import StreamReceiver
from handrail.link.rpc import RpcClient, RpcServer
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber
from learner.store.store import Store


class Wire:
    """Forwards TCP connections to a port until told to leave those that are there half open."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"
        self.connections = 0
        self._ends: list[tuple[socket.socket, socket.socket]] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def vanish(self) -> None:
        """Take the far ends away; the near ends stay open and nobody answers there."""
        for _, far in self._ends:
            with contextlib.suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        ends = [end for pair in self._ends for end in pair]
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for end in (self._server, *ends):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            self.connections += 1
            self._ends.append((near, far))
            for ends in ((near, far), (far, near)):
                self._threads.append(threading.Thread(target=self._forward, args=ends))
                self._threads[-1].start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        while True:
            try:
                data = source.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            try:
                target.sendall(data)
            except OSError:
                continue  # what is sent into a half-open connection is lost


@pytest.fixture
def wire() -> Iterator[tuple[Wire, str]]:
    port = free_port()
    made = Wire(port)
    yield made, f"tcp://127.0.0.1:{port}"
    made.close()


@pytest.mark.slow
def test_rows_go_on_over_a_new_connection(wire: tuple[Wire, str], tmp_path: Path) -> None:
    way, behind = wire
    with (
        Store(tmp_path / "store.db", SPEC) as store,
        StreamReceiver(behind, store, SPEC) as receiver,
        Side(tmp_path, way.endpoint) as actor,
    ):
        actor.spool.append(blob(0))
        until(lambda: receiver.poll(0.05))
        way.vanish()
        actor.spool.append(blob(1))
        until(lambda: receiver.poll(0.05), 25.0)
        assert len(store) == 2
        assert way.connections == 2


@pytest.mark.slow
def test_newest_weights_come_over_a_new_connection(
    wire: tuple[Wire, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handrail.link.weights_pubsub._PEER_TIMEOUT_S", 2.0)
    way, behind = wire
    with (
        WeightsPublisher(behind) as broadcaster,
        WeightsSubscriber(way.endpoint, ("policy",)) as subscriber,
    ):
        broadcaster.publish("policy", {"version": 1}, {"w": np.ones(3)})
        assert until(lambda: subscriber.latest("policy"))[0] == {"version": 1}
        way.vanish()
        broadcaster.publish("policy", {"version": 2}, {"w": np.ones(3)})
        assert until(lambda: subscriber.latest("policy"), 15.0)[0] == {"version": 2}


@pytest.mark.slow
def test_questions_are_answered_over_a_new_connection(wire: tuple[Wire, str]) -> None:
    way, behind = wire
    with (
        RpcServer(behind, {"status": lambda _: {"rows": 3}}) as server,
        RpcClient(way.endpoint) as client,
    ):
        stop = threading.Event()
        thread = threading.Thread(target=lambda: _serve(server, stop))
        thread.start()
        try:
            assert client.call("status") == {"rows": 3}
            way.vanish()
            deadline = time.monotonic() + 25.0
            while True:
                try:
                    assert client.call("status", timeout_s=0.5) == {"rows": 3}
                    break
                except LinkTimeout:
                    assert time.monotonic() < deadline, "the client stayed with a dead connection"
        finally:
            stop.set()
            thread.join()


def _serve(server: RpcServer, stop: threading.Event) -> None:
    while not stop.is_set():
        server.poll()
        time.sleep(0.01)
