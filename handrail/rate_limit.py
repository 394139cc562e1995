"""How much each client may ask for: token buckets, a bounded number of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

_MAX_CLIENTS = 4096  # [-], that are remembered; only hosts with listed keys have a bucket


class RateLimit(NamedTuple):
    """What one client may use."""

    rate: float  # [units/s]
    burst: float  # [units], at once


class TokenBuckets:
    """One bucket a client, full at first; for one thread."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._tokens: OrderedDict[str, tuple[float, float]] = OrderedDict()  # units, time [s]

    def take(self, client: str, amount: float = 1.0, now: float | None = None) -> bool:
        """Take from a client's bucket if there is any left in it; return whether there was.

        A single amount may be larger than what is left: the debt is paid back by waiting.

        Args:
            client: Who.
            amount: How much.
            now: Monotonic time [s]; None for the present.
        """
        now = time.monotonic() if now is None else now
        tokens, before = self._tokens.pop(client, (self._limit.burst, now))
        tokens = min(self._limit.burst, tokens + self._limit.rate * (now - before))
        enough = tokens > 0.0
        self._tokens[client] = (tokens - amount if enough else tokens, now)
        while len(self._tokens) > _MAX_CLIENTS:
            self._tokens.popitem(last=False)
        return enough
