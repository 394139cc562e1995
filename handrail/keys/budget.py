"""How much each client may ask for: token buckets, a bounded number of them."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

_MAX_CLIENTS = 4096  # [-], that are remembered; only hosts with listed keys have a bucket


class Budget(NamedTuple):
    """What one client may use."""

    rate: float  # [units/s]
    burst: float  # [units], at once


class Budgets:
    """One bucket a client, full at first; for one thread."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # units, time [s]

    def take(self, client: str, amount: float = 1.0, now: float | None = None) -> bool:
        """Take from a client's bucket if there is any left in it; return whether there was.

        A single amount may be larger than what is left: the debt is paid back by waiting.

        Args:
            client: Who.
            amount: How much.
            now: Monotonic time [s]; None for the present.
        """
        now = time.monotonic() if now is None else now
        left, before = self._left.pop(client, (self._budget.burst, now))
        left = min(self._budget.burst, left + self._budget.rate * (now - before))
        enough = left > 0.0
        self._left[client] = (left - amount if enough else left, now)
        while len(self._left) > _MAX_CLIENTS:
            self._left.popitem(last=False)
        return enough
