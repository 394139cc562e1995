"""A log that one message can't fill: of each kind a few pass, then it says how many did not."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from handrail.rate_limit import RateLimit, TokenBuckets

LIMIT = RateLimit(0.2, 20.0)  # of one kind of message [messages/s, messages]


class RateLimitedFilter(logging.Filter):
    """Lets a message pass while its kind has not had its share; says how many did not."""

    def __init__(self, limit: RateLimit = LIMIT) -> None:
        super().__init__()
        self._buckets = TokenBuckets(limit)
        self._left_out: Counter[str] = Counter()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        kind = f"{record.name} {record.levelno} {record.msg}"  # whatever the arguments
        with self._lock:
            if not self._buckets.take(kind):
                self._left_out[kind] += 1
                return False
            left_out = self._left_out.pop(kind, 0)
        if left_out:
            text = record.getMessage()
            record.msg, record.args = f"{text} (and {left_out} like it before)", None
        return True
