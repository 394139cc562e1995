"""Disk space that is set aside while there is some, and given back when there is none."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class Reserve:
    """A file that only takes up room: deleting from a database takes space at first."""

    def __init__(self, path: Path, size: int) -> None:
        """Set it up; on a disk that has no room for it there is none.

        Args:
            path: Of the reserve's own file.
            size: How much is set aside [B].
        """
        self._path = path
        with contextlib.suppress(OSError), path.open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError:
                self.give_back()

    def give_back(self) -> None:
        """Free the space, for good."""
        self._path.unlink(missing_ok=True)
