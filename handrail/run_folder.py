"""The run folder: one place for everything a run leaves, and the names that its processes share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from handrail import renamed_keys
from handrail.config import load_toml
from handrail.errors import RunFolderError

FORMAT = 2  # of run.json, config.toml and the layout; a reader refuses newer ones
OLD_KEYS = 1  # the last format whose config.toml has the keys of `renamed_keys` by their old names
_ID = re.compile("[0-9a-f]{12}")


@dataclass(frozen=True)
class Run:
    """A run folder and its identity."""

    folder: Path
    id: str  # 12 hex digits, names the run's sockets
    task: str  # name of the task
    task_hash: str  # EnvSpec.hash, the same on every process of the run
    origin: float  # [s], time.monotonic() at which the run's clock shows 0
    format: int = FORMAT  # by which the folder was written; it keeps it

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.folder / "config.toml"

    @property
    def spec(self) -> Path:
        """The environment's spec, for a learner that never imports an environment."""
        return self.folder / "spec.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, from every role."""
        return self.folder / "metrics.jsonl"

    @property
    def spool(self) -> Path:
        """The actor's durable log of rows that the learner has not acknowledged."""
        return self.folder / "spool.db"

    @property
    def labels(self) -> Path:
        """Labels that were given while the learner didn't answer; it takes them when it starts."""
        return self.folder / "labels.db"

    @property
    def store(self) -> Path:
        """The learner's durable store of every row."""
        return self.folder / "store.db"

    @property
    def checkpoints(self) -> Path:
        """The learner's checkpoints."""
        return self.folder / "checkpoints"

    @property
    def host_key(self) -> Path:
        """The living host's key: who reads it may ask for more than the policy's authority."""
        return self.folder / "host.key"

    def config_tables(self) -> dict[str, Any]:
        """Return the tables of the resolved config, with the keys of today.

        Raises:
            ConfigError: The file is missing, unreadable or not TOML.
        """
        tables = load_toml(self.config)
        return renamed_keys.tables_to_current(tables) if self.format <= OLD_KEYS else tables

    def log(self, role: str) -> Path:
        """Log file of a process."""
        return self.folder / "logs" / f"{role}.log"

    def endpoint(self, flow: str) -> str:
        """Address of one of the run's flows: "stream", "broadcast" or "request"."""
        return f"ipc://@handrail-{self.id}-{flow}"

    def elapsed(self) -> float:
        """Seconds on the run's clock."""
        return time.monotonic() - self.origin


def create_run(folder: Path, task: str, task_hash: str, config_toml: str) -> Run:
    """Make a run folder and return it.

    Raises:
        RunFolderError: The folder exists and is not empty, or can't be written.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(
            f"run folder {folder} exists and is not empty; give another --out, or go on with it "
            f"by --resume {folder}"
        )
    run = Run(folder, uuid.uuid4().hex[:12], task, task_hash, time.monotonic())
    try:
        for sub in ("logs", "checkpoints"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        write_atomic(run.config, config_toml)
        _write_identity(run)
    except OSError as error:
        raise RunFolderError(f"can't make run folder {folder}: {error}") from None
    return run


def open_run(folder: Path) -> Run:
    """Return an existing run folder.

    Raises:
        RunFolderError: Not a run folder, damaged, or of a newer format than this version reads.
    """
    folder = Path(folder)
    path = folder / "run.json"
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))
        written = int(identity["format"])
        if written > FORMAT:
            raise RunFolderError(
                f"run folder {folder} has format {written}, this version of Handrail reads up to "
                f"{FORMAT}; upgrade Handrail"
            )
        name, task, task_hash = texts = [identity[key] for key in ("id", "task", "task_hash")]
        run = Run(folder, name, task, task_hash, float(identity["origin"]), written)
        if not all(isinstance(text, str) for text in texts):
            raise ValueError(f"id, task and task hash must be texts, got {identity}")
        if not _ID.fullmatch(run.id) or not math.isfinite(run.origin):
            raise ValueError(f"no id of 12 hex digits, or no finite origin: {identity}")
        return run
    except FileNotFoundError:
        raise RunFolderError(f"{folder} is not a run folder: it has no run.json") from None
    except OSError as error:
        raise RunFolderError(f"can't read {path}: {error}") from None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        if isinstance(error, RunFolderError):
            raise
        raise RunFolderError(f"{path} is damaged: {error!r}") from None


def resume_clock(run: Run) -> Run:
    """Return the run with its clock going on from the last metric that it wrote.

    The monotonic clock means nothing after a reboot, so a resumed run gets a new origin.
    """
    last = 0.0
    with contextlib.suppress(FileNotFoundError):
        for row in read_metrics(run.metrics):
            last = max(last, float(row.get("time") or 0.0))
    run = replace(run, origin=time.monotonic() - last)
    _write_identity(run)
    return run


def rewrite_config(run: Run, config_toml: str) -> Run:
    """Write a run's config anew, in today's format, and return the run.

    Today's keys are read in a folder of an earlier format, too: a crash in between harms nothing.
    """
    write_atomic(run.config, config_toml)
    run = replace(run, format=FORMAT)
    _write_identity(run)
    return run


@contextlib.contextmanager
def lock_run(run: Run) -> Iterator[None]:
    """Hold the run folder for one supervisor.

    Raises:
        RunFolderError: Another live process holds it; the lock dies with its holder.
    """
    with open(run.folder / "run.lock", "a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise RunFolderError(f"run folder {run.folder} is in use by {holder}") from None
        lock.seek(0)
        lock.truncate()
        lock.write(f"process {os.getpid()}")
        lock.flush()
        yield


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete rows of a metrics file; a half-written last line is passed over.

    Raises:
        FileNotFoundError: There is no such file.
    """
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                row = json.loads(line)
                if isinstance(row, dict):
                    yield row


def write_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all: temporary file, fsync, rename."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_identity(run: Run) -> None:
    identity = {
        "format": run.format,
        "id": run.id,
        "task": run.task,
        "task_hash": run.task_hash,
        "origin": run.origin,
    }
    write_atomic(run.folder / "run.json", json.dumps(identity, indent=2) + "\n")
