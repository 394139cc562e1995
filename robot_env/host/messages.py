"""The socket between host and client: small messages, file descriptors, and instant news of death.

A SOCK_SEQPACKET socket in Linux's abstract namespace: it has no file, keeps message boundaries, and
reads as ended the moment the other process is gone, however it went. A message is one letter and a
JSON object; bulk data goes through shared memory.
"""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any

from handrail import errors
from handrail.errors import DeviceLost, ProtocolMismatch

VERSION = 2  # of the messages and of the shared layout

WELCOME, DONE, ERROR = b"w", b"k", b"e"  # host to client
RESET, STEP, IMAGES, RENDER, DUMP, CLOSE = b"r", b"s", b"i", b"v", b"d", b"c"  # client to host
CRITIC = b"q"  # client to host, with a descriptor of the packed risk critic
RECOVER = b"o"  # client to host, because a person asked for it
CLAIM = b"a"  # client to host, with the host's key: asks for more than the policy's authority

_LONGEST = 65536  # bytes


def address(run_id: str) -> str:
    """Return the abstract socket name of a run's host."""
    return f"\0handrail-{run_id}-host"


def send(
    conn: socket.socket, kind: bytes, payload: dict[str, Any] | None = None, fd: int | None = None
) -> None:
    """Send one message, with a descriptor if one is given.

    Raises:
        DeviceLost: The other side is gone.
    """
    data = kind if payload is None else kind + json.dumps(payload).encode()
    try:
        if fd is None:
            conn.send(data, socket.MSG_NOSIGNAL)
        else:
            socket.send_fds(conn, [data], [fd], socket.MSG_NOSIGNAL)
    except OSError as error:
        raise DeviceLost(f"the other side of the socket is gone: {error}") from None


def receive(conn: socket.socket, flags: int = 0) -> tuple[bytes, dict[str, Any], int | None]:
    """Return kind, payload and descriptor of the next message.

    Raises:
        DeviceLost: The other side is gone.
        ProtocolMismatch: Not a message of this protocol.
        TimeoutError: The socket's timeout passed.
        BlockingIOError: `flags` has MSG_DONTWAIT and nothing is there.
    """
    try:
        data, fds, flag, _ = socket.recv_fds(conn, _LONGEST, 1, flags | socket.MSG_CMSG_CLOEXEC)
    except (TimeoutError, BlockingIOError):
        raise
    except OSError as error:
        raise DeviceLost(f"the other side of the socket is gone: {error}") from None
    fd = fds[0] if fds else None
    try:
        if not data:
            raise DeviceLost("the other side of the socket is gone")
        if flag & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ProtocolMismatch(f"a message is at most {_LONGEST} bytes and one descriptor")
        try:
            payload = json.loads(data[1:]) if len(data) > 1 else {}
        except (ValueError, RecursionError):
            raise ProtocolMismatch(f"message {data[:40]!r} is not a letter and JSON") from None
        if not isinstance(payload, dict):
            raise ProtocolMismatch(f"message {data[:40]!r} does not hold a JSON object")
    except BaseException:
        if fd is not None:
            os.close(fd)
        raise
    return data[:1], payload, fd


def peer(conn: socket.socket) -> tuple[int, int]:
    """Return process id and user id of the other side, as the kernel vouches for them."""
    pid, uid, _ = struct.unpack(
        "3i", conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    )
    return pid, uid


def pack_error(error: Exception) -> dict[str, Any]:
    """Return an error as a payload that `raise_error` turns back into the same class."""
    name = type(error).__name__
    return {"error": name if _error_class(name) else "Error", "message": str(error)}


def raise_error(payload: dict[str, Any]) -> None:
    """Raise the error that the other side met.

    Raises:
        Error: Always, of the class that the payload names.
    """
    raise (_error_class(str(payload.get("error"))) or errors.Error)(str(payload.get("message")))


def _error_class(name: str) -> type[Exception] | None:
    found = getattr(errors, name, None)
    return found if isinstance(found, type) and issubclass(found, errors.Error) else None
