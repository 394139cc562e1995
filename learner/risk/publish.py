"""The learner's part in publishing the risk critic: whatever lies in the run folder goes out.

`handrail risk train` writes the file, in any process and at any time; the learner sends it on over
the broadcast, where the newest value of a topic also reaches those who join later.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from handrail.errors import CheckpointError
from handrail.risk_critic.file import read_critic

log = logging.getLogger("learner")

TOPIC = "risk"  # of the broadcast; the array is called "critic"


class CriticWatch:
    """A file that may hold a new critic."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None

    def poll(self) -> np.ndarray | None:
        """Return the packed critic if the file has changed and is whole, else None."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            return read_critic(self._path)[0]
        except CheckpointError as error:
            log.warning("a risk critic is not published: %s", error)
            return None
