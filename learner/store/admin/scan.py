"""Read every row of a store that can be read, however damaged the file is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw

from handrail.errors import ProtocolMismatch
from handrail.link.record_codec import Record, decode_record
from handrail.spec import EnvSpec
from handrail.storage.database import translate_errors

_STRETCH = 256  # [-], rows read at once


class ScannedRow(NamedTuple):
    """One number of the order of arrival: a row, or what is wrong with it."""

    cursor: int
    session: int  # number of the session, 0 where it can't be read
    seq: int
    source: int
    blob: bytes
    row: Record | None  # None: damaged
    fault: str  # "" when all is well


def scan(connection: apsw.Connection, spec: EnvSpec, path: Path) -> Iterator[ScannedRow]:
    """Yield every row in order of arrival, whole ones and damaged ones.

    Args:
        connection: To the store.
        spec: What rows must fit.
        path: Of the store, for messages.
    """
    first, last = 1, _last(connection, path)
    while first <= last:
        yield from _stretch(connection, spec, first, min(first + _STRETCH - 1, last))
        first += _STRETCH


def _all(
    connection: apsw.Connection, query: str, values: tuple[int, ...] = ()
) -> list[tuple[Any, ...]]:
    return cast("list[tuple[Any, ...]]", connection.execute(query, values).fetchall())


def _last(connection: apsw.Connection, path: Path) -> int:
    try:
        ((last,),) = _all(connection, "SELECT max(cursor) FROM rows")
        return last or 0
    except apsw.CorruptError:
        # The last page can't be read: counts say how many rows there were, pruned ones apart.
        with translate_errors(path, "reading store"):
            ((count,),) = _all(connection, "SELECT total(rows) FROM counts")
            found = _all(connection, "SELECT value FROM meta WHERE key = 'cursor'")
        return int(count) + sum(int(value) for (value,) in found)


def _stretch(
    connection: apsw.Connection, spec: EnvSpec, first: int, last: int
) -> Iterator[ScannedRow]:
    """Yield the rows of a stretch; where it can't be read, those of each half of it."""
    try:
        rows = _all(
            connection,
            "SELECT cursor, session, seq, source, blob FROM rows WHERE cursor BETWEEN ? AND ? "
            "ORDER BY cursor",
            (first, last),
        )
    except (apsw.CorruptError, apsw.IOError) as error:
        if first == last:
            yield ScannedRow(first, 0, 0, -1, b"", None, f"row {first} can't be read: {error}")
            return
        middle = (first + last) // 2
        yield from _stretch(connection, spec, first, middle)
        yield from _stretch(connection, spec, middle + 1, last)
        return
    for cursor, session, seq, source, blob in rows:
        try:
            row = decode_record(blob, spec)
        except (ProtocolMismatch, TypeError) as error:
            fault = f"row {cursor} (session {session}, seq {seq}) is damaged: {error}"
            yield ScannedRow(cursor, session, seq, source, b"", None, fault)
        else:
            yield ScannedRow(cursor, session, seq, source, blob, row, "")
