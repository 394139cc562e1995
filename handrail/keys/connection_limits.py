"""How many connections one address, and all together, may hold to a listening socket.

libzmq has no bound on connections, and each costs a file descriptor before it has proved anything.
So those that are too many are cut off as soon as libzmq says that it has taken them. What taking
and cutting costs is not bounded here: to keep a flood away from the socket is a firewall's work.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import time
from collections import Counter

from handrail.rate_limit import RateLimit, TokenBuckets

log = logging.getLogger(__name__)

PER_ADDRESS = 256  # [connections], of one address to one socket
TOTAL = 1024  # [connections], of all addresses to one socket
COMING = RateLimit(16.0, 256.0)  # of one address to one socket [connections/s, connections]
_SHARE = 4  # [-], a socket may use at most one in so many of the process's descriptors
_LOG_EVERY_S = 10.0  # [s], between log lines about connections that were cut, which cost nothing


class ConnectionLimits:
    """Counts a listening socket's connections and cuts off those that are too many.

    For one thread.
    """

    def __init__(
        self, per_address: int = PER_ADDRESS, total: int = TOTAL, coming: RateLimit = COMING
    ) -> None:
        """Set the limits.

        Args:
            per_address: Connections that one address may hold.
            total: Connections in all; no more than a quarter of the process's descriptors.
            coming: How many one address may make.
        """
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._total = min(total, max(descriptors // _SHARE, 8))
        self._per_address = min(per_address, 3 * self._total // 4)
        self._held: dict[int, str] = {}  # file descriptor -> address
        self._counts: Counter[str] = Counter()
        self._coming = TokenBuckets(coming)
        self._num_cut = 0
        self._logged_at = -_LOG_EVERY_S

    @property
    def held(self) -> int:
        """Connections that are open, proved or not."""
        return len(self._held)

    def opened(self, fd: int) -> None:
        """Count a connection that libzmq has taken; cut it off if it is one too many.

        Args:
            fd: Its descriptor, which stays libzmq's to close.
        """
        self.closed(fd)
        try:
            own = os.dup(fd)
        except OSError:
            return  # it is gone already
        try:
            sock = socket.socket(fileno=own)
        except OSError:
            os.close(own)
            return
        with sock, contextlib.suppress(OSError):
            address = sock.getpeername()[0]
            welcome = (
                len(self._held) < self._total
                and self._counts[address] < self._per_address
                and self._coming.take(address)
            )
            self._held[fd] = address
            self._counts[address] += 1
            if not welcome:
                sock.shutdown(socket.SHUT_RDWR)  # libzmq sees its end and closes it
                self._report(address)

    def closed(self, fd: int) -> None:
        """Forget a connection."""
        address = self._held.pop(fd, None)
        if address is not None:
            self._counts[address] -= 1
            if not self._counts[address]:
                del self._counts[address]

    def reset(self) -> None:
        """Forget every connection: libzmq has closed them."""
        self._held.clear()
        self._counts.clear()

    def _report(self, address: str) -> None:
        self._num_cut += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            log.warning(
                "%d connections are open, %d of them from %s: one too many or too fast was cut "
                "off, %d so far",
                len(self._held),
                self._counts[address],
                address,
                self._num_cut,
            )
