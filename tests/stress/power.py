"""A disk that loses power: a VFS that records every write, sync and rename of SQLite's files.

`PowerLog` passes everything on to the real files and keeps the order. `after_cut` then makes the
files as a disk may show them after a power cut at some point: what was synced is there, and of what
was written since, each sector of 512 B is there or not, as chance has it, file by file.
"""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any, NamedTuple

import apsw

SECTOR = 512  # [B], is written whole or not at all


class Operation(NamedTuple):
    """One thing that was done to a file, or a mark of the test's own."""

    kind: str  # write, truncate, sync, delete, mark
    name: str  # of the file; "" for a mark
    offset: int = 0  # of a write; new size of a truncation; 1: the folder was synced after a delete
    data: bytes = b""
    mark: Any = None


class PowerLog(apsw.VFS):
    """The default VFS from now on, until `close`."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self._guard = threading.Lock()
        super().__init__("power-log", "", makedefault=True)

    def add(self, *values: Any, mark: Any = None) -> None:
        with self._guard:
            self.operations.append(Operation(*values, mark=mark))

    def mark(self, what: Any) -> None:
        """Note that this had been promised by now."""
        self.add("mark", "", mark=what)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        super().xDelete(filename, syncdir)
        self.add("delete", Path(filename).name, int(syncdir))

    def close(self) -> None:
        self.unregister()


class _File(apsw.VFSFile):
    def __init__(self, log: PowerLog, name: Any, flags: list[int]) -> None:
        self._log = log
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(path).name if path else ""
        super().__init__("unix", name, flags)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self._log.add("write", self._name, offset, bytes(data))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self._log.add("truncate", self._name, newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        # Noted before it happens: other threads' writes meanwhile may or may not be in it.
        at = len(self._log.operations)
        super().xSync(flags)
        self._log.add("sync", self._name, at)


def after_cut(operations: list[Operation], rng: random.Random, folder: Path) -> list[Any]:
    """Make the files of a disk whose power was cut after these operations.

    Args:
        operations: All up to the cut.
        rng: Decides what of the writes that were not synced is there.
        folder: Empty; gets the files.

    Returns:
        The marks before the cut.
    """
    synced: dict[str, int] = {}
    folder_synced = 0
    for operation in operations:
        if operation.kind == "sync":
            # SQLite's unix VFS syncs the folder with the first sync of a log that it created.
            if operation.name not in synced and not operation.name.endswith(".db"):
                folder_synced = operation.offset
            synced[operation.name] = max(synced.get(operation.name, 0), operation.offset)
        elif operation.kind == "delete":
            synced.pop(operation.name, None)
    files: dict[str, bytearray] = {}
    share = rng.choice([0.0, 0.2, 0.5, 0.8, 1.0])  # of unsynced sectors that reached the disk
    for index, (kind, name, offset, data, _) in enumerate(operations):
        if kind in ("sync", "mark") or not name:
            continue
        safe = index < synced.get(name, 0)
        file = files.setdefault(name, bytearray())
        if kind == "delete":
            if offset or index < folder_synced or rng.random() < share:
                files.pop(name, None)
        elif kind == "truncate":
            if safe or rng.random() < share:
                del file[offset:]
                file.extend(bytes(max(0, offset - len(file))))
        else:
            _write(file, offset, data, 1.0 if safe else share, rng)
    for name, data in files.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(data)
    return [operation.mark for operation in operations if operation.kind == "mark"]


def _write(file: bytearray, offset: int, data: bytes, share: float, rng: random.Random) -> None:
    end = offset + len(data)
    position = offset
    while position < end:
        stop = min(end, (position // SECTOR + 1) * SECTOR)
        if share >= 1.0 or rng.random() < share:
            if len(file) < stop:
                file.extend(bytes(stop - len(file)))
            file[position:stop] = data[position - offset : stop - offset]
        position = stop
