"""The file of a spool: its tables, and what is read from and written to them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import NamedTuple, cast

import apsw

from handrail.errors import StorageError
from handrail.storage.database import Database, check_column_types, page_bytes, translate_errors
from handrail.storage.retention import RowRange, retained_ranges

_APPLICATION_ID = 0x48525350  # "HRSP"
_VERSION = 3  # 2: acknowledged rows stay; 3: compressed rows, which an older Handrail would refuse
_SCHEMA = """
CREATE TABLE sessions(number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT UNIQUE, actor TEXT,
                      acked INTEGER NOT NULL DEFAULT 0);
CREATE TABLE rows(id INTEGER PRIMARY KEY, blob BLOB NOT NULL);
"""
_UPGRADES = {1: "ALTER TABLE sessions ADD COLUMN acked INTEGER NOT NULL DEFAULT 0", 2: ""}
_SHIFT = 40  # a row's id is session number << 40 | seq: one integer orders rows as they were made
_SEQ = (1 << _SHIFT) - 1


def row_id(number: int, seq: int) -> int:
    """Return the id of a session's row; ids order rows as they were made."""
    return number << _SHIFT | seq


def seq_of(row: int) -> int:
    """Return the number within its session of the row with this id."""
    return row & _SEQ


class KnownSession(NamedTuple):
    """What a file has of one session."""

    number: int
    uuid: str
    acked: int  # [-], seq up to which rows were acknowledged
    first: int  # [-], seq of the first row there; 1 if there is none
    after: int  # [-], seq that follows the last row there
    bytes: int  # [B], of the rows there


class SpoolFile:
    """Sessions and rows on disk; errors of the engine are raised as `StorageError`."""

    def __init__(self, path: Path, task_hash: str, row: int = 0, readonly: bool = False) -> None:
        """Open or create the file; arguments and errors as of `Spool` and `Database`."""
        self.path = path
        self._db = Database(
            path,
            "spool",
            _APPLICATION_ID,
            _VERSION,
            _SCHEMA,
            task_hash,
            readonly,
            _UPGRADES,
            page=page_bytes(row),
        )
        try:
            self.uuid, self.epoch = self._db.meta["uuid"], self._db.meta_number("epoch")
            # UUID and epoch of the store that rows went to last, when the file was opened
            self.last_store = self._db.meta.get("store", ""), self._db.meta_number("store_epoch")
        except BaseException:
            self._db.close()
            raise

    def begin_session(self, session: str, actor: str, keep: int) -> list[KnownSession]:
        """Write down a new session, forget dead ones, and return all that are known.

        Args:
            session: UUID of the new session.
            actor: Its actor's name.
            keep: How many dead sessions whose rows are all acknowledged stay, the newest.
        """
        db, select = self._db.writer, self._db.select
        with translate_errors(self.path, "opening spool"):
            with self._db.transaction():
                kept = select(
                    "SELECT number, acked, (SELECT max(id) FROM rows WHERE id > (number << ?1) "
                    "AND id < ((number + 1) << ?1)) FROM sessions ORDER BY number",
                    (_SHIFT,),
                )
                check_column_types(self.path, kept, int, int, (int, NoneType))
                done = [n for n, acked, last in kept if last is None or seq_of(last) <= acked]
                old = set(done[:-keep]) | {n for n, _, last in kept if last is None}
                for number in old:
                    bounds = (row_id(number, 0), row_id(number + 1, 0))
                    db.execute("DELETE FROM rows WHERE id > ? AND id < ?", bounds)
                    db.execute("DELETE FROM sessions WHERE number = ?", (number,))
                db.execute("INSERT INTO sessions(uuid, actor) VALUES(?, ?)", (session, actor))
            known = select("SELECT number, uuid, acked FROM sessions ORDER BY number")
            check_column_types(self.path, known, int, str, int)
            return [self._survey(*session) for session in known]

    def _survey(self, number: int, name: str, acked: int) -> KnownSession:
        ((low, high, size, count),) = self._db.select(
            "SELECT min(id), max(id), total(length(blob)), count(*) FROM rows "
            "WHERE id > ? AND id < ?",
            (row_id(number, 0), row_id(number + 1, 0)),
        )
        first, after = seq_of(low or 1), seq_of((high or 0) + 1)
        if count != after - first:  # whoever sends would wait for the others for ever
            raise StorageError(
                f"spool {self.path} is damaged: session {name} has {count} of its rows {first} to "
                f"{after - 1}"
            )
        return KnownSession(number, name, acked, first, after, int(size))

    def row_ranges(self, number: int, first: int, last: int) -> list[RowRange]:
        """Return a session's rows from `first` to `last` that are there, in groups."""
        with translate_errors(self.path, "reading spool"):
            low, high = row_id(number, first - 1), row_id(number, last)
            return [
                RowRange(number, seq_of(first_id), seq_of(last_id), size)
                for first_id, last_id, size in retained_ranges(self._db.select, low, high)
            ]

    def rows(self, after: int, last: int, limit: int) -> Generator[tuple[int, bytes]]:
        """Iterate over id and blob of at most `limit` rows with ids in (after, last], in order."""
        with translate_errors(self.path, "reading spool"):
            cursor = self._db.reader.execute(
                "SELECT id, blob FROM rows WHERE id > ? AND id <= ? ORDER BY id LIMIT ?",
                (after, last, limit),
            )
            try:
                for found in cast("Iterator[tuple[int, bytes]]", cursor):
                    if not isinstance(found[1], bytes) or found[0] <= after:
                        raise StorageError(f"spool {self.path} is damaged at row {found[0]}")
                    after = found[0]
                    yield found
            finally:
                cursor.close()  # an open cursor holds the log

    def commit(
        self,
        rows: list[tuple[int, bytes]],
        acked: Mapping[int, int],
        evicted: list[RowRange],
        store: tuple[str, int],
    ) -> None:
        """Make one durable transaction of it all.

        Args:
            rows: Ids and blobs to add.
            acked: Session number to the seq up to which it is acknowledged.
            evicted: Rows to delete.
            store: UUID and epoch of the store that acknowledged; written with `acked`.

        Raises:
            StorageError: The disk is full or broken; nothing changed.
        """
        db = self._db.writer
        with translate_errors(self.path, "writing spool"), self._db.transaction():
            db.executemany(
                "DELETE FROM rows WHERE id BETWEEN ? AND ?",
                [(row_id(c.number, c.first), row_id(c.number, c.last)) for c in evicted],
            )
            # OR IGNORE: a commit that reported an error may have reached the disk after all.
            db.executemany("INSERT OR IGNORE INTO rows VALUES(?, ?)", rows)
            if acked:
                db.executemany(
                    "UPDATE sessions SET acked = ?2 WHERE number = ?1", list(acked.items())
                )
                values = (("store", store[0]), ("store_epoch", str(store[1])))
                db.executemany("INSERT OR REPLACE INTO meta VALUES(?, ?)", values)

    def free_bytes(self) -> int:
        """Return the size of the file's free pages, which rows are put into before it grows [B]."""
        with translate_errors(self.path, "reading spool"):
            pragma = self._db.writer.pragma
            return pragma("freelist_count") * pragma("page_size")

    def checkpoint_wal(self) -> None:
        """Empty the write-ahead log into the file, as far as the disk lets us."""
        with contextlib.suppress(apsw.Error):
            self._db.writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close the file and free its lock."""
        self._db.close()


def read_last_store(path: Path) -> tuple[str, int]:
    """Return UUID and epoch of the store that a spool's rows went to last, beside its owner.

    Raises:
        StorageError: Not a spool, or damaged.
    """
    file = SpoolFile(path, "", readonly=True)
    try:
        return file.last_store
    finally:
        file.close()
