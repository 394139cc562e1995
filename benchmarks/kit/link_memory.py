"""A spool and a store without a disk: `link.py` tells the link's cost from the disk's."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from handrail.storage.spool import SpoolRow


class MemorySpool:
    """A spool without a disk: what the sender needs of `Spool`."""

    error = None
    last_store = ("", 0)

    def __init__(self) -> None:
        self.session = str(uuid.uuid4())
        self._rows: dict[int, SpoolRow] = {}
        self._first = self._next = 1
        self._wake: Callable[[], None] | None = None

    def append(self, blob: bytes) -> None:
        """Take a row."""
        self._rows[self._next] = SpoolRow(self._next, self.session, self._next, blob)
        self._next += 1
        if self._wake is not None:
            self._wake()

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[SpoolRow]:
        """Return rows in order, at least one if there is any."""
        rows, size = [], 0
        for number in range(max(after + 1, self._first), self._next):
            row = self._rows[number]
            size += len(row.blob)
            if rows and (size > max_bytes or len(rows) == max_rows):
                break
            rows.append(row)
        return rows

    def acknowledge(self, session: str, seq: int) -> tuple[int, int]:
        """Let go of rows; return the last one let go and how many those were."""
        before = self._first
        while self._first <= seq:
            del self._rows[self._first]
            self._first += 1
        return self._first - 1, self._first - before

    def acknowledged_id(self) -> int:
        """Return the last row that was let go."""
        return self._first - 1

    def first_retained_seq(self, session: str) -> int:
        """Return the first row held."""
        return self._first

    def first_retained(self) -> dict[str, int]:
        """Return the first row held, by session."""
        return {self.session: self._first}

    @property
    def depth(self) -> int:
        """Number of rows held."""
        return self._next - self._first

    @property
    def depth_bytes(self) -> int:
        """Bytes of the rows held [B]."""
        first = self._rows.get(self._first)  # the sender may let it go meanwhile
        return self.depth * len(first.blob) if first is not None else 0

    def resend_from(self, session: str, seq: int) -> int:
        """Return how many rows are due again: none, they are gone once acknowledged."""
        return 0

    def set_last_store(self, store: str, epoch: int) -> None:
        """Forget which store rows go to."""

    def on_durable(self, call: Callable[[], None] | None) -> None:
        """Have `call` run after each row."""
        self._wake = call

    def close(self) -> None:
        """Let go of everything."""
        self._rows.clear()


class MemoryStore:
    """A store without a disk that counts rows per actor: what the receiver needs of `Store`."""

    uuid, epoch = "0", 0

    def __init__(self) -> None:
        self._high: dict[str, int] = {}
        self._actor: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    def open_sessions(self, sessions: Iterable[str], actor: str) -> dict[str, int]:
        """Make sessions known; return the newest row of each."""
        self._actor |= dict.fromkeys(sessions, actor)
        return {session: self._high.setdefault(session, 0) for session in sessions}

    def last_durable(self, session: str) -> int:
        """Return the newest row of a session."""
        return self._high[session]

    def count_missing(self, session: str, first: int, last: int) -> int:
        """Return how many of those rows are not there."""
        return max(0, last - max(self._high[session], first - 1))

    def put(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Count rows; nobody asks for them."""
        for session, seq, _, _ in rows:
            self._high[session] = seq
            self.counts[self._actor[session]] += 1
        return []
