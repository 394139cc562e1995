"""The learner's durable store: every row that was ever acknowledged, once, in order of arrival.

`put` returns after the rows are on the disk; only then may they be acknowledged. A row's key is
(session, seq), so redelivery changes nothing. Labels are stored between the rows, as they came;
rows are never rewritten.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from handrail.episode_label import EpisodeLabel
from handrail.errors import RunFolderError
from handrail.link.array_codec import Buffer
from handrail.link.image_codec import AdaptiveCompressor, raw
from handrail.link.label_codec import encode_label
from handrail.link.record_codec import Record
from handrail.link.transition_codec import encode_row
from handrail.spec import EnvSpec
from handrail.storage.database import check_column_types, translate_errors
from handrail.transition import Transition
from learner.store.file import LABEL, open_file
from learner.store.reader import StoredRecord, StoreReader
from learner.store.sessions import Gap, Sessions

MARK_S = 60.0  # [s], between notes of the time at which rows arrived
_Value = tuple[int, int, int, int, Buffer]  # cursor, session's number, seq, source, blob


class Incoming(NamedTuple):
    """One row or label to store, already checked against the spec."""

    session: str
    seq: int
    blob: Buffer
    row: Record | None  # None: nobody has it any more


class Store(StoreReader):
    """All rows of a run in one file; one process writes it, one thread at a time."""

    def __init__(
        self, path: Path, spec: EnvSpec, readonly: bool = False, *, short: bool = True
    ) -> None:
        """Open or create the store.

        Args:
            path: File; its folder must exist.
            spec: What rows must fit; a store of another task or spec is refused.
            readonly: Read beside the process that writes it; the file must exist.
            short: Shorten camera frames of rows made in this process where that pays.

        Raises:
            StorageError: Not writable, in use, damaged or foreign.
            RunFolderError: Of another task, another spec or a newer format.
        """
        super().__init__(Path(path), spec, open_file(Path(path), spec, readonly))
        self._code = AdaptiveCompressor() if short else raw
        self._local: dict[str, str] = {}  # actor -> session of rows made in this process
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
        self.uuid, self.epoch = meta["uuid"], self._db.meta_number("epoch")
        if meta.setdefault("spec_hash", self.spec.hash) != self.spec.hash:
            raise RunFolderError(
                f"store {self.path} is of spec {meta['spec_hash']}, this run has {self.spec.hash}; "
                "observation or action layout changed: use a new run folder"
            )
        with translate_errors(self.path, "opening store"):
            if not self._db.readonly:
                self._db.writer.execute(
                    "INSERT OR IGNORE INTO meta VALUES('spec_hash', ?)", (self.spec.hash,)
                )
            self._sessions = Sessions(self._db)
            pruned = self._db.meta_number("cursor")
            self._cursor = max(select("SELECT max(cursor) FROM rows")[0][0] or 0, pruned)
            counts = check_column_types(
                self.path, select("SELECT source, rows FROM counts"), int, int
            )
            self._counts = Counter(dict(counts))

    @property
    def cursor(self) -> int:
        """Place of the newest row or label; 0 when there is none."""
        return self._cursor

    def last_durable(self, session: str) -> int:
        """Return the number up to which a session's rows are durable here, 0 if none are."""
        return self._sessions.last_durable(session)

    def count_missing(self, session: str, first: int, last: int) -> int:
        """Return how many of a session's rows from `first` to `last` are not here."""
        return self._sessions.count_missing(session, first, last)

    def open_sessions(self, sessions: Iterable[str], actor: str) -> dict[str, int]:
        """Make an actor's sessions known, durably, and return the highest number of each.

        Raises:
            StorageError: The disk is full or broken; none of them was made known.
        """
        wanted = list(dict.fromkeys(sessions))
        with self._guard:
            fresh = [session for session in wanted if session not in self._sessions]
            numbered = list(enumerate(fresh, self._sessions.next_number))
            if fresh:
                with translate_errors(self.path, "writing store"), self._db.transaction():
                    self._db.writer.executemany(
                        "INSERT INTO sessions VALUES(?, ?, ?)",
                        [(number, session, actor) for number, session in numbered],
                    )
            for number, session in numbered:
                self._sessions.add(session, number, actor)
            return {session: self._sessions.last_durable(session) for session in wanted}

    def put(self, rows: Sequence[Incoming]) -> list[StoredRecord]:
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
            fresh, values, lost, high = self._unknown(rows)
            if fresh or lost:
                self._commit(values, lost)
            self._sessions.commit(high, lost)
            return fresh

    def _unknown(
        self, rows: Sequence[Incoming]
    ) -> tuple[list[StoredRecord], list[_Value], list[Gap], dict[str, int]]:
        """Return rows that aren't here, as rows of the table too, new gaps, and last numbers."""
        fresh: list[StoredRecord] = []
        values: list[_Value] = []
        lost: list[Gap] = []
        high: dict[str, int] = {}
        for session, seq, blob, row in rows:
            number, actor = self._sessions[session]
            known = high.get(session, self._sessions.last_durable(session))
            if seq <= known:
                continue
            if seq > known + 1:
                lost += self._sessions.gaps_between(session, known + 1, seq - 1)
            high[session] = seq
            if self._sessions.has(session, seq):
                continue
            if row is None:
                lost += self._sessions.gaps_between(session, seq, seq)
                continue
            source = LABEL if isinstance(row, EpisodeLabel) else int(row.source)
            cursor = self._cursor + len(fresh) + 1
            fresh.append(StoredRecord(cursor, actor, session, seq, row))
            values.append((cursor, number, seq, source, blob))
        return fresh, values, lost, high

    def _commit(self, values: list[_Value], lost: list[Gap]) -> None:
        added = Counter(source for _, _, _, source, _ in values)
        mark = time.monotonic() - self._marked >= MARK_S
        self._unsure = True
        with translate_errors(self.path, "writing store"), self._db.transaction():
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
        self._cursor += len(values)
        self._counts.update(added)

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
        self._put(actor, rows, [encode_row(row, self.spec, self._code) for row in rows])
        return self._cursor

    def put_label(self, author: str, label: EpisodeLabel) -> list[StoredRecord]:
        """Store a label made in this process, durably.

        Args:
            author: Who says so; not the actor whose episode it is.
            label: What is said.

        Raises:
            ProtocolMismatch: The label can't be written down.
            StorageError: The disk is full or broken; nothing was stored.
        """
        return self._put(author, [label], [encode_label(label)])

    def _put(self, actor: str, rows: Sequence[Record], blobs: list[bytes]) -> list[StoredRecord]:
        session = self._local.setdefault(actor, str(uuid.uuid4()))
        seq = self.open_sessions([session], actor)[session]
        return self.put(
            [
                Incoming(session, seq + i, blob, row)
                for i, (blob, row) in enumerate(zip(blobs, rows, strict=True), 1)
            ]
        )

    def close(self) -> None:
        """Close the file and free its lock."""
        with self._guard:
            self._db.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
