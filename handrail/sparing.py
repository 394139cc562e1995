"""A log that one message can't fill: of each kind a few pass, then it says how many did not."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from handrail.keys.budget import Budget, Budgets

BUDGET = Budget(0.2, 20.0)  # of one kind of message [messages/s, messages]


class Sparing(logging.Filter):
    """Lets a message pass while its kind has not had its share; says how many did not."""

    def __init__(self, budget: Budget = BUDGET) -> None:
        super().__init__()
        self._budgets = Budgets(budget)
        self._left_out: Counter[str] = Counter()
        self._guard = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is written."""
        kind = f"{record.name} {record.levelno} {record.msg}"  # whatever the arguments
        with self._guard:
            if not self._budgets.take(kind):
                self._left_out[kind] += 1
                return False
            left_out = self._left_out.pop(kind, 0)
        if left_out:
            text = record.getMessage()
            record.msg, record.args = f"{text} (and {left_out} like it before)", None
        return True
