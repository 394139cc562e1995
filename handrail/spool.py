"""A durable log of rows between the actor and the learner.

`append` takes a row and returns at once; a writer thread commits what has gathered since its last
commit (group commit), so a slow disk costs latency of durability, never of the control loop. A row
leaves the file only after the learner's durable store has acknowledged it. Each process that opens
the file is a *session* with a UUID of its own and rows numbered 1, 2, 3 …; a restarted actor finds
the rows that its dead predecessor didn't deliver and delivers them under the old session's name.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

from handrail.database import Database, page_bytes, storage
from handrail.errors import StorageError

_APPLICATION_ID = 0x48525350  # "HRSP"
_VERSION = 1
_SCHEMA = """
CREATE TABLE sessions(number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT UNIQUE, actor TEXT);
CREATE TABLE rows(id INTEGER PRIMARY KEY, blob BLOB NOT NULL);
"""
_SHIFT = 40  # a row's id is session number << 40 | seq: one integer orders rows as they were made
_SEQ = (1 << _SHIFT) - 1
_COMMIT_ROWS = 8192  # [-], rows in one commit at most
_FORGET_S = 0.2  # [s], acknowledged rows are deleted at most this often when nothing is appended
_RETRY_S = 0.5  # [s], pause after a failed commit


class SpoolRow(NamedTuple):
    """One durable row that has not been acknowledged."""

    id: int  # increases in the order in which rows were made
    session: str  # UUID of the process that made it
    seq: int  # [-], from 1, without gaps, within the session
    blob: bytes


class Spool:
    """Rows on disk until they are acknowledged; one process at a time owns the file."""

    def __init__(
        self,
        path: Path,
        *,
        actor: str = "actor-0",
        task_hash: str = "",
        max_pending_bytes: int = 256 << 20,
        row: int = 0,
    ) -> None:
        """Open or create the spool and begin a new session.

        Args:
            path: File; its folder must exist.
            actor: Name of the actor, for people.
            task_hash: Hash of the task; a spool of another task is refused.
            max_pending_bytes: Rows held in memory while the disk is slow [B]; beyond it `append`
                raises.
            row: Size of a row, as far as it is known; a new file is laid out for it [B].

        Raises:
            StorageError: Not writable, in use, damaged or foreign.
            RunFolderError: Of another task or a newer format.
        """
        self.path, page = Path(path), page_bytes(row)
        self._db = Database(
            self.path, "spool", _APPLICATION_ID, _VERSION, _SCHEMA, task_hash, page=page
        )
        self.uuid, self.epoch = self._db.meta["uuid"], int(self._db.meta["epoch"])
        self.actor = actor
        self.session = str(uuid.uuid4())
        self._max_pending = max_pending_bytes
        self._changed = threading.Condition()
        self._pending: deque[tuple[int, bytes]] = deque()
        self._pending_bytes = 0
        self._bytes = 0
        self._error: StorageError | None = None
        self._closing = False
        self._durable = 0
        self._unforgotten: dict[int, int] = {}  # session number -> acknowledged seq to delete
        self._on_durable: Callable[[], None] | None = None
        try:
            with storage(self.path, "opening spool"):
                self._begin()
        except BaseException:
            self._db.close()
            raise
        self._thread = threading.Thread(target=self._write, name="spool-writer", daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        db = self._db.writer
        with self._db.transaction():
            db.execute(
                "DELETE FROM sessions WHERE NOT EXISTS (SELECT 1 FROM rows WHERE "
                "id > (number << ?) AND id < ((number + 1) << ?))",
                (_SHIFT, _SHIFT),
            )
            db.execute("INSERT INTO sessions(uuid, actor) VALUES(?, ?)", (self.session, self.actor))
        self._names = dict(self._db.select("SELECT number, uuid FROM sessions"))
        self._numbers = {name: number for number, name in self._names.items()}
        self._number = self._numbers[self.session]
        self._span: dict[int, list[int]] = {}  # session number -> [first seq held, next seq]
        for number in sorted(self._names):
            ((low, high, size),) = self._db.select(
                "SELECT min(id), max(id), total(length(blob)) FROM rows WHERE id > ? AND id < ?",
                (number << _SHIFT, (number + 1) << _SHIFT),
            )
            self._span[number] = [(low or 1) & _SEQ, (high or 0) + 1 & _SEQ]
            self._bytes += int(size)

    def append(self, blob: bytes) -> int:
        """Take a row and return its sequence number at once; it is durable soon after.

        Raises:
            StorageError: The disk is full or broken, or too slow for longer than memory allows.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._closing:
                raise StorageError(f"spool {self.path} is closed")
            if self._pending_bytes + len(blob) > self._max_pending:
                raise StorageError(
                    f"the disk is too slow for spool {self.path}: {self._pending_bytes} B wait, "
                    f"at most {self._max_pending} B are allowed"
                )
            span = self._span[self._number]
            seq = span[1]
            span[1] = seq + 1
            self._pending.append((self._number << _SHIFT | seq, blob))
            self._pending_bytes += len(blob)
            self._bytes += len(blob)
            self._changed.notify_all()
        return seq

    def flush(self, timeout_s: float) -> int:
        """Wait until every row appended so far is durable; return the last one's number.

        Raises:
            StorageError: The disk failed, or wasn't done in time.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            last = self._span[self._number][1] - 1
            while self._durable < last:
                if self._error is not None:
                    raise self._error
                left = deadline - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    raise StorageError(
                        f"spool {self.path}: waited {timeout_s} s for rows up to {last} to be "
                        f"durable, the disk has {self._durable}"
                    )
                self._changed.wait(left)
        return last

    def read(self, after: int, max_rows: int, max_bytes: int) -> list[SpoolRow]:
        """Return durable rows of one session in order, up to `max_bytes` but at least one.

        For one thread only, the sender's.

        Args:
            after: Rows with a larger id are returned; 0 for all.
            max_rows: At most so many.
            max_bytes: At most so many bytes, unless the first row alone is longer [B].
        """
        rows: list[SpoolRow] = []
        size = 0
        with storage(self.path, "reading spool"):
            cursor = self._db.reader.execute(
                "SELECT id, blob FROM rows WHERE id > ? ORDER BY id LIMIT ?", (after, max_rows)
            )
            for row_id, blob in cast("Iterator[tuple[int, bytes]]", cursor):
                size += len(blob)
                session = self._names[row_id >> _SHIFT]
                if rows and (size > max_bytes or rows[0].session != session):
                    break
                rows.append(SpoolRow(row_id, session, row_id & _SEQ, blob))
            cursor.close()
        return rows

    def acknowledge(self, session: str, seq: int) -> tuple[int, int]:
        """Let go of a session's rows up to `seq`.

        Call it only when the learner's store has made them durable.

        Returns:
            The id up to which this session is acknowledged now, and how many rows that let go.
        """
        number = self._numbers.get(session)
        if number is None:
            return 0, 0
        with self._changed:
            span = self._span[number]
            seq = min(seq, span[1] - 1)
            released = max(0, seq + 1 - span[0])
            if released:
                span[0] = seq + 1
                self._unforgotten[number] = seq
                self._changed.notify_all()
            return number << _SHIFT | (span[0] - 1), released

    def acknowledged(self) -> int:
        """Return the id behind which the first row that is not acknowledged lies."""
        with self._changed:
            for number, (first, after) in self._span.items():
                if after > first or number == self._number:
                    return number << _SHIFT | (first - 1)
            return 0

    def first(self, session: str) -> int:
        """Return the first sequence number of a session that is not acknowledged."""
        with self._changed:
            return self._span[self._numbers[session]][0]

    def held(self) -> dict[str, int]:
        """Return, per session, the first sequence number that has not been acknowledged."""
        with self._changed:
            return {
                self._names[number]: first
                for number, (first, after) in self._span.items()
                if after > first or number == self._number
            }

    @property
    def depth(self) -> int:
        """Number of rows that have not been acknowledged."""
        with self._changed:
            return sum(after - first for first, after in self._span.values())

    @property
    def depth_bytes(self) -> int:
        """Bytes of rows that are still held, on disk or on their way to it [B]."""
        return self._bytes

    @property
    def error(self) -> StorageError | None:
        """What keeps the disk from taking rows, None when all is well."""
        return self._error

    def on_durable(self, call: Callable[[], None] | None) -> None:
        """Have `call` run in the writer's thread after each commit; it must not wait."""
        self._on_durable = call

    def close(self, timeout_s: float = 10.0) -> None:
        """Commit what is left, end the thread and close the file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        self._db.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        forgot = 0.0
        while True:
            with self._changed:
                while not (self._pending or self._closing):
                    wait = None
                    if self._unforgotten:
                        wait = forgot + _FORGET_S - time.monotonic()
                        if wait <= 0:
                            break
                    self._changed.wait(wait)
                count = min(len(self._pending), _COMMIT_ROWS)
                rows = [self._pending[i] for i in range(count)]
                forget, self._unforgotten = self._unforgotten, {}
                if self._closing and not rows and not forget:
                    return
            try:
                with storage(self.path, "writing spool"):
                    freed = self._commit(rows, forget)
            except StorageError as error:
                with self._changed:
                    self._error = error
                    self._unforgotten = {**forget, **self._unforgotten}
                    self._changed.notify_all()
                    if self._closing:
                        return
                    self._changed.wait(_RETRY_S)
                continue
            forgot = time.monotonic()
            size = sum(len(blob) for _, blob in rows)
            with self._changed:
                self._error = None
                for _ in rows:
                    self._pending.popleft()
                self._pending_bytes -= size
                self._bytes -= freed
                if rows:
                    self._durable = rows[-1][0] & _SEQ
                self._changed.notify_all()
            call = self._on_durable
            if rows and call is not None:
                call()

    def _commit(self, rows: list[tuple[int, bytes]], forget: dict[int, int]) -> int:
        db, freed = self._db.writer, 0
        with self._db.transaction():
            # OR IGNORE: a commit that reported an error may have reached the disk after all.
            db.executemany("INSERT OR IGNORE INTO rows VALUES(?, ?)", rows)
            for number, seq in forget.items():
                bounds = (number << _SHIFT, number << _SHIFT | seq)
                where = "FROM rows WHERE id > ? AND id <= ?"
                ((size,),) = self._db.select(f"SELECT total(length(blob)) {where}", bounds)
                freed += int(size)
                db.execute(f"DELETE {where}", bounds)
        return freed
