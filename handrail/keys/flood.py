"""A listening socket that takes no more connections from a host that holds or makes too many.

libzmq has no bound on connections, and each costs a file descriptor and some of the learner's time
before it has proved anything. So the listening socket is ours, and while a source is over its share
a filter on that socket has the kernel drop its packets; connections that are open go on, other
hosts see nothing of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import os
import resource
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable

from handrail.errors import ConfigError
from handrail.rate_limit import RateLimit, TokenBuckets

log = logging.getLogger(__name__)

PER_SOURCE = 256  # [connections], of one host to one socket
TOTAL = 1024  # [connections], of all hosts to one socket
COMING = RateLimit(16.0, 256.0)  # of one host to one socket [connections/s, connections]
PAUSE_S = 2.0  # [s], for which a host that is faster is shut out
_SHARE = 4  # [-], a socket may use at most one in so many of the process's descriptors
_BACKLOG = 128  # [connections], that the kernel completes before they are taken
_MAX_BLOCKED = 32  # [-], sources in one filter; with more everybody waits
_ATTACH_FILTER, _DETACH_FILTER = 26, 27  # SO_ATTACH_FILTER, SO_DETACH_FILTER of Linux
_LOAD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06  # classic BPF: load a word, compare, return
_NETWORK_HEADER = -0x100000  # offset that means the IP header
_SOURCE = {socket.AF_INET: 12, socket.AF_INET6: 8}  # [B], where a source address is in it


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("true", ctypes.c_ubyte),
        ("false", ctypes.c_ubyte),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("start", ctypes.POINTER(_Instruction)))


class Gate:
    """Listens for a ZeroMQ socket and bounds the connections that it holds; for one thread."""

    def __init__(
        self,
        host: str,
        port: int,
        per_source: int = PER_SOURCE,
        total: int = TOTAL,
        coming: RateLimit = COMING,
    ) -> None:
        """Listen.

        Args:
            host: Address of an interface; "*" for all that speak IPv4.
            port: TCP port.
            per_source: Connections that one host may hold.
            total: Connections in all.
            coming: How many one host may make.

        Raises:
            ConfigError: No such address, or it is in use.
        """
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.total = min(total, max(descriptors // _SHARE, 8))
        self.per_source = min(per_source, 3 * self.total // 4)
        self._held: dict[int, str] = {}
        self._coming = TokenBuckets(coming)
        self._hurried: dict[str, float] = {}  # source -> end of its pause, monotonic [s]
        self._blocked: frozenset[str] | None = frozenset()
        self._able = True
        where = f"tcp://{host}:{port}"
        try:
            found = socket.getaddrinfo(
                "0.0.0.0" if host == "*" else host, port, type=socket.SOCK_STREAM
            )
            self.family, _, _, _, address = found[0]
        except OSError as error:
            raise ConfigError(f"endpoint {where!r}: {error.strerror}") from None
        self._sock = socket.socket(self.family, socket.SOCK_STREAM)
        try:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if self.family == socket.AF_INET6:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._sock.setblocking(False)
            self._sock.bind(address)
            # What one source has waiting when it is shut out must not use up everybody's share.
            self._sock.listen(max(1, min(_BACKLOG, (self.total - self.per_source) // 2)))
        except OSError as error:
            self._sock.close()
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"endpoint {where!r} is in use by another process; stop that one or choose "
                    "another address"
                ) from None
            raise ConfigError(f"can't listen on endpoint {where!r}: {error.strerror}") from None

    @property
    def held(self) -> int:
        """Connections that are open, proved or not."""
        return len(self._held)

    def descriptor(self) -> int:
        """Return a new descriptor of the listening socket, for libzmq to use and to close."""
        return os.dup(self._sock.fileno())

    def opened(self, fd: int) -> None:
        """Count a connection that libzmq has taken."""
        source = "?"
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as peer:
            source = peer.getpeername()[0]
        self._held[fd] = source
        if source != "?" and not self._coming.take(source):
            self._hurried[source] = time.monotonic() + PAUSE_S
        self._apply()

    def closed(self, fd: int) -> None:
        """Forget a connection."""
        self._held.pop(fd, None)
        self._apply()

    def look(self) -> float | None:
        """Let in again whose pause is over; return when to look again [s], None if nobody waits."""
        now = time.monotonic()
        over = [source for source, end in self._hurried.items() if end <= now]
        for source in over:
            del self._hurried[source]
        if over:
            self._apply()
        return min(self._hurried.values()) - now if self._hurried else None

    def forget(self) -> None:
        """Forget every connection: libzmq has closed them."""
        self._held.clear()
        self._apply()

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()

    def _apply(self) -> None:
        counts = Counter(self._held.values())
        counts.pop("?", None)
        over = frozenset(source for source, held in counts.items() if held >= self.per_source)
        over |= self._hurried.keys()
        blocked = None if len(self._held) >= self.total or len(over) > _MAX_BLOCKED else over
        if blocked == self._blocked or not self._able:
            return
        try:
            if blocked == frozenset():
                self._sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)
            else:
                self._attach(program(self.family, blocked))
        except OSError as error:
            self._able = False
            log.error("connections are not bounded, the kernel takes no filter: %s", error)
            return
        if blocked is None or blocked - (self._blocked or frozenset()):
            who = "every host" if blocked is None else ", ".join(sorted(blocked))
            log.warning("%d connections: no new ones from %s for now", len(self._held), who)
        self._blocked = blocked

    def _attach(self, instructions: list[tuple[int, int, int, int]]) -> None:
        array = (_Instruction * len(instructions))(*[_Instruction(*i) for i in instructions])
        linked = _Program(len(instructions), array)
        self._sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, bytes(linked))


def program(family: int, blocked: Iterable[str] | None) -> list[tuple[int, int, int, int]]:
    """Return a filter that drops packets of some sources and lets the others pass.

    Args:
        family: AF_INET or AF_INET6.
        blocked: Addresses; None for every source.

    Returns:
        Classic BPF instructions: code, jump if true, jump if false, constant.
    """
    drop, keep = (_RETURN, 0, 0, 0), (_RETURN, 0, 0, 0xFFFFFFFF)
    if blocked is None:
        return [drop]
    instructions = []
    for source in sorted(blocked):
        raw = socket.inet_pton(family, source.split("%")[0])
        words = struct.unpack(f"!{len(raw) // 4}I", raw)
        for i, word in enumerate(words):
            offset = (_NETWORK_HEADER + _SOURCE[socket.AddressFamily(family)] + 4 * i) & 0xFFFFFFFF
            instructions.append((_LOAD, 0, 0, offset))
            instructions.append((_JUMP_EQUAL, 0, 2 * (len(words) - 1 - i) + 1, word))
        instructions.append(drop)
    return [*instructions, keep]
