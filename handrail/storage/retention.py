"""Which acknowledged rows of a spool are kept: the newest, up to so many bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

_GROUP_BITS = 8  # rows are counted and deleted in groups of 2^8 consecutive numbers


class RowRange(NamedTuple):
    """Consecutive acknowledged rows of one session."""

    number: int  # of the session
    first: int  # [-], seq
    last: int  # [-], seq
    bytes: int


class RetentionWindow:
    """Acknowledged rows in the order in which they were acknowledged."""

    def __init__(self, limit: int) -> None:
        self.limit = limit  # [B]
        self.bytes = 0  # [B], of all ranges
        self.last_counted: dict[int, int] = {}  # session number -> last seq in a range
        self._ranges: deque[RowRange] = deque()

    def add(self, number: int, first: int, last: int, size: int) -> None:
        """Count rows `first` to `last` of a session, of `size` bytes."""
        self._ranges.append(RowRange(number, first, last, size))
        self.last_counted[number] = last
        self.bytes += size

    def unacknowledge(self, number: int, first: int) -> None:
        """Rows of a session from `first` on are not acknowledged any more."""
        if self.last_counted.get(number, 0) < first:
            return
        kept = [c for c in self._ranges if c.number != number or c.last < first]
        # A range that straddles is dropped whole; what it leaves out is counted again by the caller
        # once its rows are acknowledged again.
        self.last_counted[number] = max((c.last for c in kept if c.number == number), default=0)
        self._ranges = deque(kept)
        self.bytes = sum(c.bytes for c in kept)

    def undo_evict(self, ranges: list[RowRange]) -> None:
        """Undo `evict`."""
        self._ranges.extendleft(reversed(ranges))
        self.bytes += sum(row_range.bytes for row_range in ranges)

    def evict(self, limit: int) -> list[RowRange]:
        """Take out and return the oldest ranges beyond `limit` bytes."""
        found: list[RowRange] = []
        while self._ranges and self.bytes > limit:
            found.append(self._ranges.popleft())
            self.bytes -= found[-1].bytes
        return found


def retained_ranges(
    select: Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]], after: int, last: int
) -> list[tuple[int, int, int]]:
    """Return first id, last id and bytes of groups of rows with ids in (after, last]."""
    return [
        (low, high, int(size))
        for low, high, size in select(
            "SELECT min(id), max(id), total(length(blob)) FROM rows WHERE id > ? AND id <= ? "
            f"GROUP BY id >> {_GROUP_BITS} ORDER BY 1",
            (after, last),
        )
    ]
