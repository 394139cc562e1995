"""Flight recordings: the last seconds of control ticks, written when something went wrong."""

from __future__ import annotations

import json
import os
import re
import time
import zipfile
from collections import deque
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from handrail.errors import ProtocolMismatch, StorageError

FORMAT = 1  # of the files; a reader refuses newer ones
_NAME = re.compile(r"^\d{6}-[a-z0-9_-]+\.npz$")


class Recorder:
    """Writes what the robot remembers of its last ticks, and keeps the newest files."""

    def __init__(self, folder: Path | None, keep: int) -> None:
        """Write nothing yet.

        Args:
            folder: Where recordings go; made when the first one is written. None refuses them.
            keep: Newest files that stay.
        """
        self.folder, self._keep = folder, keep
        self._marks: deque[dict[str, Any]] = deque(maxlen=100)
        self._times: deque[float] = deque(maxlen=16_384)
        self._count = 0  # ticks since `restart`

    def restart(self) -> None:
        """Forget marks and times: an episode begins."""
        self._marks.clear()
        self._times.clear()
        self._count = 0

    def count(self, ticks: int) -> None:
        """Take note that these ticks have just run."""
        self._times.extend(repeat(time.monotonic(), ticks))
        self._count += ticks

    def mark(self, what: str) -> None:
        """Remember an event, with its tick and its time on the monotonic clock."""
        self._marks.append({"what": what, "tick": self._count, "time": time.monotonic()})

    def take(self, trace: np.ndarray, columns: dict[str, slice], why: str) -> Callable[[], Path]:
        """Return a call that writes a recording, from any thread, and returns its path.

        Args:
            trace: Newest ticks, oldest first, (n, W); the caller's copy.
            columns: Where each quantity is in a row.
            why: What went wrong, part of the file's name.

        Raises:
            ProtocolMismatch: This recorder has no folder.
        """
        if self.folder is None:
            raise ProtocolMismatch("this host has no folder for recordings")
        folder, rows = self.folder, len(trace)
        wall = np.full(rows, np.nan)
        known = list(self._times)[-rows:] if rows else []
        wall[rows - len(known) :] = known
        first = self._count - rows
        about = {
            "format": FORMAT,
            "why": why,
            "columns": {name: [part.start, part.stop] for name, part in columns.items()},
            "marks": [mark | {"row": mark["tick"] - first} for mark in self._marks],
        }
        return lambda: _write(folder, self._keep, why, trace=trace, wall=wall, about=about)


class Recording:
    """A recording read back: `recording["tank"]` is a quantity over its rows.

    `wall` is when each row's tick ran on the monotonic clock [s], NaN where nobody looked; `marks`
    are events, each with the first `row` after it.
    """

    def __init__(self, path: Path) -> None:
        """Read a file.

        Raises:
            StorageError: Not a recording, damaged, or of a newer format.
        """
        try:
            with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                self.trace: np.ndarray = file["trace"]
                self.wall: np.ndarray = file["wall"]
                about = json.loads(str(file["about"]))
            if int(about["format"]) > FORMAT:
                raise StorageError(f"{path} has format {about['format']}, this reads {FORMAT}")
            self.columns = {name: slice(*ends) for name, ends in about["columns"].items()}
            self.why: str = about["why"]
            self.marks: list[dict[str, Any]] = about["marks"]
        except StorageError:
            raise
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise StorageError(f"{path} is not a whole flight recording: {error}") from None

    def __getitem__(self, quantity: str) -> np.ndarray:
        """Return a quantity by its name, (n,) or (n, size)."""
        found = self.trace[:, self.columns[quantity]]
        return found[:, 0] if found.shape[1] == 1 else found


def _write(
    folder: Path, keep: int, why: str, trace: np.ndarray, wall: np.ndarray, about: dict[str, Any]
) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(p.name for p in folder.iterdir() if _NAME.match(p.name))
        number = int(names[-1].split("-")[0]) + 1 if names else 0
        slug = re.sub(r"[^a-z0-9]+", "-", why.lower()).strip("-") or "asked"
        path = folder / f"{number:06d}-{slug}.npz"
        temporary = folder / f".{path.name}.{os.getpid()}.tmp"
        try:
            with open(temporary, "wb") as out:
                np.savez(out, trace=trace, wall=wall, about=np.array(json.dumps(about)))
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        for name in names[: max(0, len(names) + 1 - keep)]:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"can't write a recording to {folder}: {error}") from None
    return path
