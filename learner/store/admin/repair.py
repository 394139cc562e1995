"""Salvage what is whole of a damaged store into a new one; the damaged file is kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from handrail.errors import StorageError
from handrail.spec import EnvSpec
from handrail.storage.database import atomic_replace, lock_file, quarantine, translate_errors
from learner.store.admin.scan import ScannedRow, scan
from learner.store.file import open_file
from learner.store.store import Store

_BATCH = 512  # [rows], written at once


class RepairResult(NamedTuple):
    """What `repair` did."""

    rows: int  # saved, labels among them
    lost: int  # [rows], that were not whole
    kept: Path  # the damaged file
    faults: list[str]


def repair(path: Path, spec: EnvSpec) -> RepairResult:
    """Put a new store with every whole row in the place of a damaged one.

    The new one has the old one's identity and the next epoch. What was lost is a hole in its
    session: actors that still retain those rows send them again.

    Args:
        path: Of the store; no learner may use it.
        spec: What rows must fit.

    Raises:
        StorageError: In use, not a store, or so damaged that rows can't be told apart.
        RunFolderError: Of another task or a newer format.
    """
    temporary = path.with_name(f".{path.name}.repair")
    with lock_file(path, "store"):
        old = open_file(path, spec, readonly=True)
        try:
            rows, faults = _salvage(old.reader, old.meta, old.format, path, temporary, spec)
        finally:
            old.close()
        if faults and not rows:
            _remove(temporary)
            raise StorageError(
                f"store {path} can't be repaired: none of its {len(faults)} rows can be read; put "
                "a backup in its place by `handrail data restore`"
            )
        aside = quarantine(path, "damaged")
        atomic_replace(temporary, path)
    _remove(temporary)
    return RepairResult(rows, len(faults), aside, faults)


def _salvage(
    old: apsw.Connection, meta: dict[str, str], format_: int, path: Path, new: Path, spec: EnvSpec
) -> tuple[int, list[str]]:
    _remove(new)
    try:
        sessions = old.execute("SELECT number, uuid, actor FROM sessions").fetchall()
    except apsw.Error as error:
        raise StorageError(
            f"store {path} can't be repaired: the table of sessions is damaged ({error}); put a "
            "backup in its place by `handrail data restore`"
        ) from None
    Store(new, spec).close()
    database = open_file(new, spec, readonly=False)
    try:
        with translate_errors(new, "writing store"), database.transaction():
            write = database.writer.executemany
            about = {**meta, "epoch": str(int(meta["epoch"]) + 1)}
            write("INSERT OR REPLACE INTO meta VALUES(?, ?)", list(about.items()))
            write("INSERT INTO sessions VALUES(?, ?, ?)", sessions)
            for table, places in (("gaps", "?, ?, ?, ?"), ("marks", "?, ?")):
                write(f"INSERT INTO {table} VALUES({places})", _readable(old, table, format_))
            known = {number for number, *_ in sessions}
            count, faults = 0, []
            counts: Counter[int] = Counter()
            batch: list[ScannedRow] = []
            seen: set[tuple[int, int]] = set()
            cursor = 0
            for row in scan(old, spec, path):
                cursor = max(cursor, row.cursor)
                key = (row.session, row.seq)
                if row.row is None or row.session not in known or key in seen:
                    faults.append(row.fault or f"row {row.cursor} belongs to no session, or twice")
                    continue
                seen.add(key)
                batch.append(row)
                counts[row.source] += 1
                count += 1
                if len(batch) >= _BATCH:
                    write("INSERT INTO rows VALUES(?, ?, ?, ?, ?)", [r[:5] for r in batch])
                    batch = []
            write("INSERT INTO rows VALUES(?, ?, ?, ?, ?)", [r[:5] for r in batch])
            write("INSERT INTO counts VALUES(?, ?)", list(counts.items()))
            cursor = max(cursor, int(meta.get("cursor", "0")))
            write("INSERT OR REPLACE INTO meta VALUES('cursor', ?)", [(str(cursor),)])
    finally:
        database.close()
    return count, faults


def _readable(old: apsw.Connection, table: str, format_: int) -> list[Any]:
    if format_ < 2:
        return []
    try:
        return old.execute(f"SELECT * FROM {table}").fetchall()
    except apsw.Error:
        return []


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
