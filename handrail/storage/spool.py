"""A durable log of rows between the actor and the learner.

`append` takes a row and returns at once; a writer thread commits what has gathered since its last
commit (group commit), so a slow disk costs latency of durability, never of the control loop. Each
process that opens the file is a *session* with a UUID of its own and rows numbered 1, 2, 3 …; a
restarted actor finds the rows that its dead predecessor didn't deliver and delivers them under the
old session's name.

A row that the learner's durable store has acknowledged is kept for as long as the newest
`retain_bytes` of such rows last. A learner that comes back with an older store says so in its
welcome, and `resend_from` makes the rows unacknowledged again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from handrail.errors import StorageError
from handrail.storage.disk import free_space
from handrail.storage.retention import RetentionWindow, RowRange
from handrail.storage.spool_file import SpoolFile, row_id, seq_of

log = logging.getLogger(__name__)

RETAIN_BYTES = 1 << 30  # [B], acknowledged rows that are kept, newest first
RETAIN_SESSIONS = 256  # [-], dead sessions whose acknowledged rows are kept, newest first
_HEADROOM = 16 << 20  # [B], of the disk; with less, what is retained goes before the file grows
_COMMIT_ROWS = 8192  # [-], rows in one commit at most
_ACK_WRITE_S = 0.2  # [s], acknowledgements are written at most this often when nothing is appended
_RETRY_S = 0.5  # [s], pause after a failed commit


class SpoolRow(NamedTuple):
    """One durable row that is not acknowledged."""

    id: int  # increases in the order in which rows were made
    session: str  # UUID of the process that made it
    seq: int  # [-], from 1, without gaps, within the session
    blob: bytes


class Spool:
    """Rows on disk until they are acknowledged and then some; one process owns the file."""

    def __init__(
        self,
        path: Path,
        *,
        actor: str = "actor-0",
        task_hash: str = "",
        max_pending_bytes: int = 256 << 20,
        retain_bytes: int = RETAIN_BYTES,
        row: int = 0,
    ) -> None:
        """Open or create the spool and begin a new session.

        Args:
            path: File; its folder must exist.
            actor: Name of the actor, for people.
            task_hash: Hash of the task; a spool of another task is refused.
            max_pending_bytes: Rows held in memory while the disk is slow [B]; beyond it `append`
                raises.
            retain_bytes: Acknowledged rows that are kept, the newest, to refill a learner that
                comes back with an older store [B]. A full disk takes them first.
            row: Size of a row, as far as it is known; a new file is laid out for it [B].

        Raises:
            StorageError: Not writable, in use, damaged or foreign.
            RunFolderError: Of another task or a newer format.
        """
        self.path = Path(path)
        self._file = SpoolFile(self.path, task_hash, row)
        self.uuid, self.epoch, self._last_store = (
            self._file.uuid,
            self._file.epoch,
            self._file.last_store,
        )
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
        self._acked: dict[int, int] = {}  # session number -> acknowledged seq to write down
        self._retained = RetentionWindow(retain_bytes)
        self._on_durable: Callable[[], None] | None = None
        try:
            self._begin()
        except BaseException:
            self._file.close()
            raise
        self._thread = threading.Thread(target=self._write, name="spool-writer", daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        known = self._file.begin_session(self.session, self.actor, RETAIN_SESSIONS)
        self._names = {session.number: session.uuid for session in known}
        self._numbers = {session.uuid: session.number for session in known}
        self._number = self._numbers[self.session]
        # Session number -> [first unacknowledged seq, next seq]
        self._unacknowledged: dict[int, list[int]] = {}
        self._first_retained: dict[int, int] = {}  # session number -> first seq in the file
        for number, _, acked, first, after, size in known:
            self._first_retained[number] = first
            self._unacknowledged[number] = [max(first, min(acked + 1, after)), after]
            self._bytes += size
            for row_range in self._file.row_ranges(number, 1, acked):
                self._retained.add(*row_range)

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
            span = self._unacknowledged[self._number]
            seq = span[1]
            span[1] = seq + 1
            self._pending.append((row_id(self._number, seq), blob))
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
            last = self._unacknowledged[self._number][1] - 1
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
        """Return durable unacknowledged rows of one session, in order, one at least.

        For one thread only, the sender's.

        Args:
            after: Rows with a larger id are returned; 0 for all.
            max_rows: At most so many.
            max_bytes: At most so many bytes, unless the first row alone is longer [B].
        """
        with self._changed:
            for number, (unacknowledged, end) in self._unacknowledged.items():
                first, last = (
                    max(after, row_id(number, unacknowledged - 1)),
                    row_id(number, end - 1),
                )
                if first < last:
                    break
            else:
                return []
        rows: list[SpoolRow] = []
        size = 0
        with contextlib.closing(self._file.rows(first, last, max_rows)) as found:
            for found_id, blob in found:
                size += len(blob)
                if rows and size > max_bytes:
                    break
                rows.append(SpoolRow(found_id, self._names[number], seq_of(found_id), blob))
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
            span = self._unacknowledged[number]
            seq = min(seq, span[1] - 1)
            released = max(0, seq + 1 - span[0])
            if released:
                span[0] = seq + 1
                self._acked[number] = seq
                self._changed.notify_all()
            return row_id(number, span[0] - 1), released

    def resend_from(self, session: str, seq: int) -> int:
        """Make acknowledged rows behind `seq` unacknowledged again, as far as they are kept.

        Call it when the learner's store says that `seq` is the last row that it has.

        Returns:
            How many rows are sent again.
        """
        number = self._numbers.get(session)
        if number is None:
            return 0
        with self._changed:
            span = self._unacknowledged[number]
            first = max(seq + 1, self._first_retained[number])
            if first >= span[0]:
                return 0
            again, span[0] = span[0] - first, first
            self._acked.pop(number, None)
            self._retained.unacknowledge(number, first)
            return again

    @property
    def last_store(self) -> tuple[str, int]:
        """UUID and epoch of the store that rows went to last; ("", 0) if there was none."""
        return self._last_store

    def set_last_store(self, store: str, epoch: int) -> None:
        """Remember, durably soon after, which store rows go to."""
        with self._changed:
            if self._last_store != (store, epoch):
                self._last_store = (store, epoch)
                self._acked.setdefault(self._number, self._unacknowledged[self._number][0] - 1)
                self._changed.notify_all()

    def acknowledged_id(self) -> int:
        """Return the id behind which the first row that is not acknowledged lies."""
        with self._changed:
            for number, (first, after) in self._unacknowledged.items():
                if after > first or number == self._number:
                    return row_id(number, first - 1)
            return 0

    def first_retained_seq(self, session: str) -> int:
        """Return the first sequence number of a session that is kept, acknowledged or not."""
        with self._changed:
            return self._first_retained[self._numbers[session]]

    def first_retained(self) -> dict[str, int]:
        """Return, per session, the first sequence number that is kept, acknowledged or not."""
        with self._changed:
            return {
                self._names[number]: self._first_retained[number]
                for number, (_, after) in self._unacknowledged.items()
                if after > self._first_retained[number] or number == self._number
            }

    @property
    def depth(self) -> int:
        """Number of rows that have not been acknowledged."""
        with self._changed:
            return sum(after - first for first, after in self._unacknowledged.values())

    @property
    def depth_bytes(self) -> int:
        """Bytes of rows that are not acknowledged, on disk or on their way to it [B]."""
        return self._bytes - self._retained.bytes

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
        self._file.close()

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        wrote = 0.0
        while True:
            with self._changed:
                while not (self._pending or self._closing):
                    wait = None
                    if self._acked:
                        wait = wrote + _ACK_WRITE_S - time.monotonic()
                        if wait <= 0:
                            break
                    self._changed.wait(wait)
                count = min(len(self._pending), _COMMIT_ROWS)
                rows = [self._pending[i] for i in range(count)]
                acked, self._acked = self._acked, {}
                if self._closing and not rows and not acked:
                    return
            size = sum(len(blob) for _, blob in rows)
            evicted: list[RowRange] = []
            try:
                self._count_retained(acked)
                if self._lacks_room(size):
                    self._make_room()
                evicted = self._evict(self._retained.limit)
                self._file.commit(rows, acked, evicted, self._last_store)
            except StorageError as error:
                with self._changed:
                    self._error = error
                    self._acked = {**acked, **self._acked}
                    self._retained.undo_evict(evicted)
                    self._changed.notify_all()
                    if self._closing:
                        return
                if not self._make_room():
                    with self._changed:
                        self._changed.wait(_RETRY_S)
                continue
            wrote = time.monotonic()
            with self._changed:
                self._error = None
                for _ in rows:
                    self._pending.popleft()
                self._pending_bytes -= size
                self._bytes -= sum(row_range.bytes for row_range in evicted)
                if rows:
                    self._durable = seq_of(rows[-1][0])
                self._changed.notify_all()
            call = self._on_durable
            if rows and call is not None:
                call()

    def _count_retained(self, acked: dict[int, int]) -> None:
        """Count what was acknowledged as retained."""
        for number, seq in acked.items():
            with self._changed:
                first = max(
                    self._retained.last_counted.get(number, 0) + 1, self._first_retained[number]
                )
            found = self._file.row_ranges(number, first, seq)
            with self._changed:
                if self._unacknowledged[number][0] > seq:  # not made unacknowledged meanwhile
                    for row_range in found:
                        self._retained.add(*row_range)

    def _evict(self, limit: int) -> list[RowRange]:
        """Give up the oldest acknowledged rows beyond `limit` bytes; return which."""
        with self._changed:
            evicted = self._retained.evict(limit)
            for row_range in evicted:
                self._first_retained[row_range.number] = row_range.last + 1
        return evicted

    def _lacks_room(self, size: int) -> bool:
        """Return whether rows of `size` bytes leave less of the disk than deleting takes at first.

        They are written to the log, and from there to the file where that has no free pages.
        """
        growth = size - self._file.free_bytes()
        try:
            return growth > 0 and free_space(self.path)[0] < _HEADROOM + 2 * growth
        except OSError:
            return False  # the commit will say what is wrong with the disk

    def _make_room(self) -> bool:
        """Give up all acknowledged rows, as the disk is full; return whether it helped."""
        if not self._retained.bytes:
            return False
        self._file.checkpoint_wal()
        # Free pages stay in the file, for rows to come: with half as much retained they suffice.
        self._retained.limit = self._retained.bytes // 2
        evicted = self._evict(0)
        try:
            self._file.commit([], {}, evicted, self._last_store)
        except StorageError:
            self._retained.undo_evict(evicted)
            return False
        with self._changed:
            self._bytes -= sum(row_range.bytes for row_range in evicted)
        log.warning("the disk is full: %s let go of its acknowledged rows", self.path)
        return True
