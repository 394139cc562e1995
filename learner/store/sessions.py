"""Which numbers of each session a store has, and which are known to be lost.

A number of a session that has no row is in table `gaps`, with the reason. What is neither there nor
in a gap is asked for again from the actor: `high` stops before it.
"""

from __future__ import annotations

from types import NoneType
from typing import NamedTuple

from handrail.errors import StorageError
from handrail.storage.database import Database, check_column_types


class Gap(NamedTuple):
    """Consecutive numbers of a session that nobody has; a row of table `gaps`."""

    number: int  # of the session
    first: int
    last: int
    why: str


class Sessions:
    """Sessions of a store by UUID, as its tables had them and as was settled since."""

    def __init__(self, database: Database) -> None:
        self._db = database
        known = database.select("SELECT number, uuid, actor FROM sessions")
        self._known: dict[str, tuple[int, str]] = {  # session -> number, actor
            name: (number, actor)
            for number, name, actor in check_column_types(database.path, known, int, str, str)
        }
        self._gaps: dict[int, list[tuple[int, int]]] = {}  # number -> first and last
        query = "SELECT session, first, last FROM gaps ORDER BY session, first"
        gaps = database.select(query) if database.format > 1 else []
        for number, first, last in check_column_types(database.path, gaps, int, int, int):
            if not 0 < first <= last:
                raise StorageError(f"{database.path} is damaged: a gap from {first} to {last}")
            self._gaps.setdefault(number, []).append((first, last))
        self._top: dict[str, int] = {}  # session -> highest seq there, or in a gap
        self._high: dict[str, int] = {}  # session -> seq up to which nothing is amiss
        for session in self._known:
            self._survey(session)

    def __contains__(self, session: str) -> bool:
        return session in self._known

    def __getitem__(self, session: str) -> tuple[int, str]:
        """Return a session's number and actor."""
        return self._known[session]

    @property
    def next_number(self) -> int:
        """Number for a new session."""
        return max((number for number, _ in self._known.values()), default=0) + 1

    def add(self, session: str, number: int, actor: str) -> None:
        """Know a new session."""
        self._known[session] = (number, actor)
        self._high[session] = self._top[session] = 0

    def last_durable(self, session: str) -> int:
        """Return the number up to which a session's rows are here or lost, 0 if none are."""
        return self._high.get(session, 0)

    def has(self, session: str, seq: int) -> bool:
        """Return whether a session's row is here."""
        if seq > self._top[session]:
            return False
        number, _ = self._known[session]
        return bool(
            self._db.select("SELECT 1 FROM rows WHERE session = ? AND seq = ?", (number, seq))
        )

    def count_missing(self, session: str, first: int, last: int) -> int:
        """Return how many of a session's rows from `first` to `last` are not here."""
        number, _ = self._known[session]
        ((count,),) = self._db.select(
            "SELECT count(*) FROM rows WHERE session = ? AND seq BETWEEN ? AND ?",
            (number, first, last),
        )
        return last + 1 - first - count

    def gaps_between(self, session: str, first: int, last: int) -> list[Gap]:
        """Return the gaps among numbers from `first` to `last` that are not known yet."""
        number, _ = self._known[session]
        there = self._db.select(
            "SELECT seq FROM rows WHERE session = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (number, first, last),
        )
        known = self._gaps.get(number, [])
        found = []
        for (seq,) in [*there, (last + 1,)]:
            if seq > first and not any(a <= first and seq - 1 <= b for a, b in known):
                found.append(Gap(number, first, seq - 1, "lost"))
            first = seq + 1
        return found

    def commit(self, high: dict[str, int], lost: list[Gap]) -> None:
        """Take in what was committed: per session the last number stored, and new gaps."""
        for gap in lost:
            self._gaps.setdefault(gap.number, []).append((gap.first, gap.last))
        for session, seq in high.items():
            if seq >= self._top[session]:
                self._top[session] = self._high[session] = seq
            else:  # a hole was filled: what lies behind it counts again
                self._survey(session)

    def _survey(self, session: str) -> None:
        """Find out up to which number a session is complete."""
        number, _ = self._known[session]
        query = "SELECT count(*), max(seq) FROM rows WHERE session = ?"
        found = self._db.select(query, (number,))
        ((count, top),) = check_column_types(self._db.path, found, int, (int, NoneType))
        gaps = self._gaps.get(number, [])
        top = max(top or 0, *(last for _, last in gaps), 0)
        count += sum(last + 1 - first for first, last in gaps)
        self._top[session] = self._high[session] = top
        if count == top:
            return
        due = 1
        ends = dict(gaps)
        cursor = self._db.writer.execute(
            "SELECT seq FROM rows WHERE session = ? ORDER BY seq", (number,)
        )
        for (seq,) in cursor:
            while due in ends:
                due = ends[due] + 1
            if seq != due:
                break
            due += 1
        cursor.close()
        while due in ends:
            due = ends[due] + 1
        self._high[session] = due - 1
