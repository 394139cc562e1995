"""An actor's end of the stream, rows to send, and waiting for what comes."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from handrail.link.receiver import StreamReceiver
from handrail.link.sender import StreamSender
from handrail.link.transition_codec import encode_row
from handrail.link.wire import Hello
from handrail.spec import EnvSpec, slices_of
from handrail.storage.spool import RETAIN_BYTES, Spool
from handrail.transition import Source, Transition

SPEC = EnvSpec("toy", "0123", 10.0, 50, slices_of(pose=7, wrench=6), 4)


T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(kind: str, abstract: str, folder: Path) -> str:
    """Return a free address: "tcp", "file" for a socket in a folder, else the abstract one."""
    if kind == "tcp":
        return f"tcp://127.0.0.1:{free_port()}"
    return f"ipc://{folder}/s" if kind == "file" else abstract


def make_row(t: int, actor: int = 0) -> Transition:
    z = np.zeros(SPEC.action, np.float32)
    return Transition(actor, t, Source.ONLINE, np.full(SPEC.state, t, np.float32), z, z, z, z)


def blob(t: int, actor: int = 0) -> bytes:
    return encode_row(make_row(t, actor), SPEC)


def until(condition: Callable[[], T | None], timeout_s: float = 30.0) -> T:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.005)
    return value


def take(receiver: StreamReceiver, count: int, timeout_s: float = 10.0) -> list[int]:
    got: list[int] = []
    deadline = time.monotonic() + timeout_s
    while len(got) < count:
        assert time.monotonic() < deadline, f"got {len(got)} of {count} rows in time"
        got += [row.t for _, row in receiver.poll(0.05)]
    return got


class Side:
    """An actor's end: spool and sender."""

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        name: str = "arm",
        retain_bytes: int = RETAIN_BYTES,
        **options: float,
    ) -> None:
        self.spool = Spool(folder / f"{name}.db", retain_bytes=retain_bytes)
        hello = Hello.of(name, self.spool.session, SPEC)
        self.sender = StreamSender(endpoint, self.spool, hello, **options)  # type: ignore[arg-type]

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.close()
        self.spool.close()
