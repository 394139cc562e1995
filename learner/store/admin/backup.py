"""Copy a store beside its running learner, and put such a copy back."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from handrail.errors import RunFolderError, StorageError
from handrail.spec import EnvSpec
from handrail.storage.database import copy_database, lock_file, quarantine, translate_errors
from handrail.storage.spool_file import read_last_store
from learner.store.admin.verify import verify
from learner.store.file import open_file
from learner.store.store import Store


def backup(path: Path, spec: EnvSpec, target: Path, force: bool = False) -> int:
    """Write a copy of a store as it is at one moment; return the number of its rows.

    Args:
        path: Of the store; its learner may go on.
        spec: What its rows fit.
        target: File to write.
        force: Write over an existing file.

    Raises:
        StorageError: The store can't be read or the copy not written; or the file exists.
        RunFolderError: A store of another task.
    """
    if target.exists() and not force:
        raise StorageError(f"{target} exists; give another name, or --force to write over it")
    with Store(path, spec, readonly=True):  # it is a store, and this task's
        pass
    copy_database(path, target)
    with Store(target, spec, readonly=True) as copy:
        return len(copy)


class RestoreResult(NamedTuple):
    """What `restore` did."""

    rows: int
    epoch: int
    kept: Path | None  # the store that was there


def restore(
    path: Path, spec: EnvSpec, source: Path, force: bool = False, spool: Path | None = None
) -> RestoreResult:
    """Put a copy in a store's place, with a new epoch, by which actors see that it is older.

    Args:
        path: Of the store; no learner may use it.
        spec: What its rows fit.
        source: The copy; it is left as it is.
        force: Do so although there is a store with rows; that one is kept under another name.
        spool: An actor's spool, if there is one here: the new epoch is larger than it has seen.

    Raises:
        StorageError: In use, there is a store already, or the copy is not whole.
        RunFolderError: The copy is of another task.
    """
    if not source.exists():
        raise StorageError(f"backup {source} does not exist")
    faults = [fault for fault in verify(source, spec).faults if "lost for good" not in fault]
    if faults:
        raise StorageError(f"backup {source} is not whole: {faults[0]} ({len(faults)} faults)")
    with lock_file(path, "store"):
        epochs, rows = [0], 0
        if path.exists():
            try:
                with Store(path, spec, readonly=True) as old:
                    rows = len(old)
                    epochs.append(old.epoch)
            except (StorageError, RunFolderError):
                rows = 1  # damaged, or another task's: not ours to write over without a word
        if rows and not force:
            raise StorageError(
                f"store {path} exists and has {rows} rows; --force puts the backup in its place "
                "and keeps it under another name"
            )
        if spool is not None and spool.exists():
            epochs.append(read_last_store(spool)[1])
        temporary = path.with_name(f".{path.name}.restore")
        copy_database(source, temporary)
        copy = open_file(temporary, spec, readonly=False)
        try:
            epoch = max(*epochs, int(copy.meta["epoch"])) + 1
            with translate_errors(temporary, "writing store"), copy.transaction():
                copy.writer.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (str(epoch),))
        finally:
            copy.close()
        kept = quarantine(path, "before-restore") if path.exists() else None
        copy_database(temporary, path)
        for suffix in ("", ".lock", "-wal", "-shm"):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
    with Store(path, spec, readonly=True) as new:
        return RestoreResult(len(new), epoch, kept)
