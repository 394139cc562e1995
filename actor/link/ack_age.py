"""How long rows have been waiting for the learner's acknowledgement."""

from __future__ import annotations

from collections import deque

MARK_S = 0.1  # [s], rows made closer together than this count as of one time


class AckAge:
    """Follows rows in the order in which they were made; rows leave in that order too.

    Rows of a dead predecessor, which nobody here saw being made, count as made at the beginning.
    """

    def __init__(self, waiting: int, now: float) -> None:
        """Begin.

        Args:
            waiting: Rows that wait already.
            now: Monotonic clock [s].
        """
        self._made = waiting
        self._marks: deque[tuple[int, float]] = deque()  # rows made before, time of the next
        if waiting:
            self._marks.append((0, now))

    def add(self, now: float) -> None:
        """Count a row that is made now, by the monotonic clock [s]."""
        if not self._marks or now - self._marks[-1][1] >= MARK_S:
            self._marks.append((self._made, now))
        self._made += 1

    def age(self, waiting: int, now: float) -> float:
        """Return for how long the oldest row has waited [s], 0 where none waits.

        Args:
            waiting: Rows that wait now, the newest ones.
            now: Monotonic clock [s].
        """
        gone = self._made - waiting
        while len(self._marks) > 1 and self._marks[1][0] <= gone:
            self._marks.popleft()
        return now - self._marks[0][1] if waiting > 0 and self._marks else 0.0
