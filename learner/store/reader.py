"""Reading a store: rows in order of arrival, as they came or as the labels have them.

Each row carries its checksum, which is checked whenever it is read.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from handrail.episode_label import EpisodeLabel
from handrail.errors import ProtocolMismatch, StorageError
from handrail.link.label_codec import decode_label
from handrail.link.record_codec import Record, decode_record
from handrail.link.transition_codec import HEADER_BYTES, read_header, row_bytes
from handrail.spec import EnvSpec
from handrail.storage.database import Database, check_column_types, translate_errors
from handrail.transition import Source, Transition
from learner.store.file import LABEL

_READ_ROWS = 512  # [-], rows per read: short reads, so that the write-ahead log can be folded in
_READ_BYTES = 4 << 20  # [B], the same of long rows, which stay in the processor's cache so


class LabelledRow(NamedTuple):
    """One stored row and where it is from, as the labels have it."""

    cursor: int  # place in order of arrival, from 1
    actor: str  # name of the actor
    session: str  # UUID of the actor's process
    seq: int  # [-], number within the session, from 1
    row: Transition


class StoredRecord(NamedTuple):
    """One stored row or label and where it is from, as it came."""

    cursor: int  # place in order of arrival, from 1
    actor: str  # name of the actor, or of who labelled
    session: str  # UUID of the process
    seq: int  # [-], number within the session, from 1
    row: Record


class RowHeader(NamedTuple):
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


class StoreReader:
    """What can be read of a store, beside whoever writes it."""

    def __init__(self, path: Path, spec: EnvSpec, database: Database) -> None:
        self.path, self.spec = path, spec
        self._db = database
        self._guard = threading.Lock()
        self._counts: Counter[int] = Counter()  # source -> rows

    def __len__(self) -> int:
        return sum(self._counts.values()) - self._counts[LABEL]

    def count(self, source: int) -> int:
        """Return the number of rows of this `Source`, or of labels."""
        return self._counts[int(source)]

    def rows(self, after: int = 0) -> Iterator[tuple[int, Transition]]:
        """Iterate over rows in order of arrival, as the labels that are stored now have them.

        Args:
            after: Begin behind this cursor.

        Yields:
            Cursor and row.

        Raises:
            StorageError: A row is damaged; the message names it.
        """
        for arrival in self.labelled_rows(after):
            yield arrival.cursor, arrival.row

    def labelled_rows(self, after: int = 0) -> Iterator[LabelledRow]:
        """Iterate as `rows` does, with actor, session and sequence number beside each row."""
        patches = self.patches()
        for cursor, actor, session, seq, row in self.records(after):
            if isinstance(row, EpisodeLabel):
                continue
            if cursor in patches:
                row = patches[cursor].apply(row)
            yield LabelledRow(cursor, actor, session, seq, row)

    def records(self, after: int = 0) -> Iterator[StoredRecord]:
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
            yield StoredRecord(cursor, actor, session, seq, row)

    def marks(self) -> list[tuple[int, float]]:
        """Return (cursor, wall clock [s]): at that time the row of this cursor arrived."""
        if self._db.format < 2:
            return []
        with translate_errors(self.path, "reading store"), self._guard:
            marks = self._db.select("SELECT cursor, time FROM marks ORDER BY cursor")
            return check_column_types(self.path, marks, int, float)

    def labels(self) -> dict[tuple[str, int], EpisodeLabel]:
        """Return the newest label of each labelled episode, by actor and number."""
        with translate_errors(self.path, "reading store"), self._guard:
            blobs = self._db.reader.execute(
                "SELECT blob FROM rows WHERE cursor IN "
                "(SELECT cursor FROM rows WHERE source = ?) ORDER BY cursor",
                (LABEL,),
            ).fetchall() if self._counts[LABEL] else []  # fmt: skip
        check_column_types(self.path, blobs, bytes)
        try:
            found = [decode_label(blob) for (blob,) in cast("list[tuple[bytes]]", blobs)]
        except ProtocolMismatch as error:
            raise StorageError(f"store {self.path}: a label is damaged: {error}") from None
        return {(label.actor, label.episode): label for label in found}

    def patches(self) -> dict[int, EpisodeLabel]:
        """Return, by cursor, the last steps of labelled episodes, and the labels."""
        labels = self.labels()
        last: dict[tuple[str, int], int] = {}
        for head in self.headers() if labels else ():
            if (head.actor, head.episode) in labels and not head.end and head.trained:
                last[head.actor, head.episode] = head.cursor
        return {cursor: labels[key] for key, cursor in last.items()}

    def headers(self, after: int = 0) -> Iterator[RowHeader]:
        """Iterate over the fixed headers of rows, in order of arrival, without their arrays."""
        while True:
            with translate_errors(self.path, "reading store"), self._guard:
                found = self._db.reader.execute(
                    "SELECT cursor, actor, uuid, seq, substr(blob, 1, ?), source FROM rows JOIN "
                    "sessions ON number = session WHERE cursor > ? ORDER BY cursor LIMIT ?",
                    (HEADER_BYTES, after, 16 * _READ_ROWS),
                ).fetchall()
            check_column_types(self.path, found, int, str, str, int, bytes, int)
            rows = cast("list[tuple[int, str, str, int, bytes, int]]", found)
            for cursor, actor, session, seq, head, source in rows:
                after = self._next(after, cursor)
                if source != LABEL:
                    if len(head) < HEADER_BYTES:
                        raise StorageError(f"store {self.path}: row {cursor} is damaged: too short")
                    yield RowHeader(cursor, actor, session, seq, *read_header(head))
            if not rows:
                return

    def digests(self) -> Iterator[tuple[str, int, str]]:
        """Iterate over (session, seq, sha256 of the blob in hex), for a comparison by hash."""
        for _, _, session, seq, blob in self._blobs(0):
            yield session, seq, hashlib.sha256(blob).hexdigest()

    def _blobs(self, after: int) -> Iterator[tuple[int, str, str, int, bytes]]:
        count = min(_READ_ROWS, 1 + _READ_BYTES // row_bytes(self.spec))
        while True:
            with translate_errors(self.path, "reading store"), self._guard:
                found = self._db.reader.execute(
                    "SELECT cursor, actor, uuid, seq, blob FROM rows JOIN sessions "
                    "ON number = session WHERE cursor > ? ORDER BY cursor LIMIT ?",
                    (after, count),
                ).fetchall()
            check_column_types(self.path, found, int, str, str, int, bytes)
            for row in cast("list[tuple[int, str, str, int, bytes]]", found):
                after = self._next(after, row[0])
                yield row
            if not found:
                return

    def _next(self, before: int, cursor: int) -> int:
        """Return a cursor, which follows the one before: in a damaged file it may not, for ever."""
        if cursor <= before:
            raise StorageError(f"store {self.path} is damaged: row {cursor} follows row {before}")
        return cursor
