"""The learner's durable store: every row that was ever acknowledged, once, in order of arrival.

`put` returns after the rows are on the disk; only then may they be acknowledged. A row's key is
(session, seq), so redelivery changes nothing. Each row carries its checksum, which is checked
whenever it is read. Labels are stored between the rows, as they came; rows are never rewritten.

A number of a session that has no row is in `gaps`, with the reason. What is neither there nor in a
gap is asked for again from the actor: `high` stops before it.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from handrail.codec import HEAD_BYTES, Buffer, encode_row, read_head, row_bytes
from handrail.database import Database, page_bytes, storage
from handrail.errors import ProtocolMismatch, RunFolderError, StorageError
from handrail.label import Label, Record, decode_label, decode_record, encode_label
from handrail.spec import EnvSpec
from handrail.transition import Source, Transition

_APPLICATION_ID = 0x48525354  # "HRST"
_VERSION = 2
_ADDED = """
CREATE TABLE gaps(session INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
                  why TEXT NOT NULL, PRIMARY KEY(session, first)) WITHOUT ROWID;
CREATE TABLE marks(cursor INTEGER PRIMARY KEY, time REAL NOT NULL);
"""
_SCHEMA = f"""
CREATE TABLE sessions(number INTEGER PRIMARY KEY, uuid TEXT UNIQUE, actor TEXT);
CREATE TABLE rows(cursor INTEGER PRIMARY KEY, session INTEGER NOT NULL, seq INTEGER NOT NULL,
                  source INTEGER NOT NULL, blob BLOB NOT NULL, UNIQUE(session, seq));
CREATE TABLE counts(source INTEGER PRIMARY KEY, rows INTEGER NOT NULL);
{_ADDED}
"""
_UPGRADES = {1: _ADDED}
LABEL = 255  # the source of a label, beside those of rows
MARK_S = 60.0  # [s], between notes of the time at which rows arrived
GAPS = "SELECT session, first, last FROM gaps ORDER BY session, first"
_READ_ROWS = 512  # [-], rows per read: short reads, so that the write-ahead log can be folded in


class Arrival(NamedTuple):
    """One stored row and where it is from, as the labels have it."""

    cursor: int  # place in order of arrival, from 1
    actor: str  # name of the actor
    session: str  # UUID of the actor's process
    seq: int  # [-], number within the session, from 1
    row: Transition


class Stored(NamedTuple):
    """One stored row or label and where it is from, as it came."""

    cursor: int  # place in order of arrival, from 1
    actor: str  # name of the actor, or of who labelled
    session: str  # UUID of the process
    seq: int  # [-], number within the session, from 1
    row: Record


class Incoming(NamedTuple):
    """One row or label to store, already checked against the spec."""

    session: str
    seq: int
    blob: Buffer
    row: Record


class Head(NamedTuple):
    """What a row says of itself before its arrays; unchecked, for listings."""

    cursor: int
    actor: str
    session: str
    seq: int
    episode: int
    t: int
    source: int
    reward: float
    success: bool
    intervened: bool
    end: bool

    @property
    def trained(self) -> bool:
        """Whether it is of an episode that is recorded or trained on, as labels name them."""
        return self.source != Source.EVAL


def open_file(path: Path, spec: EnvSpec, readonly: bool) -> Database:
    """Open or create the file of a store; arguments and errors as of `Store`."""
    return Database(
        path,
        "store",
        _APPLICATION_ID,
        _VERSION,
        _SCHEMA,
        spec.task_hash,
        readonly,
        _UPGRADES,
        page=page_bytes(row_bytes(spec)),
    )


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
        self._db = open_file(self.path, spec, readonly)
        self._guard = threading.Lock()
        self._marked = -MARK_S
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
            self._gaps: dict[int, list[tuple[int, int]]] = {}
            for number, first, last in select(GAPS) if self._db.format > 1 else ():
                self._gaps.setdefault(number, []).append((first, last))
            self._top: dict[str, int] = {}  # session -> highest seq there, or in a gap
            self._high: dict[str, int] = {}  # session -> seq up to which nothing is amiss
            for name, (number, _) in self._sessions.items():
                self._survey(name, number)
            pruned = int(meta.get("cursor", "0"))
            self._cursor = max(select("SELECT max(cursor) FROM rows")[0][0] or 0, pruned)
            self._counts = Counter(dict(select("SELECT source, rows FROM counts")))

    def _survey(self, session: str, number: int) -> None:
        """Find out up to which number a session is complete."""
        ((count, top),) = self._db.select(
            "SELECT count(*), max(seq) FROM rows WHERE session = ?", (number,)
        )
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

    @property
    def cursor(self) -> int:
        """Place of the newest row or label; 0 when there is none."""
        return self._cursor

    def __len__(self) -> int:
        return sum(self._counts.values()) - self._counts[LABEL]

    def count(self, source: int) -> int:
        """Return the number of rows of this `Source`, or of labels."""
        return self._counts[int(source)]

    def high(self, session: str) -> int:
        """Return the number up to which a session's rows are durable here, 0 if none are."""
        return self._high.get(session, 0)

    def absent(self, session: str, first: int, last: int) -> int:
        """Return how many of a session's rows from `first` to `last` are not here."""
        number = self._sessions[session][0]
        ((count,),) = self._db.select(
            "SELECT count(*) FROM rows WHERE session = ? AND seq BETWEEN ? AND ?",
            (number, first, last),
        )
        return last + 1 - first - count

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
                self._high[session] = self._top[session] = 0
            return self._high[session]

    def put(self, rows: Sequence[Incoming]) -> list[Stored]:
        """Store rows in one durable transaction and return those that weren't there yet.

        Numbers that a session skips are noted as lost: whoever calls knows that nobody has them.

        Args:
            rows: In the order in which they are to be read back; sessions must be open.

        Raises:
            StorageError: The disk is full or broken; nothing of `rows` was stored.
        """
        with self._guard:
            if self._unsure:
                self._load()
            fresh: list[Stored] = []
            values: list[tuple[int, int, int, int, Buffer]] = []
            lost: list[tuple[int, int, int, str]] = []
            high: dict[str, int] = {}
            added: Counter[int] = Counter()
            for session, seq, blob, row in rows:
                number, actor = self._sessions[session]
                known = high.get(session, self._high[session])
                if seq <= known:
                    continue
                if seq > known + 1:
                    lost += self._holes(number, known + 1, seq - 1)
                high[session] = seq
                if seq <= self._top[session] and self._has(number, seq):
                    continue
                source = LABEL if isinstance(row, Label) else int(row.source)
                cursor = self._cursor + len(fresh) + 1
                fresh.append(Stored(cursor, actor, session, seq, row))
                values.append((cursor, number, seq, source, blob))
                added[source] += 1
            if not (fresh or lost):
                self._settle(high)
                return []
            mark = time.monotonic() - self._marked >= MARK_S
            self._unsure = True
            with storage(self.path, "writing store"), self._db.transaction():
                write = self._db.writer.executemany
                write("INSERT INTO rows VALUES(?, ?, ?, ?, ?)", values)
                write("INSERT INTO gaps VALUES(?, ?, ?, ?)", lost)
                write(
                    "INSERT INTO counts VALUES(?1, ?2) "
                    "ON CONFLICT(source) DO UPDATE SET rows = rows + ?2",
                    list(added.items()),
                )
                if mark:  # wall clock: only ever compared with an age that a person gives
                    now = (self._cursor + 1, time.time())
                    write("INSERT OR REPLACE INTO marks VALUES(?, ?)", [now])
            self._unsure = False
            if mark:
                self._marked = time.monotonic()
            self._cursor += len(fresh)
            self._counts.update(added)
            for number, first, last, _ in lost:
                self._gaps.setdefault(number, []).append((first, last))
            self._settle(high)
            return fresh

    def _settle(self, high: dict[str, int]) -> None:
        for session, seq in high.items():
            if seq >= self._top[session]:
                self._top[session] = self._high[session] = seq
            else:  # a hole was filled: what lies behind it counts again
                self._survey(session, self._sessions[session][0])

    def _holes(self, number: int, first: int, last: int) -> list[tuple[int, int, int, str]]:
        """Return rows of `gaps` for the numbers from `first` to `last` that aren't there."""
        there = self._db.select(
            "SELECT seq FROM rows WHERE session = ? AND seq BETWEEN ? AND ? ORDER BY seq",
            (number, first, last),
        )
        found = []
        for (seq,) in [*there, (last + 1,)]:
            if seq > first:
                found.append((number, first, seq - 1, "lost"))
            first = seq + 1
        return [hole for hole in found if hole[1:3] not in self._gaps.get(number, [])]

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
        self._put(actor, rows, [encode_row(row, self.spec) for row in rows])
        return self._cursor

    def put_label(self, author: str, label: Label) -> list[Stored]:
        """Store a label made in this process, durably.

        Args:
            author: Who says so; not the actor whose episode it is.
            label: What is said.

        Raises:
            ProtocolMismatch: The label can't be written down.
            StorageError: The disk is full or broken; nothing was stored.
        """
        return self._put(author, [label], [encode_label(label)])

    def _put(self, actor: str, rows: Sequence[Record], blobs: list[bytes]) -> list[Stored]:
        session = self._local.setdefault(actor, str(uuid.uuid4()))
        seq = self.open_session(session, actor)
        return self.put(
            [
                Incoming(session, seq + i, blob, row)
                for i, (blob, row) in enumerate(zip(blobs, rows, strict=True), 1)
            ]
        )

    def rows(self, after: int = 0) -> Iterator[tuple[int, Transition]]:
        """Iterate over rows in order of arrival, as the labels that are stored now have them.

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
        patches = self.patches()
        for cursor, actor, session, seq, row in self.records(after):
            if isinstance(row, Label):
                continue
            if cursor in patches:
                row = patches[cursor].apply(row)
            yield Arrival(cursor, actor, session, seq, row)

    def records(self, after: int = 0) -> Iterator[Stored]:
        """Iterate over rows and labels as they came, in order of arrival.

        Raises:
            StorageError: One is damaged; the message names it.
        """
        for cursor, actor, session, seq, blob in self._blobs(after):
            try:
                row = decode_record(blob, self.spec)
            except ProtocolMismatch as error:
                raise StorageError(
                    f"store {self.path}: row {cursor} (actor {actor}, session {session}, "
                    f"seq {seq}) is damaged: {error}"
                ) from None
            yield Stored(cursor, actor, session, seq, row)

    def marks(self) -> list[tuple[int, float]]:
        """Return (cursor, wall clock [s]): at that time the row of this cursor arrived."""
        if self._db.format < 2:
            return []
        with storage(self.path, "reading store"), self._guard:
            return self._db.select("SELECT cursor, time FROM marks ORDER BY cursor")  # type: ignore[return-value]

    def labels(self) -> dict[tuple[str, int], Label]:
        """Return the newest label of each labelled episode, by actor and number."""
        with storage(self.path, "reading store"), self._guard:
            blobs = self._db.reader.execute(
                "SELECT blob FROM rows WHERE cursor IN "
                "(SELECT cursor FROM rows WHERE source = ?) ORDER BY cursor",
                (LABEL,),
            ).fetchall() if self._counts[LABEL] else []  # fmt: skip
        found = [decode_label(blob) for (blob,) in cast("list[tuple[bytes]]", blobs)]
        return {(label.actor, label.episode): label for label in found}

    def patches(self) -> dict[int, Label]:
        """Return, by cursor, the last steps of labelled episodes, and the labels."""
        labels = self.labels()
        last: dict[tuple[str, int], int] = {}
        for head in self.heads() if labels else ():
            if (head.actor, head.episode) in labels and not head.end and head.trained:
                last[head.actor, head.episode] = head.cursor
        return {cursor: labels[key] for key, cursor in last.items()}

    def heads(self, after: int = 0) -> Iterator[Head]:
        """Iterate over the fixed headers of rows, in order of arrival, without their arrays."""
        while True:
            with storage(self.path, "reading store"), self._guard:
                found = self._db.reader.execute(
                    "SELECT cursor, actor, uuid, seq, substr(blob, 1, ?), source FROM rows JOIN "
                    "sessions ON number = session WHERE cursor > ? ORDER BY cursor LIMIT ?",
                    (HEAD_BYTES, after, 16 * _READ_ROWS),
                ).fetchall()
            rows = cast("list[tuple[int, str, str, int, bytes, int]]", found)
            for cursor, actor, session, seq, head, source in rows:
                if source != LABEL:
                    yield Head(cursor, actor, session, seq, *read_head(head))
            if not rows:
                return
            after = rows[-1][0]

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
