"""Crash-safe SQLite files: opened, checked and locked in one way for the spool and the store.

The engine is the SQLite inside `apsw` (the interpreter's own may have the WAL-reset corruption
bug), in WAL mode with synchronous=FULL: a commit that returned is on the disk. A file of another
program, another task or a newer format is refused before anything in it is changed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

import apsw

from handrail.errors import RunFolderError, StorageError

BUSY_MS = 2000  # [ms], how long a reader outside (a report, a backup) may hold us up
WAL_BYTES = 8 << 20  # [B], the write-ahead log is folded into the file at this length
LONG_ROW = 1 << 16  # [B], rows of this size are in larger pages
WAL_LIMIT = 64 << 20  # [B], the log's file is cut back to this after a burst
_COPY_PAGES = 4096  # [pages], copied between two looks
MIN_SQLITE = (3, 51, 3)  # first SQLite without the WAL-reset corruption bug


@contextlib.contextmanager
def translate_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn the engine's errors into a `StorageError` that says what was being done to what."""
    try:
        yield
    except apsw.FullError as error:
        raise StorageError(f"disk full while {doing} {path}: free some space ({error})") from None
    except apsw.NotADBError:
        raise StorageError(f"{path} is not a database of Handrail, or is damaged") from None
    except apsw.CorruptError as error:
        raise StorageError(f"{path} is damaged (while {doing}): {error}") from None
    except apsw.IOError as error:
        raise StorageError(f"disk error or disk full while {doing} {path}: {error}") from None
    except (apsw.Error, OSError) as error:
        raise StorageError(f"{doing} {path} failed: {error}") from None
    except UnicodeEncodeError:
        raise StorageError(
            f"{doing} {str(path)!a} failed: in this locale the name is no text; set PYTHONUTF8=1"
        ) from None
    except (UnicodeError, OverflowError) as error:
        raise StorageError(f"{path} is damaged (while {doing}): {error}") from None


def check_column_types(path: Path, rows: list[Any], *kinds: type | tuple[type, ...]) -> list[Any]:
    """Return rows of a query, each column of which has the kind that we write.

    SQLite checks no kinds when it reads, so a damaged cell may hold any.

    Raises:
        StorageError: One has not.
    """
    for row in rows:
        for value, kind in zip(row, kinds, strict=True):
            if not isinstance(value, kind):
                raise StorageError(f"{path} is damaged: it holds {value!r:.40} in {row!r:.80}")
    return rows


def page_bytes(row: int) -> int:
    """Return the size of a new file's pages for rows of this size [B].

    A long row is spread over a chain of pages, and each costs a system call and a look-up.
    """
    return 1 << 14 if row >= LONG_ROW else 1 << 12


class Database:
    """One file with one writer, its lock, and a table of what it is.

    Owns the lock file `<path>.lock`: the kernel frees the lock with the process, however it dies.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        application_id: int,
        version: int,
        schema: str,
        about: str,
        readonly: bool = False,
        upgrades: Mapping[int, str] | None = None,
        *,
        page: int = 1 << 12,
    ) -> None:
        """Open or create the file.

        Args:
            path: The file; its folder must exist.
            kind: What it is, for messages ("spool", "store").
            application_id: Marks the file as ours in SQLite's header.
            version: Format number of the schema.
            schema: Statements that create the tables.
            about: Hash of the task; a file with another one is refused. Empty: don't compare.
            readonly: Open an existing file without its lock, beside the process that writes it.
            upgrades: Format number to the statements that bring a file from it to the next.
            page: Size of a new file's pages, see `page_bytes` [B].

        Raises:
            StorageError: Not writable, in use by another process, damaged, or of another program.
            RunFolderError: Of another task or a newer format.
        """
        self.path, self.kind, self.readonly = Path(path), kind, readonly
        _check_engine()
        _check_header(self.path, kind, application_id, version)
        if readonly and not self.path.exists():
            raise StorageError(f"{kind} {self.path} does not exist")
        self._lock = None if readonly else lock_file(self.path, kind)
        self._connections: list[apsw.Connection] = []
        try:
            with translate_errors(self.path, f"opening {kind}"):
                self.writer = self._connect()
                if not readonly and not self.writer.pragma("user_version"):
                    self.writer.pragma("page_size", page)
                    self._create(application_id, version, schema, about)
            self._check_meta(version, about)
            with translate_errors(self.path, f"opening {kind}"):
                if not readonly:
                    self._upgrade(version, upgrades or {})
                    self.writer.pragma("journal_mode", "wal")
                    self.writer.pragma("synchronous", "full")
                    pages = WAL_BYTES // self.writer.pragma("page_size")
                    self.writer.pragma("wal_autocheckpoint", pages)
                    self.writer.pragma("journal_size_limit", WAL_LIMIT)
                self.reader = self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READONLY
        if not self.readonly:
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        name = str(self.path)
        if self.readonly and not os.access(self.path.parent, os.W_OK) and not _has_log(self.path):
            # SQLite can't make its shared memory on a read-only disk; nobody can write there either
            flags |= apsw.SQLITE_OPEN_URI
            name = f"{self.path.absolute().as_uri()}?immutable=1"
        connection = apsw.Connection(name, flags=flags)
        self._connections.append(connection)
        connection.set_busy_timeout(BUSY_MS)
        return connection

    def _create(self, application_id: int, version: int, schema: str, about: str) -> None:
        with self.writer:
            self.writer.pragma("application_id", application_id)
            self.writer.execute(schema)
            self.writer.execute("CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
            values = {"uuid": str(uuid.uuid4()), "epoch": "0", "task_hash": about}
            self.writer.executemany("INSERT INTO meta VALUES(?, ?)", values.items())
            self.writer.pragma("user_version", version)

    def _upgrade(self, version: int, upgrades: Mapping[int, str]) -> None:
        if self.format == version:
            return
        with self.transaction():
            for step in range(self.format, version):
                self.writer.execute(upgrades[step])
            self.writer.pragma("user_version", version)
        self.format = version

    def _check_meta(self, version: int, about: str) -> None:
        with translate_errors(self.path, f"reading {self.kind}"):
            self.format: int = self.writer.pragma("user_version")
            found = self.format
            rows = self.select("SELECT key, value FROM meta")
            self.meta: dict[str, str] = dict(check_column_types(self.path, rows, str, str))
        if found > version:
            raise _newer(self.path, self.kind, found, version)
        lacking = [key for key in ("uuid", "epoch", "task_hash") if key not in self.meta]
        if lacking or found < 1:
            raise StorageError(f"{self.path} is damaged: format {found}, it lacks {lacking}")
        if about and self.meta["task_hash"] not in ("", about):
            raise RunFolderError(
                f"{self.kind} {self.path} is of task hash {self.meta['task_hash']!r}, this run has "
                f"{about!r}; use this task's own run folder"
            )

    def meta_number(self, key: str) -> int:
        """Return a number of the meta data, 0 where it isn't there.

        Raises:
            StorageError: It is none.
        """
        text = self.meta.get(key, "0")
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise StorageError(f"{self.path} is damaged: its {key} is {text!r:.40}")
        return int(text)

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which statements of `writer` are one durable commit or nothing."""
        return _transaction(self.writer)

    def select(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query, seen from the writer, its open transaction included."""
        return cast("list[tuple[Any, ...]]", self.writer.execute(query, values).fetchall())

    def close(self) -> None:
        """Fold the log into the file, close it and free the lock."""
        for connection in reversed(self._connections):
            with contextlib.suppress(apsw.Error):
                connection.close()
        if self._lock is not None:
            self._lock.close()


def _has_log(path: Path) -> bool:
    return path.with_name(path.name + "-wal").exists()


def copy_database(source: Path, target: Path) -> None:
    """Copy a database whole, beside the process that writes it, into one file without a log.

    Args:
        source: May be written meanwhile; the copy is of one moment.
        target: Written whole or not at all.

    Raises:
        StorageError: Either can't be read or written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    with translate_errors(source, f"copying to {target}"), contextlib.ExitStack() as stack:
        stack.callback(lambda: temporary.unlink(missing_ok=True))
        reader = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        stack.callback(reader.close)
        reader.set_busy_timeout(BUSY_MS)
        reader.execute("BEGIN")  # one moment, however much is written while we copy
        reader.execute("SELECT count(*) FROM meta").fetchall()
        writer = apsw.Connection(str(temporary))
        stack.callback(writer.close)
        with writer.backup("main", reader, "main") as backup:
            while not backup.done:
                backup.step(_COPY_PAGES)
        writer.pragma("journal_mode", "delete")
        writer.close()
        atomic_replace(temporary, target)


def atomic_replace(temporary: Path, target: Path) -> None:
    """Rename a finished file over another one so that either is there after a power cut."""
    for path in (temporary, None, target.parent):
        if path is None:
            os.replace(temporary, target)
            continue
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def quarantine(path: Path, why: str) -> Path:
    """Rename a database and its log to a name that is free; return the new one.

    Args:
        path: The database; nobody may have it open.
        why: Goes into the name, as in `store.db.damaged-1`.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    for suffix in ("-shm", "-wal", "-journal", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


@contextlib.contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # After some errors (disk full, I/O) SQLite has already rolled back by itself.
        if connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                connection.execute("ROLLBACK")
        raise


def _check_engine() -> None:
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < MIN_SQLITE:
        raise StorageError(
            f"the SQLite inside apsw is {apsw.sqlite_lib_version()}; versions before "
            f"{'.'.join(map(str, MIN_SQLITE))} can damage a write-ahead log: install a newer apsw"
        )


def _check_header(path: Path, kind: str, application_id: int, version: int) -> None:
    """Refuse a foreign or newer file by its first 100 bytes, without opening it as a database."""
    try:
        with path.open("rb") as file:
            header = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"can't open {kind} {path}: {error}") from None
    if not header.strip(b"\0") and (not header or path.with_name(path.name + "-journal").exists()):
        return  # empty, or the power was cut while it was created: the journal undoes that
    if len(header) < 100 or not header.startswith(b"SQLite format 3\0"):
        raise StorageError(f"{path} is not a {kind} of Handrail (not a SQLite file)")
    found_version, found_id = struct.unpack(">I4xI", header[60:72])
    if found_id != application_id:
        raise StorageError(
            f"{path} is not a {kind} of Handrail (application id {found_id:#x}, "
            f"should be {application_id:#x})"
        )
    if found_version > version:
        raise _newer(path, kind, found_version, version)


def _newer(path: Path, kind: str, found: int, version: int) -> RunFolderError:
    return RunFolderError(
        f"{kind} {path} has format {found}, this Handrail reads up to {version}; upgrade Handrail"
    )


def lock_file(path: Path, kind: str) -> IO[bytes]:
    """Return the lock of a database; closing it frees it, and so does the end of the process.

    Raises:
        StorageError: Another process has it.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        file = lock.open("ab")
    except OSError as error:
        raise StorageError(f"can't open {kind} {path}: {error}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StorageError(
            f"{kind} {path} is in use by another process; stop that one or use another run folder "
            f"(this is process {os.getpid()})"
        ) from None
    return file
