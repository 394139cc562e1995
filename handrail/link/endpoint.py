"""Addresses of the link, sockets on them, and a way to wake a thread that waits on a socket."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import threading
from urllib.parse import urlsplit

import zmq

from handrail.errors import ConfigError

_IPC_MAX = 107  # [B], length of a unix socket's path in Linux
_MAX_MESSAGE = 1 << 30  # [B], a longer message closes the connection that sent it
PEER_TIMEOUT_S = 5.0  # [s], a peer whose machine or network says nothing for so long has vanished


def check_endpoint(endpoint: str, keyed: bool = False) -> None:
    """Raise unless this is an address that the link may use.

    Args:
        endpoint: The address.
        keyed: Both sides prove themselves by keys.

    Raises:
        ConfigError: Unknown form, too long, a port out of range, or without keys and not on this
            machine.
    """
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc" and rest not in ("", "@"):
        if len(rest.encode()) > _IPC_MAX:
            raise ConfigError(
                f"endpoint {endpoint!r}: the name has {len(rest.encode())} bytes, a unix socket's "
                f"may have {_IPC_MAX}; use a shorter one, or ipc://@name"
            )
        return
    if scheme != "tcp":
        raise ConfigError(
            f"endpoint must be ipc://@name, ipc:///path or tcp://127.0.0.1:port, got {endpoint!r}"
        )
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        host, port = "", 0
    if not 0 < port < 65536:
        raise ConfigError(f"endpoint {endpoint!r} needs a port from 1 to 65535")
    if not (keyed or is_loopback(host)):
        raise ConfigError(
            f"endpoint {endpoint!r} is not on this machine: without keys the link uses loopback "
            "addresses only (127.0.0.1, ::1); run: handrail keys new, and name the folder of the "
            "keys by [link] keys"
        )


def is_loopback(host: str) -> bool:
    """Return whether an address is surely one of this machine's alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def new_socket(
    context: zmq.Context,
    kind: int,
    max_message: int = _MAX_MESSAGE,
    queue: int | None = None,
    peer_timeout_s: float | None = None,
) -> zmq.Socket:
    """Return a socket that never holds up the end of a process and bounds what it takes in.

    Args:
        context: To make it in.
        kind: ZeroMQ's type of socket.
        max_message: A longer frame closes the connection that sent it [B].
        queue: Messages of one peer that may wait to be taken; ZeroMQ's own number where None.
        peer_timeout_s: A connection on which nothing comes for so long, not even an answer to
            libzmq's own question, is given up, and made anew by the side that connects. Longer than
            the longest message takes [s]. None to leave it to TCP, which takes a quarter of an
            hour.
    """
    sock = context.socket(kind)
    sock.linger = 0
    sock.maxmsgsize = max_message
    if queue is not None:
        sock.rcvhwm = queue
    if peer_timeout_s is not None:
        sock.heartbeat_ivl = int(1e3 * peer_timeout_s / 5)
        sock.heartbeat_timeout = int(1e3 * peer_timeout_s)
    sock.ipv6 = False
    return sock


def bind(sock: zmq.Socket, endpoint: str, keyed: bool = False) -> None:
    """Bind a socket.

    Args:
        sock: Not bound yet.
        endpoint: Address to listen at.
        keyed: Whether keys guard it, so that other machines may come.

    Raises:
        ConfigError: The address is not allowed, or in use.
    """
    check_endpoint(endpoint, keyed)
    path = endpoint.removeprefix("ipc://")
    # libzmq removes an existing socket file before it binds, alive or not.
    if path != endpoint and not path.startswith("@") and _answers(path):
        raise ConfigError(f"endpoint {endpoint!r} is in use by another process")
    sock.ipv6 = "[" in endpoint
    try:
        sock.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise ConfigError(
                f"endpoint {endpoint!r} is in use by another process; stop that one or choose "
                "another address"
            ) from None
        raise ConfigError(f"can't listen on endpoint {endpoint!r}: {error}") from None


def connect(sock: zmq.Socket, endpoint: str) -> None:
    """Connect a socket; it keeps trying by itself while nobody listens.

    Raises:
        ConfigError: The address is not allowed.
    """
    check_endpoint(endpoint)
    sock.ipv6 = "[" in endpoint
    sock.reconnect_ivl = 50
    sock.reconnect_ivl_max = 500
    try:
        sock.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigError(f"can't connect to endpoint {endpoint!r}: {error}") from None


def _answers(path: str) -> bool:
    probe = socket.socket(socket.AF_UNIX)
    with probe, contextlib.suppress(OSError):
        probe.connect(path)
        return True
    return False


class EventFd:
    """A flag that a thread can wait for together with its sockets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # nobody may write to a descriptor that was reused
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor to poll for reading."""
        return self._fd

    def set(self) -> None:
        """EventFd the waiting thread; nothing happens after `close`."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Take the flag down."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Free the descriptor."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
