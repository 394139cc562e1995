"""What the processes of a run talk through."""

from __future__ import annotations

import mmap
import os
import socket
from collections.abc import Callable

from handrail.checks.install import pip_line
from handrail.checks.result import FAIL, OK, CheckResult


def local_ipc() -> list[CheckResult]:
    """Try what the processes of a run talk through: sockets without names on disk, memory files."""
    return [
        _try("anonymous shared memory", _try_memfd, "a Linux kernel 3.17 or newer"),
        _try("local sockets", _try_socket, "a system that has abstract unix sockets (Linux)"),
        _try("ZeroMQ ipc", _try_zmq, pip_line("")),
    ]


def _try(name: str, action: Callable[[], None], remedy: str) -> CheckResult:
    try:
        action()
    except Exception as error:  # whatever it is, the link doesn't work, and the report says why
        return CheckResult("links", name, FAIL, f"doesn't work: {error}", remedy)
    return CheckResult("links", name, OK, "works")


def _try_memfd() -> None:
    file = os.memfd_create("handrail-doctor")
    try:
        os.ftruncate(file, 4096)
        with mmap.mmap(file, 4096) as memory:
            memory[:4] = b"here"
    finally:
        os.close(file)


def _try_socket() -> None:
    name = f"\0handrail-doctor-{os.getpid()}"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client,
    ):
        server.bind(name)
        server.listen(1)
        client.connect(name)


def _try_zmq() -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.PAIR) as a, context.socket(zmq.PAIR) as b:
        address = f"ipc://@handrail-doctor-{os.getpid()}"
        a.bind(address)
        b.connect(address)
        b.send(b"here")
        if not a.poll(2000):
            raise TimeoutError("no message within 2 s")
        a.recv()
