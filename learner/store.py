"""The learner's durable store: every row that was ever acknowledged, once, in order of arrival.

`put` returns after the rows are on the disk; only then may they be acknowledged. A row's key is
(session, seq), so redelivery changes nothing. Each row carries its checksum, which is checked
whenever it is read.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from handrail.codec import Buffer, decode_row, encode_row, row_bytes
from handrail.database import Database, page_bytes, storage
from handrail.errors import ProtocolMismatch, RunFolderError, StorageError
from handrail.spec import EnvSpec
from handrail.transition import Transition

_APPLICATION_ID = 0x48525354  # "HRST"
_VERSION = 1
_SCHEMA = """
CREATE TABLE sessions(number INTEGER PRIMARY KEY, uuid TEXT UNIQUE, actor TEXT);
CREATE TABLE rows(cursor INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL,
                  source INTEGER NOT NULL, blob BLOB NOT NULL, UNIQUE(session, seq));
CREATE TABLE counts(source INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
"""
_READ_ROWS = 512  # [-], rows per read: short reads, so that the write-ahead log can be folded in


class Arrival(NamedTuple):
    """One stored row and where it is from."""

    cursor: int  # place in order of arrival, from 1
    actor: str  # name of the actor
    session: str  # UUID of the actor's process
    seq: int  # [-], number within the session, from 1
    row: Transition


class Incoming(NamedTuple):
    """One row to store, already checked against the spec."""

    session: str
    seq: int
    blob: Buffer
    row: Transition


class Store:
    """All rows of a run in one file; one process writes it, one thread at a time."""

    def __init__(self, path: Path, spec: EnvSpec, readonly: bool = False) -> None:
        """Open or create the store.

        Args:
            path: File; its folder must exist.
            spec: What rows must fit; a store of another task or spec is refused.
            readonly: Read beside the process that writes it; the file must exist.

        Raises:
            StorageError: Not writable, in use, damaged or foreign.
            RunFolderError: Of another task, another spec or a newer format.
        """
        self.path, self.spec = Path(path), spec
        self._local: dict[str, str] = {}  # actor -> session of rows made in this process
        self._db = Database(
            self.path,
            "store",
            _APPLICATION_ID,
            _VERSION,
            _SCHEMA,
            spec.task_hash,
            readonly,
            page=page_bytes(row_bytes(spec)),
        )
        self._guard = threading.Lock()
        self._unsure = False  # a commit failed: it may have reached the disk all the same
        try:
            self._load()
        except BaseException:
            self._db.close()
            raise

    def _load(self) -> None:
        select = self._db.select
        meta = self._db.meta
        self.uuid, self.epoch = meta["uuid"], int(meta["epoch"])
        if meta.setdefault("spec_hash", self.spec.hash) != self.spec.hash:
            raise RunFolderError(
                f"store {self.path} is of spec {meta['spec_hash']}, this run has {self.spec.hash}; "
                "observation or action layout changed: use a new run folder"
            )
        with storage(self.path, "opening store"):
            if not self._db.readonly:
                self._db.writer.execute(
                    "INSERT OR IGNORE INTO meta VALUES('spec_hash', ?)", (self.spec.hash,)
                )
            self._sessions: dict[str, tuple[int, str]] = {
                name: (number, actor)
                for number, name, actor in select("SELECT number, uuid, actor FROM sessions")
            }
            self._high = {
                name: select("SELECT max(seq) FROM rows WHERE session = ?", (number,))[0][0] or 0
                for name, (number, _) in self._sessions.items()
            }
            self._cursor = select("SELECT max(cursor) FROM rows")[0][0] or 0
            self._counts = Counter(dict(select("SELECT source, rows FROM counts")))

    @property
    def cursor(self) -> int:
        """Place of the newest row; 0 when there is none."""
        return self._cursor

    def __len__(self) -> int:
        return sum(self._counts.values())

    def count(self, source: int) -> int:
        """Return the number of rows of this `Source`."""
        return self._counts[int(source)]

    def high(self, session: str) -> int:
        """Return the highest sequence number of a session that is durable here, 0 if none."""
        return self._high.get(session, 0)

    def open_session(self, session: str, actor: str) -> int:
        """Make a session known, durably, and return its highest sequence number.

        Raises:
            StorageError: The disk is full or broken.
        """
        with self._guard:
            if session not in self._sessions:
                number = max((n for n, _ in self._sessions.values()), default=0) + 1
                with storage(self.path, "writing store"), self._db.transaction():
                    self._db.writer.execute(
                        "INSERT INTO sessions VALUES(?, ?, ?)", (number, session, actor)
                    )
                self._sessions[session] = (number, actor)
                self._high[session] = 0
            return self._high[session]

    def put(self, rows: Sequence[Incoming]) -> list[Arrival]:
        """Store rows in one durable transaction and return those that weren't there yet.

        Args:
            rows: In the order in which they are to be read back; sessions must be open.

        Raises:
            StorageError: The disk is full or broken; nothing of `rows` was stored.
        """
        with self._guard:
            if self._unsure:
                self._load()
            fresh: list[Arrival] = []
            values: list[tuple[int, int, int, int, Buffer]] = []
            high: dict[str, int] = {}
            added: Counter[int] = Counter()
            seen: set[tuple[str, int]] = set()
            for session, seq, blob, row in rows:
                number, actor = self._sessions[session]
                known = high.get(session, self._high[session])
                if seq <= known and ((session, seq) in seen or self._has(number, seq)):
                    continue
                cursor = self._cursor + len(fresh) + 1
                fresh.append(Arrival(cursor, actor, session, seq, row))
                values.append((cursor, number, seq, int(row.source), blob))
                high[session] = max(known, seq)
                seen.add((session, seq))
                added[int(row.source)] += 1
            if not fresh:
                return []
            self._unsure = True
            with storage(self.path, "writing store"), self._db.transaction():
                self._db.writer.executemany("INSERT INTO rows VALUES(?, ?, ?, ?, ?)", values)
                self._db.writer.executemany(
                    "INSERT INTO counts VALUES(?1, ?2) "
                    "ON CONFLICT(source) DO UPDATE SET rows = rows + ?2",
                    list(added.items()),
                )
            self._unsure = False
            self._cursor += len(fresh)
            self._high.update(high)
            self._counts.update(added)
            return fresh

    def put_rows(self, actor: str, rows: Sequence[Transition]) -> int:
        """Store rows made in this process (demonstrations, inline runs), durably.

        Args:
            actor: Who made them; one session per actor and opened store.
            rows: In order.

        Returns:
            The cursor of the newest row.

        Raises:
            ProtocolMismatch: A row doesn't fit the spec.
            StorageError: The disk is full or broken; nothing of `rows` was stored.
        """
        session = self._local.setdefault(actor, str(uuid.uuid4()))
        seq = self.open_session(session, actor)
        blobs = [encode_row(row, self.spec) for row in rows]
        self.put(
            [
                Incoming(session, seq + i, blob, row)
                for i, (blob, row) in enumerate(zip(blobs, rows, strict=True), 1)
            ]
        )
        return self._cursor

    def rows(self, after: int = 0) -> Iterator[tuple[int, Transition]]:
        """Iterate over rows in order of arrival.

        Args:
            after: Begin behind this cursor.

        Yields:
            Cursor and row.

        Raises:
            StorageError: A row is damaged; the message names it.
        """
        for arrival in self.arrivals(after):
            yield arrival.cursor, arrival.row

    def arrivals(self, after: int = 0) -> Iterator[Arrival]:
        """Iterate as `rows` does, with actor, session and sequence number beside each row."""
        for cursor, actor, session, seq, blob in self._blobs(after):
            try:
                row = decode_row(blob, self.spec)
            except ProtocolMismatch as error:
                raise StorageError(
                    f"store {self.path}: row {cursor} (actor {actor}, session {session}, "
                    f"seq {seq}) is damaged: {error}"
                ) from None
            yield Arrival(cursor, actor, session, seq, row)

    def digests(self) -> Iterator[tuple[str, int, str]]:
        """Iterate over (session, seq, sha256 of the blob in hex), for a comparison by hash."""
        for _, _, session, seq, blob in self._blobs(0):
            yield session, seq, hashlib.sha256(blob).hexdigest()

    def _blobs(self, after: int) -> Iterator[tuple[int, str, str, int, bytes]]:
        while True:
            with storage(self.path, "reading store"), self._guard:
                found = self._db.reader.execute(
                    "SELECT cursor, actor, uuid, seq, blob FROM rows JOIN sessions "
                    "ON number = session WHERE cursor > ? ORDER BY cursor LIMIT ?",
                    (after, _READ_ROWS),
                ).fetchall()
            rows = cast("list[tuple[int, str, str, int, bytes]]", found)
            yield from rows
            if not rows:
                return
            after = rows[-1][0]

    def _has(self, number: int, seq: int) -> bool:
        return bool(
            self._db.select("SELECT 1 FROM rows WHERE session = ? AND seq = ?", (number, seq))
        )

    def close(self) -> None:
        """Close the file and free its lock."""
        with self._guard:
            self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
