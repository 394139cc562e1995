"""Hosts with keys, and the learner's three sockets with one actor's end of each."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from made_link import SPEC, T

from handrail.keys import commands, files
from handrail.keys.host_keys import HostKeys
from handrail.link.receiver import StreamReceiver
from handrail.link.rpc import RpcClient, RpcServer
from handrail.link.sender import StreamSender
from handrail.link.weights_pubsub import WeightsPublisher, WeightsSubscriber
from handrail.link.wire import Hello
from handrail.storage.spool import Spool
from learner.store.store import Store


def keys(folder: Path, *arguments: str) -> None:
    """Run `handrail keys` on a host's folder."""
    assert commands.main([*arguments, "--keys", str(folder)]) == 0


def new_host(folder: Path) -> str:
    """Give a host keys; return the public one."""
    keys(folder, "new")
    return files.read_pair(folder).public


def free_ports(host: str = "127.0.0.1") -> list[str]:
    """Return three addresses that are free."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(3)]
        for probe in probes:
            probe.bind((host, 0))
        return [f"tcp://{host}:{probe.getsockname()[1]}" for probe in probes]


class Learner:
    """The learner's three sockets over one store."""

    def __init__(self, folder: Path, addresses: list[str], host: HostKeys | None) -> None:
        self.store = Store(folder / "store.db", SPEC)
        self.stream = StreamReceiver(addresses[0], self.store, SPEC, host)
        self.broadcast = WeightsPublisher(addresses[1], host)
        self.requests = RpcServer(addresses[2], {"status": lambda _: {"alive": True}}, host)

    def serve(self) -> None:
        self.stream.poll(0.01)
        self.requests.poll()

    def close(self) -> None:
        for owner in (self.stream, self.broadcast, self.requests, self.store):
            owner.close()


class Actor:
    """One actor's end of the three flows."""

    def __init__(
        self, folder: Path, addresses: list[str], host: HostKeys | None, name: str = "arm"
    ) -> None:
        self.spool = Spool(folder / f"{name}.db")
        hello = Hello.of(name, self.spool.session, SPEC)
        self.sender = StreamSender(addresses[0], self.spool, hello, keys=host, answer_s=1.0)
        self.weights = WeightsSubscriber(addresses[1], ("policy",), keys=host)
        self.requests = RpcClient(addresses[2], keys=host)

    def close(self) -> None:
        for owner in (self.sender, self.weights, self.requests, self.spool):
            owner.close()


@contextlib.contextmanager
def opened(*owners: T) -> Iterator[tuple[T, ...]]:
    with contextlib.ExitStack() as stack:
        for owner in owners:
            stack.callback(owner.close)  # type: ignore[attr-defined]
        yield owners
